// Package supervise runs job binaries as processes: workers, which it starts,
// watches, limits, relays for and buries, and plans, which it asks for a graph
// (docs/protocols.md §2).
//
// Every process leads a group of its own and dies with this one. When it ends,
// for whatever reason, its whole group is killed, and whatever it started and
// left behind is killed and reaped too. Its end is reported within
// milliseconds, with exit code or signal and the tail of its stderr.
//
// New reads what is on disk; Run must be running before a process is started,
// and returns after the last one is dead. All other methods may be called from
// any goroutine and do not wait for a process, except Plan. Reports are passed
// to Config.Up on one goroutine a worker, in the worker's order: started,
// reports, exited. Commands to a worker are queued; one that lets 1024 of them
// wait is killed as unresponsive, one that answers no ping for Config.Hang as
// hung, one over its memory as that. A SIGKILL of somebody else is explained as
// far as the kernel's counters tell.
//
// A worker is told of its job's folder (jobs/<job> in Config.Data), which
// outlives it and this process, and is removed when the job has had no worker
// here for Config.KeepFolders.
//
// The package never looks into a command or report, never restarts anything,
// and never runs a binary whose bytes do not have the digest it was asked for.
package supervise
