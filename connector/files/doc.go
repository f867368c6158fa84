// Package files is an exactly-once sink of files: in a folder, or in a bucket of
// an S3 store.
//
//	results.To(files.Sink("s3://reports/delays", files.JSON[Delays]()).
//		PartitionBy(func(d Delays) string { return "day=" + d.Day }).
//		Gzip())
//
// A file is a part: what one subtask wrote of one partition up to a checkpoint,
// or up to RollAt bytes. Parts appear whole, under their names, once the
// checkpoint that covers them has completed, and never change afterwards:
//
//	day=2001-01-01/part-5d41402abc4b2a76-3-00000017-0-1-9fe21c.jsonl.gz
//	                    │                │ │        │ │ └ chance, so that no name comes twice
//	                    │                │ │        │ └ number in the transaction
//	                    │                │ │        └ subtask
//	                    │                │ └ checkpoint
//	                    │                └ epoch: attempt of the job
//	                    └ lineage and sink
//
// Readers take every name that does not begin with a dot. Until then parts lie
// under .staged; a recovery removes from there what no checkpoint holds, of its
// own lineage and sink and of lower epochs only. Who consumes files may remove
// or move them: a commit that is repeated does not bring them back.
//
// As each checkpoint makes a file for each subtask and partition, a job that
// writes files checkpoints every minute or so (Env.CheckpointEvery); this sink
// does not ask for earlier ones.
//
// A folder must be the same one on every machine that runs the job: parts are
// staged where the subtask runs and committed where subtask 0 does. It must be on
// one file system, with hard links; each part, and the folder it is in, is
// fsynced before the checkpoint counts on it. Prepared parts do not expire:
// there is no time in which a job must recover. A bucket that is away holds up
// checkpoints for up to two minutes before a task fails; a part of more than 4 MiB
// fails with the first error that the bucket's own client does not mend.
//
// What is staged by a job that is cancelled for good stays under .staged until a
// job goes on with its lineage, or somebody removes it: docs/sinks.md says what
// may go (the ledger may not). A commit that is under way in a process that
// is stopped for long can not be undone; what is not yet recorded is refused when
// it goes on, once another attempt has recovered.
//
// The methods of Parts are called by the runtime. Each writer starts goroutines
// for its uploads and waits for them in Close: up to 2 s for the store's answer,
// since a request that is cancelled may yet be carried out. The hot path encodes
// into a buffer of the partition.
package files
