// Package nexmark measures the queries of examples/nexmark as a user would run
// them: a job manager and task managers, processes of their own on loopback,
// with folders that are removed in the end, and the executable itself as the
// job's binary.
//
// What is measured begins when all tasks run, as REST tells, and ends with the
// job, its last checkpoint and commit included.
//
//   - CPU time is that of all processes of the cluster, of those too that have
//     ended meanwhile: job manager, task managers, workers and what they started.
//   - Memory is the greatest sum of resident sets, looked at five times a second.
//   - Latency needs a throttled source, of which each event has a moment of the
//     machine's clock when it is due, a function of its event time. The latency
//     of a result is how much later than the moment that is due at the result's
//     event time it leaves the job, at the sink. A result that follows an event
//     has that event's time, one of a window the window's last millisecond. So a
//     source that falls behind makes results late, and does not hide it by
//     asking later. Results of the first seconds (Config.WarmUp) do not count,
//     nor those that the end of the input brings before they are due.
//   - Checkpoints are counted by the job manager: from the trigger until all is
//     acknowledged and recorded, and the bytes that were written for it.
//   - The collector's share is of the workers' CPU time, as the Go runtime
//     estimates it at each collection.
//
// A run shorter than ValidAfter is no result for speed: starting and ending,
// and what only a long run meets, weigh too much.
package nexmark
