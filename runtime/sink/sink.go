package sink

import (
	"context"
	"log/slog"
	"time"

	"github.com/millrace/millrace/runtime/batch"
)

// Env is what a sink may use of its surroundings.
type Env struct {
	JobName  string
	Operator string
	// UID names the sink in its job; it is the same after every restore.
	UID         string
	Subtask     int
	Parallelism int
	// Epoch numbers the attempts of a lineage. It rises with every one and is
	// never given out twice.
	Epoch uint64
	// Lineage names the chain of restores that this job goes on with: the same
	// after a restart, a rescale and a restore under another job id.
	Lineage      string
	ShardAddress string
	Log          *slog.Logger
	// Held tells the runtime that a transaction holds output, so that the
	// next checkpoint may start early.
	Held func()
	// Fail fails the task from any goroutine.
	Fail func(error)
	// Park is how a Writer waits for room, in its own calls: until room can be
	// received from (or is closed), or the attempt ends, which is an error. Time
	// in it is shown as back-pressure. Nil outside of a task.
	Park func(room <-chan struct{}) error
}

// Sink opens a writer for each subtask.
type Sink[T any] interface {
	// Open may block; ctx ends with the attempt. Of a Transactional sink it
	// runs beside Recover, in any order and on any worker: it must not touch
	// what Recover settles.
	Open(ctx context.Context, env Env) (Writer[T], error)
}

// Writer takes the records of one subtask. All calls come from the task's
// goroutine.
type Writer[T any] interface {
	// Write takes a batch, borrowed for the call. It may block to hold back
	// the job (backpressure); closing the context of Open ends the wait. A wait
	// that may be long is one in Env.Park: a call that blocks elsewhere for the
	// job's hang timeout, a minute, fails the task.
	Write(b *batch.Batch[T]) error
	// Flush is called at every barrier, watermark +inf and when the input
	// is idle: what was written leaves the process.
	Flush() error
	// Close gives up what was not prepared. What was prepared stays: a
	// checkpoint may hold it.
	Close() error
}

// Transactional is a Sink of two phases. The runtime calls Recover once an
// attempt, before any Write, and Commit once for every completed checkpoint, in
// order, in one place for all subtasks. A call that fails is made again, in this
// attempt and then by the next one's Recover, until it has succeeded.
//
// Both must be idempotent, and what makes a repetition known must be kept where
// the output is, together with it: under the identity of a transaction, which is
// Lineage, UID and Epoch of the writer that prepared it, its subtask, and a
// number that the writer counts. All of that belongs into the handle. A job id
// does not: it changes with a restore.
//
// ctx ends after a minute, or with the attempt.
type Transactional interface {
	// Recover settles what earlier attempts left, in this order. From its
	// return on, no writer and no Commit of an epoch below env.Epoch has any
	// effect on what readers see. The handles of the restored checkpoint (none
	// on an empty start) are committed. What (env.Lineage, env.UID) prepared in
	// lower epochs and the handles do not name is aborted and removed.
	//
	// Handles may be of another lineage: a fork starts from a savepoint of a job
	// that may go on meanwhile. Such are committed as what they are, once,
	// whoever does it first; nothing else of that lineage is touched.
	//
	// Handles may be of more or fewer subtasks than there are now.
	Recover(ctx context.Context, env Env, checkpoint uint64, handles []Handle) error
	// Commit makes the output of a checkpoint visible. Handles that are
	// committed already are passed over. It refuses (Stale) when a Recover of a
	// higher epoch of its lineage has been there.
	Commit(ctx context.Context, env Env, checkpoint uint64, handles []Handle) error
}

// Preparer is the Writer of a Transactional sink.
type Preparer interface {
	// Prepare ends the transaction of this checkpoint: later writes belong
	// to the next. It returns at once; finish waits, on another goroutine,
	// until all of it is durable, and returns the handle, nil when there is
	// none. After an error finish may be called again; one that cannot succeed
	// any more makes Write fail too, so that the job restarts. Finishes are
	// called in order, not always before the next Prepare.
	//
	// Checkpoints may fail: the handle of one that did is part of the next
	// ones, so a handle says by itself what it commits, and must be able to
	// wait. Handles are in the checkpoint's manifest: keep them below some
	// kilobytes.
	Prepare(checkpoint uint64) (finish func(context.Context) ([]byte, error), err error)
}

// Patient is a Sink that gains nothing from early checkpoints, such as one whose
// every commit makes a file: its output waits for the interval.
type Patient interface{ Patient() bool }

// Expiring is a Transactional sink whose target forgets what was prepared after
// a while, as a broker with a transaction timeout does: output of a completed
// checkpoint is then lost unless the job recovers in time. A plan whose
// checkpoint interval and timeout leave less than RecoveryBudget of that is refused.
// Prefer targets that do not forget.
type Expiring interface{ TimeToLoss() time.Duration }

// RecoveryBudget is how long a job may be down, at least, before an Expiring
// sink loses what it has prepared.
const RecoveryBudget = 10 * time.Minute

// Handle is what one subtask prepared for one checkpoint.
type Handle struct {
	Subtask int
	Value   []byte
}

// Refused marks an error that no repetition mends: the target does not take this
// output, or what a handle names is gone. It ends the job at once; its last
// checkpoint keeps the handles for a start after the cause is mended.
func Refused(err error) error { return mark("output-refused", err) }

// Stale marks the error of a writer or commit whose epoch is over.
func Stale(err error) error { return mark("stale-epoch", err) }

func mark(code string, err error) error {
	if err == nil {
		return nil
	}
	return &marked{code, err}
}

type marked struct {
	code string
	err  error
}

func (m *marked) Error() string     { return m.err.Error() }
func (m *marked) Unwrap() error     { return m.err }
func (m *marked) ErrorCode() string { return m.code }
