package worker

import (
	"errors"
	"log/slog"
	"time"

	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/internal/clock"
	"github.com/millrace/millrace/runtime/exchange"
	"github.com/millrace/millrace/runtime/graph"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Config is what a worker needs of its surroundings.
type Config struct {
	// Graph builds the job's graph. It is called for each attempt, on one
	// goroutine at a time; a panic is reported as build-failed.
	Graph func() (*graph.Graph, error)
	// Bucket holds the state objects.
	Bucket blob.Bucket
	// Send takes reports to the job master.
	Send func(*pb.WorkerReport)

	JobID    string
	JobName  string
	WorkerID string
	// ShardAddress is the task manager's shard socket; empty without one.
	ShardAddress string

	// DataListener takes the connections of other workers; Worker.Run runs
	// it. Without one the worker must be the job's only one.
	DataListener *exchange.Listener
	// Clock is the system's if nil.
	Clock clock.Clock
	// Log discards if nil.
	Log *slog.Logger
	// MetricsInterval is the time between metrics reports: 1 s if 0.
	MetricsInterval time.Duration
	// Patience is how long a barrier waits at a task for the records before it:
	// task.Patience if 0, not at all if negative.
	Patience time.Duration
	// InlineLimit is the size of a checkpoint in bytes, over all tasks, from
	// which it is an object in the bucket: 64 KiB if 0.
	InlineLimit int
	// LocalDir is the job's folder on this machine: it takes what does not fit
	// in memory, and copies of state objects for the next restore. Without one
	// snapshots are held in memory and restored from the bucket.
	LocalDir string
	// SlotMemory is the memory of one slot in bytes, half of which is for tiered
	// state that does not say how much: 512 MiB if 0.
	SlotMemory int64
	// SnapshotMemory bounds what one subtask's snapshot holds in memory, where
	// there is a LocalDir: a sixteenth of SlotMemory if 0, 32 to 256 MiB.
	SnapshotMemory int

	// unmerged leaves chains as they are, for tests that count reads.
	unmerged bool
}

// Validate says what is missing.
func (c *Config) Validate() error {
	switch {
	case c.Graph == nil:
		return errors.New("worker: Config.Graph is missing")
	case c.Bucket == nil:
		return errors.New("worker: Config.Bucket is missing")
	case c.Send == nil:
		return errors.New("worker: Config.Send is missing")
	}
	return nil
}

func (c Config) withDefaults() Config {
	if c.Clock == nil {
		c.Clock = clock.System
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.MetricsInterval == 0 {
		c.MetricsInterval = time.Second
	}
	if c.InlineLimit == 0 {
		c.InlineLimit = 64 << 10
	}
	if c.SlotMemory == 0 {
		c.SlotMemory = defaultSlotMemory
	}
	if c.SnapshotMemory == 0 {
		c.SnapshotMemory = int(min(max(c.SlotMemory/16, 32<<20), 256<<20))
	}
	return c
}
