// System measures Millrace as its users meet it: real processes, the files that
// make build makes, real records, public interfaces (CLI, REST, Kinesis API).
//
// A round starts `millrace up` on an empty folder, waits until it has been idle
// for a while, submits the example job flights twice, kills the worker of the
// second one with SIGKILL while flights come in steadily, and stops everything.
// Rounds follow one another; the program prints median and worst of each figure.
//
//	ready            exec of `millrace up` to its "ready" line
//	idle             VmRSS of that process 10 s later, no job having run
//	upload + run     POST /jars/upload to the first record that a reader of the
//	                 result stream gets from the Kinesis API
//	run              the same from POST /jars/{id}/run of a binary that is there
//	noticed ...      SIGKILL of the worker to what /jobs/{id}/recovery reports:
//	                 the failure, all tasks running again, first record at the
//	                 sink operator, first commit after that
//	reader           SIGKILL to the first result that a reader gets and that
//	                 cannot have been computed before: its day ended by flights
//	                 sent after the kill
//
// A last round puts many flights into a stream, the input over and over at later
// dates, and has the job count them: time and CPU time from run to the end of
// `stop --drain`, of the worker and of `millrace up`, which serves the shards.
//
// Readers poll every shard each few milliseconds, so what they see is late by
// up to that, and costs the machine something. Data goes to a folder in TMPDIR;
// the first line of the table shows what an fsync costs there.
package main
