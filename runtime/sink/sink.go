// Package sink is the contract of sinks: plain ones, which write as records
// come, and transactional ones, whose output nobody sees until the checkpoint
// that covers it has completed.
package sink

import (
	"context"
	"log/slog"

	"github.com/millrace/millrace/runtime/batch"
)

// Env is what a sink may use of its surroundings.
type Env struct {
	JobName      string
	Operator     string
	UID          string
	Subtask      int
	Parallelism  int
	Epoch        uint64
	Lineage      string
	ShardAddress string
	Log          *slog.Logger
	// Held tells the runtime that a transaction holds output, so that the
	// next checkpoint may start early.
	Held func()
	// Fail fails the task from any goroutine.
	Fail func(error)
}

// Sink opens a writer for each subtask.
type Sink[T any] interface {
	// Open may block; ctx ends with the attempt.
	Open(ctx context.Context, env Env) (Writer[T], error)
}

// Writer takes the records of one subtask. All calls come from the task's
// goroutine.
type Writer[T any] interface {
	// Write takes a batch, borrowed for the call. It may block to hold back
	// the job (backpressure); closing the context of Open ends the wait.
	Write(b *batch.Batch[T]) error
	// Flush is called at every barrier, watermark +inf and when the input
	// is idle: what was written leaves the process.
	Flush() error
	// Close gives up what was not committed.
	Close() error
}

// Transactional is a Sink of two phases. The runtime calls Recover once an
// attempt before any Write, and Commit once for every completed checkpoint, in
// order, in one place for all subtasks. Both are idempotent: after a failure
// they are called again with the same handles. A handle survives restores,
// under another job id too: it carries the lineage.
type Transactional interface {
	// Recover fences every older epoch, commits the handles of the restored
	// checkpoint (none on an empty start), and aborts the lineage's rest.
	Recover(ctx context.Context, env Env, checkpoint uint64, handles []Handle) error
	// Commit makes the output of a checkpoint visible.
	Commit(ctx context.Context, env Env, checkpoint uint64, handles []Handle) error
}

// Preparer is the Writer of a Transactional sink.
type Preparer interface {
	// Prepare ends the transaction of this checkpoint: later writes belong
	// to the next. It returns at once; finish waits, beside the task, until
	// all of it is durable, and returns the handle, nil when there is none.
	// After an error it may be called again. Checkpoints may fail: the handle
	// of one that did is part of the next ones, so a handle says by itself
	// what it commits.
	Prepare(checkpoint uint64) (finish func(context.Context) ([]byte, error), err error)
}

// Handle is what one subtask prepared for one checkpoint.
type Handle struct {
	Subtask int
	Value   []byte
}
