package local

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/internal/clock"
	"github.com/millrace/millrace/job"
	"github.com/millrace/millrace/runtime/graph"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// ErrCanceled is wrapped by what Run returns when ctx ended the job.
var ErrCanceled = errors.New("job canceled")

// Config says what to run. Zero values are the documented defaults.
type Config struct {
	// Graph builds the job's graph; required. It is called once for the plan
	// and once for each attempt.
	Graph func() (*graph.Graph, error)
	// Parallelism of operators that set none; default 1.
	Parallelism int
	// Bucket holds checkpoints; default one in memory. It is not closed.
	Bucket blob.Bucket
	// Restore is the manifest of a savepoint in Bucket to start from.
	Restore        string
	AllowUnmatched bool
	// Drain, when closed, ends the job after all that its sources hold by
	// then, with a savepoint in Bucket.
	Drain <-chan struct{}
	// Rescale gives requests for another parallelism; nil for none. It is not to
	// be closed.
	Rescale <-chan Rescale
	// ShardAddress is the shard socket of a task manager, for jobs that read
	// or write streams.
	ShardAddress string
	// JobID defaults to a new one: sinks know by it what this run wrote from
	// what an earlier one did.
	JobID string
	// Clock is the system's if nil; a virtual one moves checkpoints, restarts
	// and timers by hand.
	Clock clock.Clock
	// Log discards if nil.
	Log *slog.Logger
	// Report, if set, gets every metrics report, on a goroutine of the
	// worker.
	Report func(*pb.MetricsReport)
	// Watch, if set, gets what the master observes, on Run's goroutine.
	Watch func(job.Observation)
}

// Rescale asks for another parallelism: Parallelism, unless it is 0, of
// operators that set none of their own, and Vertices by id, vertex name,
// operator uid or operator name. Done, if set, is called on Run's goroutine,
// once all tasks run with it or the job goes on as it was.
type Rescale struct {
	Parallelism int
	Vertices    map[string]int
	Done        func(job.Result, error)
}

func (c Config) withDefaults() Config {
	c.Parallelism = max(c.Parallelism, 1)
	if c.Bucket == nil {
		c.Bucket = blob.NewMemory()
	}
	if c.JobID == "" {
		var id [16]byte
		rand.Read(id[:])
		c.JobID = hex.EncodeToString(id[:])
	}
	if c.Clock == nil {
		c.Clock = clock.System
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Run runs a job until it is over: nil when it FINISHED, a *job.Error when it
// failed or its graph is refused, an error that wraps ErrCanceled when ctx
// ended first.
func Run(ctx context.Context, cfg Config) error {
	if cfg.Graph == nil {
		return errors.New("local: Config.Graph is missing")
	}
	cfg = cfg.withDefaults()
	g, err := cfg.Graph()
	if err != nil {
		return err
	}
	plan, err := graph.Plan(g, cfg.Parallelism)
	if err != nil {
		return err
	}
	for _, w := range plan.GetWarnings() {
		cfg.Log.Warn("plan", "warning", w)
	}
	master, err := job.New(job.Config{Record: &pb.JobRecord{Submitted: &pb.JobSubmitted{
		JobId: cfg.JobID, Name: plan.GetName(), Graph: plan, RestoreManifest: cfg.Restore,
		AllowUnmatchedState: cfg.AllowUnmatched, SubmittedMs: cfg.Clock.Now().UnixMilli(),
	}}})
	if err != nil {
		return err
	}
	// The job outlives ctx until it is cancelled in order.
	group, inner := errgroup.WithContext(context.WithoutCancel(ctx))
	inner, stop := context.WithCancel(inner)
	d := &driver{
		cfg: cfg, plan: plan, master: master, ctx: inner, group: group,
		events: make(chan job.Event, eventQueue), disk: make(chan func() job.Event, diskQueue),
	}
	group.Go(d.runDisk)
	err = d.run(ctx)
	stop()
	return errors.Join(err, d.await(), group.Wait())
}

// Bounds of the driver's queues. The master has a handful of requests to the
// bucket under way at most, and a worker's reports hold it back, not the driver.
const (
	eventQueue = 256
	diskQueue  = 64
	stopGrace  = 10 * time.Second
)
