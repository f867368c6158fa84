package dispatch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/millrace/millrace/api"
	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/internal/clock"
	"github.com/millrace/millrace/job"
	"github.com/millrace/millrace/jobmanager/control"
	"github.com/millrace/millrace/jobmanager/journal"
	"github.com/millrace/millrace/jobmanager/rates"
	"github.com/millrace/millrace/jobmanager/slots"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// KeepEnded is how many ended jobs are remembered.
const KeepEnded = 100

// Config of a Dispatcher. Bucket and Journal are required.
type Config struct {
	Bucket  blob.Bucket
	Journal *journal.Journal
	Clock   clock.Clock
	Log     *slog.Logger
	Tracer  trace.Tracer
	// SlotWait and PlanWait bound the wait of a job for slots and of a
	// submission for its plan.
	SlotWait, PlanWait time.Duration
	// MaxUpload bounds a binary in bytes; UploadDir holds it on its way.
	MaxUpload int64
	UploadDir string
	// Control configures the link; identity, bucket, clock and log are set
	// here.
	Control control.Config
}

// Dispatcher runs the jobs of a cluster.
type Dispatcher struct {
	cfg     Config
	journal *journal.Journal
	control *control.Server
	rates   *rates.Store
	streams *streams
	// deletions are objects that nothing needs any more.
	deletions *queue[deletion]
	// binaries holds one token: who changes the set of binaries has it.
	binaries chan struct{}
	// fatal ends Run.
	fatal chan error

	mu struct {
		sync.Mutex
		// ctx is Run's, nil before and after it.
		ctx  context.Context
		jobs map[string]*Job
		pool *slots.Pool
		// changed is closed and replaced when task managers come or go.
		changed chan struct{}
	}
	running sync.WaitGroup
}

// New returns a dispatcher for the leader whose journal it is given.
func New(cfg Config) *Dispatcher {
	if cfg.Clock == nil {
		cfg.Clock = clock.System
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Tracer == nil {
		cfg.Tracer = tracenoop.Tracer{}
	}
	cfg.SlotWait = cmp.Or(cfg.SlotWait, 5*time.Minute)
	cfg.PlanWait = cmp.Or(cfg.PlanWait, 30*time.Second)
	cfg.MaxUpload = cmp.Or(cfg.MaxUpload, 512<<20)
	d := &Dispatcher{
		cfg: cfg, journal: cfg.Journal, rates: rates.New(),
		deletions: newQueue[deletion](1 << 16),
		binaries:  make(chan struct{}, 1), fatal: make(chan error, 1),
	}
	d.mu.jobs = map[string]*Job{}
	d.mu.pool = slots.New()
	d.mu.changed = make(chan struct{})
	link := cfg.Control
	link.ClusterID, link.LeaderEpoch, link.Bucket = cfg.Journal.ClusterID(), cfg.Journal.Epoch(), cfg.Bucket.URL()
	link.Clock, link.Log = cfg.Clock, cfg.Log
	d.control = control.New(link, d)
	d.streams = newStreams(d)
	return d
}

// Control is the control link's server.
func (d *Dispatcher) Control() *control.Server { return d.control }

// Rates are the metrics of all tasks.
func (d *Dispatcher) Rates() *rates.Store { return d.rates }

// Journal is the cluster's journal.
func (d *Dispatcher) Journal() *journal.Journal { return d.journal }

// Now is the time of the dispatcher's clock.
func (d *Dispatcher) Now() time.Time { return d.cfg.Clock.Now() }

// Start takes the journal's jobs up: those that have not ended get a driver,
// which goes on from their latest checkpoint. Call it once, before anything
// attaches; Run then waits.
func (d *Dispatcher) Start(ctx context.Context) error {
	state := d.journal.State()
	d.mu.Lock()
	d.mu.ctx = ctx
	d.mu.Unlock()
	d.running.Go(func() { d.streams.run(ctx) })
	d.running.Go(func() { d.deleteObjects(ctx) })
	if prefixes := state.GetNeedless(); len(prefixes) > 0 {
		d.deletions.put(deletion{DeleteObjects: job.DeleteObjects{Prefixes: prefixes}})
	}
	for _, r := range state.GetJobs() {
		if r.GetEnded() != nil {
			d.addEnded(r)
			continue
		}
		if err := d.takeOver(ctx, r); err != nil {
			return fmt.Errorf("take over job %s: %w", r.GetSubmitted().GetJobId(), err)
		}
	}
	return nil
}

// Run waits until ctx ends (nil), leadership is lost or a driver cannot go on,
// and then for all goroutines; ctx must end then.
func (d *Dispatcher) Run(ctx context.Context, stop context.CancelFunc) error {
	var err error
	select {
	case <-ctx.Done():
	case <-d.journal.Lost():
		err = journal.ErrLeadershipLost
	case err = <-d.fatal:
	}
	stop()
	d.mu.Lock()
	d.mu.ctx = nil
	d.mu.Unlock()
	d.control.Close()
	d.running.Wait()
	return err
}

// fail ends Run with an error that no driver can mend.
func (d *Dispatcher) fail(err error) {
	select {
	case d.fatal <- err:
	default: // another came first
	}
}

// background runs f beside a driver, as part of Run; false when Run has ended.
func (d *Dispatcher) background(f func(ctx context.Context)) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	ctx := d.mu.ctx
	if ctx == nil {
		return false
	}
	d.running.Go(func() { f(ctx) })
	return true
}

// Job returns a job by its id.
func (d *Dispatcher) Job(id string) (*Job, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if j := d.mu.jobs[id]; j != nil {
		return j, nil
	}
	return nil, api.Errorf(api.JobNotFound, "job %s is not known", id)
}

// Jobs lists all jobs, the latest submitted first.
func (d *Dispatcher) Jobs() []*Job {
	d.mu.Lock()
	all := make([]*Job, 0, len(d.mu.jobs))
	for _, j := range d.mu.jobs {
		all = append(all, j)
	}
	d.mu.Unlock()
	slices.SortFunc(all, func(a, b *Job) int {
		return cmp.Or(cmp.Compare(b.Submitted.GetSubmittedMs(), a.Submitted.GetSubmittedMs()), cmp.Compare(a.ID, b.ID))
	})
	return all
}

// Slots are the slots of the task managers that are attached.
func (d *Dispatcher) Slots() (managers []slots.TaskManager, total, free int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mu.pool.TaskManagers(), d.mu.pool.Total(), d.mu.pool.Free()
}

// append writes a record for a request. It goes on when the requester leaves:
// what has begun is settled within Run.
func (d *Dispatcher) append(ctx context.Context, r *pb.JournalRecord) error {
	result := make(chan error, 1)
	ok := d.background(func(run context.Context) { result <- d.journal.Append(run, r) })
	if !ok {
		return api.Errorf(api.ShuttingDown, "job manager is shutting down")
	}
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return api.Errorf(api.TimedOut, "journal record is not written yet; it may be later: %w", ctx.Err())
	}
}

// AsError gives an error of any room its code; nil stays nil.
func AsError(err error) error {
	if err == nil {
		return nil
	}
	return asError(err)
}

// asError gives an error of any room its code.
func asError(err error) *api.Error {
	var e *job.Error
	if errors.As(err, &e) {
		return &api.Error{Code: api.Code(e.Code), Message: err.Error(), Cause: err}
	}
	var u *job.Unusable
	if errors.As(err, &u) {
		return &api.Error{Code: api.Code(u.Code), Message: err.Error(), Cause: err}
	}
	return api.From(err)
}
