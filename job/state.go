package job

import "fmt"

// State is the state of a job; names are Flink's.
//
//	                        ┌──────────── failure ───────────┐
//	                        ▼                                │
//	CREATED ──▶ INITIALIZING ──▶ RUNNING ──▶ FINISHED   RESTARTING
//	   │              │             │                        ▲
//	   │              └── failure ──┴────────────────────────┤
//	   │                                                     │
//	   └─▶ FAILED ◀── FAILING ◀── no restart left ───────────┘
//	any but the final ones ──▶ CANCELLING ──▶ CANCELED
//
// CREATED waits for slots and the epoch; INITIALIZING deploys; RUNNING has sent
// Start; RESTARTING waits for tasks to end, a delay, slots or the epoch.
type State uint8

// The states of a job.
const (
	Created State = iota
	Initializing
	Running
	Restarting
	Failing
	Cancelling
	Finished
	Canceled
	Failed
)

var stateNames = [...]string{
	"CREATED", "INITIALIZING", "RUNNING", "RESTARTING", "FAILING", "CANCELLING", "FINISHED", "CANCELED", "FAILED",
}

func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// ParseState is the inverse of String.
func ParseState(s string) (State, error) {
	for i, name := range stateNames {
		if name == s {
			return State(i), nil
		}
	}
	return 0, fmt.Errorf("job state %q is not known", s)
}

// Terminal says that the job is over: no event changes it any more.
func (s State) Terminal() bool { return s >= Finished }

// TaskState is the state of one subtask; names are Flink's.
type TaskState uint8

// The states of a task. Scheduled waits for its worker; Deploying is being
// built and restored; Ready waits for the others (INITIALIZING for people).
const (
	TaskCreated TaskState = iota
	TaskScheduled
	TaskDeploying
	TaskReady
	TaskRunning
	TaskFinished
	TaskCanceling
	TaskCanceled
	TaskFailed
)

var taskStateNames = [...]string{
	"CREATED", "SCHEDULED", "DEPLOYING", "INITIALIZING", "RUNNING", "FINISHED", "CANCELING", "CANCELED", "FAILED",
}

func (s TaskState) String() string {
	if int(s) < len(taskStateNames) {
		return taskStateNames[s]
	}
	return fmt.Sprintf("TaskState(%d)", uint8(s))
}
