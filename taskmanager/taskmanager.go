package taskmanager

import (
	"context"

	"github.com/millrace/millrace/stream"
)

// TaskManager is one run of a task manager.
type TaskManager struct {
	config Config
	ready  chan struct{}
}

// New takes the data folder and binds the shard socket. Run must follow, or
// Close.
func New(config Config) (*TaskManager, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	return &TaskManager{config: config, ready: make(chan struct{})}, nil
}

// ID is the task manager's name in the cluster, kept in its data folder.
func (t *TaskManager) ID() string { return "" }

// Service is every stream of the cluster, for the Kinesis API.
func (t *TaskManager) Service() stream.Service { return nil }

// Ready is closed once a job manager has accepted this task manager for the
// first time.
func (t *TaskManager) Ready() <-chan struct{} { return t.ready }

// Run works until ctx ends, then stops workers, closes shards and frees the
// folder. It returns nil after such an end, else why it could not go on.
func (t *TaskManager) Run(ctx context.Context) error {
	<-ctx.Done()
	return t.Close()
}

// Close frees what New took, where Run was not called.
func (t *TaskManager) Close() error { return nil }
