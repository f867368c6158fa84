// Package dispatch runs the jobs of a cluster: it keeps binaries, turns a
// submission into a journalled job, gives each job a driver, and connects
// drivers with slots, task managers, journal and bucket. It also keeps the
// stream catalog, which task managers change through it.
//
// Goroutines. Each job that has not ended has one driver goroutine, the only
// one that calls its job.Master, and one that appends its journal records in
// order. I/O of actions runs beside them and comes back as events, so a driver
// never blocks and its queue of events drains. One goroutine keeps the catalog,
// one deletes objects that nothing needs. All are started by Run, or by a
// submission while Run runs, and Run waits for them. Exported methods are safe
// for any goroutine.
//
// Failure. What is not in the journal did not happen: a submission is answered
// after its record is written. A failure of one job's master, worker or state
// ends or restarts that job alone. When leadership is lost Run returns
// journal.ErrLeadershipLost, and no driver carries out another action.
//
// It never runs a user's binary, and holds no state that the journal lacks but
// what is measured: rates, details of exceptions, the history of checkpoints.
package dispatch
