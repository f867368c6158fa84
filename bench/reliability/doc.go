// Reliability measures what checkpoints, failures and rescaling cost a job with
// much state: real processes, the files that make build makes, and the job
// accounts beside this program.
//
//	checkpoints   throughput with a checkpoint a second and with none, in turns,
//	              and what a checkpoint takes, writes and leaves in the bucket
//	backpressure  how long checkpoints take behind a sink that takes a tenth of
//	              what the job could give it, with and without windows
//	recovery      SIGKILL of the worker to the failure noticed, all tasks running,
//	              the first result at the sink operator, at each size of state
//	rescale       the time in which no task runs while the parallelism changes
//
// Each scenario has a `millrace up` of its own, with a folder in TMPDIR.
package main
