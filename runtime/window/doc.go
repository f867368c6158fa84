// Package window holds the window operators: time windows cut to slices
// (tumbling, sliding and cumulating), sessions, and windows with triggers, of
// whatever shape.
//
// # Slices
//
// Time is cut at window starts and ends, so a slice lies wholly inside or
// outside of every window. A record updates one slice of its key, whatever
// size ÷ slide is; a window is the merge of its slices. How the merge of
// overlapping windows is kept is the aggregate's choice (see Aggregate):
//
//   - it can subtract: one running value per key, to which a slice is added
//     when a window first covers it and from which it is taken when it leaves;
//   - it can only merge: two stacks per key, so that each slice of a key is
//     merged a constant number of times whatever the number of windows.
//
// Both are derived from the slices: only slices are state, and a restore builds
// the rest again.
//
// # Folding
//
// A Folder, chained to the sender, folds records of a key and slice, or of a key
// and a piece of a session, into rows before they are exchanged (Partial), where
// the aggregate merges and nobody wants late records back. It has no state: see
// there.
//
// # The greatest
//
// A Ranking turns the operator into one that emits, for each window, only the keys
// that come first by a score. It is a heap that follows the combiner: a window
// costs the keys that entered or left. NewFinal finds the greatest among those of
// all subtasks.
//
// # Firing
//
// A watermark t says that no record at or before t will come; the window
// [start, end) fires once the watermark reaches end-1. Ends are kept per
// operator, not as timers of keys. Firing goes through the keys in hash order,
// that is key group by key group, in steps of bounded work, so a barrier may
// fall into the middle: how far it has come is operator state (Progress). The
// watermark goes on only after all that it fires has been emitted.
//
// Results carry the event time end-1. A record whose windows are all past the
// allowed lateness goes to the late output where there is one, and is counted.
// One that comes within the allowed lateness of a fired window makes that
// window's result for its key be emitted again, updated.
//
// In processing time the clock takes the watermark's place; records take the
// time at which the operator sees them, and there are no late ones.
//
// Windows with a trigger fire when it says so and at their ends; each is state of
// its own (Triggered). Windows that keep their records for an evictor are among
// them.
//
// All methods are for the goroutine of the task.
package window
