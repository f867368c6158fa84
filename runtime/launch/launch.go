package launch

import (
	"os"

	"github.com/millrace/millrace/runtime/graph"
)

// The environment of a binary that a task manager starts.
const (
	EnvMode      = "MILLRACE_MODE"
	EnvControlFD = "MILLRACE_CONTROL_FD"
)

// Modes.
const (
	ModePlan   = "plan"
	ModeWorker = "worker"
)

// Protocol is the version of the control protocol that this binary speaks.
const Protocol = 1

// ExitLinkLost is the exit code of a worker whose control socket was closed.
const ExitLinkLost = 3

// Mode is what a task manager wants of this process: ModePlan, ModeWorker, or
// "" when nobody asks and the job runs by hand.
func Mode() string { return os.Getenv(EnvMode) }

// Run does what Mode says and returns the exit code of the process: 0, or
// another after what went wrong was written to the control socket. build makes
// the job's graph; its errors and panics are reported, not returned.
func Run(build func() (*graph.Graph, error)) int { return run(build) }
