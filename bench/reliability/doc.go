// Reliability measures what checkpoints, failures and rescaling cost a job with
// much state: real processes, the files that make build makes, and the job
// accounts beside this program.
//
//	checkpoints   throughput with a checkpoint a second and with none, in turns,
//	              and what a checkpoint takes, writes and leaves in the bucket
//	backpressure  how long checkpoints take behind a sink that takes a tenth of
//	              what the job could give it, with and without windows
//	recovery      SIGKILL of worker, task manager and job manager, in turns, to the
//	              failure noticed, the next attempt, the new worker, all tasks
//	              running, the first result at the sink, at each size of state
//	rescale       the time in which no task runs while the parallelism changes
//
// Each scenario has a cluster of its own, with a folder in TMPDIR: a `millrace up`,
// for recovery a job manager and a task manager, which are started again as soon as
// they are killed. Recovery is read from their logs.
package main
