// Package operator is the contract between a task and the operators of its
// chain, and the operators that need no more than it: map, filter, flat map,
// process and keyed process with timers (of one input or two), running reduction, timestamps, source and
// sink. What a constructor returns is one subtask's; the functions it was given
// are shared by all subtasks of the process.
//
// An operator instance belongs to one subtask. The task calls it from one
// goroutine, in this order:
//
//	Open                   declare keyed state, timers, side outputs
//	(keyed state is loaded from the restored checkpoint)
//	Restore                operator state of the checkpoint, if any (Restorer)
//	Push, Watermark, Work, Snapshot, ...   in any order, one at a time
//	Close                  always, also after an error
//
// Within a chain operators call each other directly: an operator hands the
// batch it made to its Output, which calls the next operator's Push before it
// returns. So nothing is buffered between the operators of a chain, and a
// barrier or a watermark between two batches is in the right place everywhere.
//
// Errors and panics leave through the task, which names job, operator and
// subtask (Context.Enter tells it whose code runs).
package operator
