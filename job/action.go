package job

import (
	"time"

	"github.com/millrace/millrace/checkpoint"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Action is what the driver is to do: the output of Master.Step. The package
// comment says what each asks for.
type Action interface{ action() }

type (
	// RequestSlots asks for N slots in place of what the job holds.
	RequestSlots struct{ N int }

	// ResizeSlots asks for N slots of which those that the job holds are part
	// where they can be; it loses none meanwhile.
	ResizeSlots struct {
		Token Token
		N     int
	}

	// KeepSlots gives back all slots of the job but these, and withdraws a
	// ResizeSlots that was not answered.
	KeepSlots struct{ Slots []string }

	// ReleaseSlots gives all slots of the job back.
	ReleaseSlots struct{}

	// StartWorker starts a worker of the job on a task manager. Binary and
	// arguments are those of the job's submission.
	StartWorker struct {
		TaskManager string
		Worker      string
		Slots       int
	}

	// ResizeWorker gives a worker that runs the memory of another number of
	// slots.
	ResizeWorker struct {
		TaskManager string
		Worker      string
		Slots       int
	}

	// StopWorker ends a worker; with no grace it is killed at once.
	StopWorker struct {
		TaskManager string
		Worker      string
		Grace       time.Duration
	}

	// SendWorker sends a command to a worker. The command may be shared with
	// other actions and is not to be changed.
	SendWorker struct {
		TaskManager string
		Worker      string
		Command     *pb.WorkerCommand
	}

	// Journal appends a record. Only Body is set; the driver adds leader
	// epoch, nonce and time.
	Journal struct {
		Token  Token
		Record *pb.JournalRecord
	}

	// WriteManifest writes a manifest to a key of the bucket, encoded by
	// package checkpoint/manifest.
	WriteManifest struct {
		Token    Token
		Key      string
		Manifest *pb.Manifest
	}

	// ReadManifest reads and decodes a manifest.
	ReadManifest struct {
		Token Token
		Key   string
	}

	// DeleteObjects deletes objects that nothing needs any more: Keys, and
	// everything under Prefixes. Failures only cost space; the driver of a cluster
	// tries again.
	DeleteObjects struct {
		Keys     []string
		Prefixes []string
	}

	// ListObjects lists the keys under a prefix. Failures only cost space.
	ListObjects struct{ Prefix string }

	// Answer answers a user's request. Err is a *Error with a code.
	Answer struct {
		Request RequestID
		Result  Result
		Err     error
	}

	// Observe is something that logs, traces and counters are made of.
	Observe struct{ Observation Observation }
)

func (RequestSlots) action()  {}
func (ResizeSlots) action()   {}
func (KeepSlots) action()     {}
func (ReleaseSlots) action()  {}
func (StartWorker) action()   {}
func (ResizeWorker) action()  {}
func (StopWorker) action()    {}
func (SendWorker) action()    {}
func (Journal) action()       {}
func (WriteManifest) action() {}
func (ReadManifest) action()  {}
func (DeleteObjects) action() {}
func (ListObjects) action()   {}
func (Answer) action()        {}
func (Observe) action()       {}

// Result is the good answer to a request.
type Result struct {
	// CheckpointID and Path are of the checkpoint or savepoint taken; Path is
	// the bucket prefix that names it, to start from.
	CheckpointID uint64
	Path         string
	// Parallelism is that in force after a rescale, by vertex id; Pause is how
	// long no task ran for it.
	Parallelism map[string]uint32
	Pause       time.Duration
}

// Observation is something worth a log line, a span or a counter. Times are
// those passed to Step.
type Observation interface{ observation() }

type (
	// StateChanged: the job went from one state to another. Err is what led
	// to FAILING, RESTARTING or FAILED.
	StateChanged struct {
		From, To State
		Err      *pb.Error
	}

	// AttemptStarted: the epoch is journalled and tasks are being deployed.
	AttemptStarted struct {
		Epoch   uint64
		Restore string // manifest, empty for an empty start
	}

	// AttemptRunning: all tasks run. Deploy is the time from AttemptStarted
	// to the Start command; Recovery from the failure to it, 0 for a first
	// start.
	AttemptRunning struct {
		Epoch            uint64
		Deploy, Recovery time.Duration
	}

	// AttemptFailed: the attempt is over. Delay is the time until the next,
	// negative for none.
	AttemptFailed struct {
		Epoch     uint64
		Exception Exception
		Delay     time.Duration
	}

	// Rescaled: a request for another parallelism is over.
	Rescaled struct {
		// Epoch is the first attempt with it, 0 where Err says why there is none.
		Epoch uint64
		// From and To are parallelism by vertex id; Slots are those needed for To.
		From, To map[string]uint32
		Slots    int
		// Asked is when it came in, Halted when tasks were told to halt; zero for
		// never.
		Asked, Halted time.Time
		// Checkpoint is from Halted to the journal's word for that checkpoint,
		// Pause from Halted to running tasks, Took from Asked to the end.
		Checkpoint, Pause, Took time.Duration
		Err                     *pb.Error
	}

	// FirstOutput: the first record of an attempt has reached a sink; Since
	// counts from the failure, or from the submission in a first attempt.
	FirstOutput struct {
		Epoch uint64
		Since time.Duration
	}

	// CheckpointBegan and CheckpointEnded bracket a checkpoint. Ended carries
	// its statistics, whether it completed or failed.
	CheckpointBegan struct{ Stats checkpoint.Stats }
	CheckpointEnded struct{ Stats checkpoint.Stats }

	// SinkCommitted: the output of a checkpoint is visible.
	SinkCommitted struct {
		UID          string
		CheckpointID uint64
		// Took is from the command to its answer.
		Took  time.Duration
		Tries int
	}

	// Note is an event that has no type of its own, with key and value pairs
	// as slog takes them.
	Note struct {
		Message string
		Args    []any
	}
)

func (StateChanged) observation()    {}
func (AttemptStarted) observation()  {}
func (AttemptRunning) observation()  {}
func (AttemptFailed) observation()   {}
func (Rescaled) observation()        {}
func (FirstOutput) observation()     {}
func (CheckpointBegan) observation() {}
func (CheckpointEnded) observation() {}
func (SinkCommitted) observation()   {}
func (Note) observation()            {}
