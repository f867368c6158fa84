package jobmanager

import (
	"context"
	"sync"
)

// JobManager leads a cluster while Run runs.
type JobManager struct {
	cfg   Config
	ready chan struct{}
	mu    struct {
		sync.Mutex
		rest, control string
	}
}

// New checks the configuration; Run does the work.
func New(cfg Config) (*JobManager, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &JobManager{cfg: cfg.withDefaults(), ready: make(chan struct{})}, nil
}

// Run leads until ctx ends (nil), leadership is lost
// (journal.ErrLeadershipLost) or it could not start. Jobs go on where they
// run: ending the job manager ends no job.
func (m *JobManager) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Ready is closed once the job manager leads and serves.
func (m *JobManager) Ready() <-chan struct{} { return m.ready }

// RESTAddress is host:port of the REST interface, once ready.
func (m *JobManager) RESTAddress() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.rest
}

// ControlURL is where task managers attach, http or https, once ready.
func (m *JobManager) ControlURL() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.control
}
