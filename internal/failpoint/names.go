package failpoint

import "slices"

// All lists the points: the only names there are, in the order in which the
// steps follow each other.
func All() []string { return slices.Clone(names) }

var names = []string{
	// A checkpoint: job manager, then the worker, then the job manager.
	"checkpoint.before-trigger",  // job manager: the barrier is about to be ordered
	"checkpoint.after-trigger",   // worker: the order came
	"checkpoint.before-snapshot", // task: the barrier is aligned
	"checkpoint.after-snapshot",  // task: its part is encoded
	"checkpoint.before-upload",   // worker: all parts are there
	"checkpoint.after-upload",    // worker: its object is written
	"checkpoint.before-ack",      // worker
	"checkpoint.after-ack",       // worker: the ack is queued
	"checkpoint.before-manifest", // job manager: all acks are there
	"checkpoint.after-manifest",
	"checkpoint.before-journal",
	"checkpoint.after-journal", // the checkpoint exists, nobody was told
	"checkpoint.completed",     // worker: it was told

	// A commit.
	"commit.before-stage", // sink's writer: output is about to leave the process
	"commit.before-prepare",
	"commit.after-prepare", // the handle is made
	"commit.before",        // worker: the sink is about to commit
	"commit.at-shard",      // task manager: the shard's commit is about to be written
	"commit.after-shard",   // task manager: it is durable, nobody was told
	"commit.after",         // worker: the sink has committed, nobody was told
	"commit.acknowledged",  // job manager: it was told

	// A restore.
	"restore.before-attempt", // job manager: the epoch is about to be journalled
	"restore.after-attempt",
	"restore.before-deploy", // worker: the order came
	"restore.before-read",   // worker: runs are about to be read
	"restore.before-load",   // task: runs are read, the table is about to be filled
	"restore.after-load",
	"restore.before-recover-sink",
	"restore.after-recover-sink",
	"restore.before-start", // worker: tasks are about to run
	"restore.after-start",

	// A rescale, beside the steps that it shares with a checkpoint and a restore.
	"rescale.before-halt",    // job manager: the halting checkpoint is about to be ordered
	"rescale.halted",         // task: it stands still, its state kept
	"rescale.before-journal", // job manager: the attempt at the new parallelism
	"rescale.after-journal",
	"rescale.before-adopt", // worker: tables are about to be taken over
	"rescale.after-adopt",
}
