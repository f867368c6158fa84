package job

import (
	"time"

	"github.com/millrace/millrace/checkpoint"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Status is a copy of what people may know of a job. It shares nothing that
// the master changes.
type Status struct {
	State State
	// Since is when each state was last entered; zero for never.
	Since [Failed + 1]time.Time
	// Waiting says what the job waits for, empty when for nothing.
	Waiting string
	Started time.Time
	// Ended is zero while the job is not over.
	Ended time.Time
	Epoch uint64
	// Restarts counts attempts after the first, of earlier leaders too.
	Restarts uint64
	Workers  []WorkerStatus
	// Vertices are in the graph's order.
	Vertices []VertexStatus
	// Graph is the job's with the parallelism in force. It is not changed.
	Graph *pb.JobGraph
	// Rescalings counts attempts that came of a change of parallelism, of earlier
	// leaders too; Rescales are the last of them and those that failed, newest
	// first, at most MaxRescales; Rescaling is the one under way, nil for none.
	Rescalings uint64
	Rescales   []Rescaled
	Rescaling  *Rescaling
	// Stopping is cancel, stop or drain once that was asked for.
	Stopping string
	// Exceptions go from the newest to the oldest, at most MaxExceptions.
	Exceptions          []Exception
	ExceptionsTruncated bool
	// Cause is the error of a job that is FAILING or FAILED.
	Cause       *pb.Error
	Checkpoints checkpoint.History
	// LastRecovery is the time from the last failure to Start, and to the
	// first record at a sink; 0 where there was none.
	LastRecovery            time.Duration
	LastRecoveryFirstOutput time.Duration
	// SubmitToFirstOutput is 0 before it.
	SubmitToFirstOutput time.Duration
	// DrainPositions is how many splits have a journalled end.
	DrainPositions int
}

// MaxExceptions and MaxRescales bound the histories.
const (
	MaxExceptions = 32
	MaxRescales   = 16
)

// Rescaling is a change of parallelism under way.
type Rescaling struct {
	// Step is asked, slots, workers, checkpoint, halt, journal, deploy, or restart
	// for a job that did not run.
	Step  string
	Asked time.Time
	// To is parallelism by vertex id. It needs Slots, of which the job has Held.
	To          map[string]uint32
	Slots, Held int
	// Free slots are known while it waits for them, else -1.
	Free int
}

// WorkerStatus is one worker of the present attempt.
type WorkerStatus struct {
	ID          string
	TaskManager string
	DataAddress string
	PID         int64
	Slots       []int
	Started     bool
}

// VertexStatus is one vertex with its subtasks.
type VertexStatus struct {
	ID    string
	Tasks []TaskStatus
}

// TaskStatus is one subtask.
type TaskStatus struct {
	State       TaskState
	TaskManager string
	Worker      string
	// Attempt counts from 0.
	Attempt int
	Since   time.Time
	// Began is when the task was deployed, Ended when it ended.
	Began, Ended time.Time
}
