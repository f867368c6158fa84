// Package worker runs the tasks of one job in one process: commands of the job
// master come in through Handle, reports go out through Config.Send
// (docs/protocols.md §4). It knows no socket of the control link; a worker
// process (runtime/launch) and a job run by hand (local) drive it alike.
//
// Run owns all of it and returns after everything it started has ended.
// Handle may be called from any goroutine, in the order of the commands; it
// blocks only while commandQueue commands wait. Send is called from one
// goroutine at a time and may block, which holds back reports and nothing else.
//
// A worker obeys the commands of one epoch. Deploy and Cancel raise it; what
// carries a lower one is ignored, and nothing of an older attempt is running
// when a newer one opens its first operator. Whatever fails in an attempt is
// reported once, with a code, and leaves the worker ready for the next Deploy.
// The worker never ends an attempt by itself, never writes an object under an
// epoch that is not its own, and deletes none but merged runs of its own that no
// checkpoint has named or will name.
package worker
