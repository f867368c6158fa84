// Package task runs one subtask of one vertex: a chain of operators, on one
// goroutine, which everything else talks to by mail.
//
// Run is that goroutine. It opens the operators and restores their state, says
// so (Config.Ready), waits for Start, and then goes round this loop until ctx
// ends or something fails:
//
//	mail       commands, what operators posted, the request for counters
//	work       operators with work of their own: a source, windows that fire
//	input      the next item of a gate: records, watermark, barrier, idleness
//	park       nothing to do: flush what waits, then sleep until notified
//
// While an operator that is not a source has work, the task takes no input but
// barriers. Watermarks go through the chain from parent to child as each
// operator answers what its output has reached, and to the writers behind it.
//
// A checkpoint's pause is the part that must see the state as of the barrier:
// each operator flushes, its store is frozen, its own state noted, and the
// barrier goes on. Encoding, and what operators deferred, happens on a second
// goroutine that Run starts and waits for; checkpoints come out of it in order.
//
// Pulse tells a watcher whether the loop turns. What may keep the task for any
// time parks it: room at a writer, room that an operator waits for
// (operator.Context.Park), the second goroutine. Anything else is expected to
// return to the loop within the job's hang timeout.
//
// With a barrier that says halt the task stops there for good: once it has taken
// its part in the checkpoint it reads no gate, fires nothing, emits nothing and
// throws away what operators post. Only mail turns. So its keyed state stays that
// of the checkpoint, and Kept gives it to the tasks of the next attempt, which
// begin with Restored.Kept where others read runs.
//
// All code of the job runs behind one door: a panic or an error there ends the
// task with a *Failure that names operator and subtask and holds the stack.
// A task never ends by itself otherwise; at the end of input it goes on taking
// part in checkpoints until its context ends, which unblocks whatever it waits
// for.
package task
