// Package control is the job manager's end of the control link: one
// bidirectional stream a task manager, over HTTP/2 in clear text or TLS.
//
// A task manager registers first (protocol range, cluster, id, incarnation).
// From then on both sides send heartbeats every Config.Heartbeat; a task
// manager that is silent for Config.Timeout, whose stream breaks, or whose
// queue of outgoing messages is full is lost, at once and for good: it may
// register again as if it were new. A second registration of an id ends the
// first, whose Detached is delivered before the second's Attached.
//
// Events are delivered on the goroutine that serves the stream, one at a time
// and in order for each task manager: Attached, any Messages, Detached. A
// handler that blocks holds up that task manager alone. Send never blocks;
// Ask waits for a reply. Both are safe for any goroutine, also from within
// events.
//
// Messages between the job master and its workers are passed on unread. The
// package keeps nothing of a task manager that is lost, and decides nothing
// about jobs.
package control
