package job

import (
	"time"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Config is what a master starts from.
type Config struct {
	// Record is the journal's fold of the job; the master does not change it.
	Record *pb.JobRecord
	// EpochFloor is the highest epoch that any job of the same lineage has
	// had: sinks refuse epochs that are not above it.
	EpochFloor uint64
	// SlotWait is how long a job that never ran waits for slots; default
	// 5 minutes.
	SlotWait time.Duration
	// WorkerWait is how long a worker may take to start (default 30 s),
	// DeployWait tasks to get ready and running (default 5 min), CancelWait
	// tasks to end before their worker is killed (default 5 s).
	WorkerWait, DeployWait, CancelWait time.Duration
	// SinkWait is how long a sink may take to commit before its worker is
	// given up; default 30 s.
	SinkWait time.Duration
}

// Master decides for one job. The zero value is not usable.
type Master struct {
	cfg   Config
	state State
}

// New returns a master; its first event is Submitted or Recovered.
func New(cfg Config) (*Master, error) {
	return &Master{cfg: cfg}, nil
}

// Step takes an event in and says what is to be done. now never goes back.
func (m *Master) Step(ev Event, now time.Time) []Action {
	return nil
}

// Deadline is when Step wants a Tick if nothing happens before; false for
// never.
func (m *Master) Deadline() (time.Time, bool) { return time.Time{}, false }

// State is the job's state.
func (m *Master) State() State { return m.state }

// Status describes the job as of now.
func (m *Master) Status(now time.Time) Status { return Status{State: m.state} }
