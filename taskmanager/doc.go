// Package taskmanager is the process that offers slots: it starts the workers
// of jobs, hosts stream shards, and obeys the leading job manager.
//
// New takes the data folder, which no second process may use, opens the shard
// log and binds its sockets; Run does everything else until its context ends.
// All other methods may be called from any goroutine, also before Run.
//
// Run finds the leading job manager, attaches to it, and does so again for
// ever when the link breaks or falls silent. Workers and shards go on
// meanwhile: whether a job must be deployed anew is the job manager's
// decision, never taken here. What workers report while no job manager is
// attached is dropped, for each side then takes the other for lost.
//
// What workers and job master say to each other is carried unread and in
// order. No queue is unbounded: a link whose queue is full is ended, and a
// worker that does not take its commands is killed.
//
// On a polite end workers are stopped and shards closed. After a kill nothing
// is lost that was acknowledged: workers die with their parent, and the next
// run removes what they left.
package taskmanager
