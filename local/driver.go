package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/checkpoint/manifest"
	"github.com/millrace/millrace/job"
	"github.com/millrace/millrace/runtime/worker"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// host is the one task manager there is.
const host = "local"

// requests of the driver itself.
const (
	cancelRequest job.RequestID = 1 + iota
	drainRequest
	// rescales are numbered from here on.
	firstRescale
)

// driver carries out a master's actions. Its run is the only caller of the
// master.
type driver struct {
	cfg    Config
	plan   *pb.JobGraph
	master *job.Master
	ctx    context.Context // ends when the job is over
	group  *errgroup.Group
	events chan job.Event
	// disk is done in order by runDisk; each gives the event that answers it.
	disk chan func() job.Event
	// ready are answers that came at once.
	ready []job.Event
	// rescales that were not answered.
	rescales map[job.RequestID]Rescale
	asked    job.RequestID
	// workers that run, by id; hosted are all that ever did.
	workers map[string]*hosted
	hosted  []*hosted
}

// hosted is a worker in this process.
type hosted struct {
	id     string
	worker *worker.Worker
	stop   context.CancelFunc
	// ended is closed when nothing of it runs; lost when it was to end at once
	// and something of it ran on for stopGrace.
	ended, lost chan struct{}
}

func (d *driver) run(ctx context.Context) error {
	d.workers, d.rescales = map[string]*hosted{}, map[job.RequestID]Rescale{}
	done, drain := ctx.Done(), d.cfg.Drain
	d.ready = append(d.ready, job.Submitted{})
	for {
		for len(d.ready) > 0 {
			ev := d.ready[0]
			d.ready = d.ready[1:]
			d.step(ev)
		}
		if d.master.State().Terminal() {
			return d.result(ctx)
		}
		tick, stopTick := d.tick()
		select {
		case ev := <-d.events:
			d.ready = append(d.ready, ev)
		case <-tick:
			d.ready = append(d.ready, job.Tick{})
		case <-done:
			done = nil
			d.ready = append(d.ready, job.CancelRequested{Request: cancelRequest})
		case <-drain:
			drain = nil
			d.ready = append(d.ready, job.StopRequested{Request: drainRequest, Drain: true})
		case r := <-d.cfg.Rescale:
			id := firstRescale + d.asked
			d.asked++
			d.rescales[id] = r
			d.ready = append(d.ready, job.RescaleRequested{Request: id, Parallelism: r.Parallelism, Vertices: r.Vertices})
		}
		stopTick()
	}
}

// tick fires at the master's deadline.
func (d *driver) tick() (<-chan struct{}, func() bool) {
	at, ok := d.master.Deadline()
	if !ok {
		return nil, func() bool { return false }
	}
	c := make(chan struct{})
	return c, d.cfg.Clock.AfterFunc(max(at.Sub(d.cfg.Clock.Now()), 0), func() { close(c) })
}

func (d *driver) result(ctx context.Context) error {
	switch d.master.State() {
	case job.Finished:
		return nil
	case job.Canceled:
		return fmt.Errorf("%w: %w", ErrCanceled, context.Cause(ctx))
	}
	return job.ErrorOf(d.master.Status(d.cfg.Clock.Now()).Cause)
}

func (d *driver) step(ev job.Event) {
	if x, ok := ev.(job.WorkerExited); ok {
		delete(d.workers, x.Worker)
	}
	for _, a := range d.master.Step(ev, d.cfg.Clock.Now()) {
		d.do(a)
	}
}

func (d *driver) do(a job.Action) {
	switch a := a.(type) {
	case job.RequestSlots:
		d.ready = append(d.ready, job.SlotsGranted{Slots: slices.Repeat([]string{host}, a.N)})
	case job.ResizeSlots:
		d.ready = append(d.ready, job.SlotsResized{Token: a.Token, Slots: slices.Repeat([]string{host}, a.N)})
	case job.ReleaseSlots, job.KeepSlots, job.ResizeWorker:
	case job.Answer:
		if r, ok := d.rescales[a.Request]; ok && r.Done != nil {
			r.Done(a.Result, a.Err)
		}
		delete(d.rescales, a.Request)
	case job.StartWorker:
		d.start(a)
	case job.StopWorker:
		if h := d.workers[a.Worker]; h != nil {
			delete(d.workers, a.Worker) // nothing is sent to it any more
			h.stop()
			if a.Grace <= 0 {
				d.lose(h)
			}
		}
	case job.SendWorker:
		if h := d.workers[a.Worker]; h != nil {
			h.worker.Handle(a.Command)
		}
	case job.Journal:
		// The process is the journal: what it decided, it knows.
		d.ready = append(d.ready, job.Journaled{Token: a.Token})
	case job.WriteManifest:
		d.disk <- func() job.Event {
			return job.ManifestWritten{Token: a.Token, Err: manifest.Write(d.ctx, d.cfg.Bucket, a.Key, a.Manifest)}
		}
	case job.ReadManifest:
		d.disk <- func() job.Event {
			m, err := manifest.Read(d.ctx, d.cfg.Bucket, a.Key)
			if code := manifest.Code(err); code != "" {
				err = &job.Unusable{Code: code, Err: err}
			}
			return job.ManifestRead{Token: a.Token, Manifest: m, Err: err}
		}
	case job.ListObjects:
		d.disk <- func() job.Event {
			keys, err := blob.Keys(d.ctx, d.cfg.Bucket, a.Prefix)
			if err != nil {
				d.cfg.Log.Warn("objects were not listed", "prefix", a.Prefix, "err", err)
				return nil
			}
			return job.ObjectsListed{Keys: keys}
		}
	case job.DeleteObjects:
		d.disk <- func() job.Event {
			d.delete(a)
			return nil
		}
	case job.Observe:
		d.log(a.Observation)
		if d.cfg.Watch != nil {
			d.cfg.Watch(a.Observation)
		}
	}
}

// start starts a worker in this process and says so, or why not.
func (d *driver) start(a job.StartWorker) {
	exited := func(err error) job.WorkerExited {
		x := &pb.WorkerExited{JobId: d.cfg.JobID, WorkerId: a.Worker}
		if err != nil {
			x.ExitCode = 1
			x.Error = &pb.Error{Code: "worker-exited", Message: fmt.Sprintf("worker %s: %v", a.Worker, err)}
		}
		return job.WorkerExited{Worker: a.Worker, Exit: x}
	}
	w, err := worker.New(worker.Config{
		Graph: d.cfg.Graph, Bucket: d.cfg.Bucket,
		JobID: d.cfg.JobID, JobName: d.plan.GetName(), WorkerID: a.Worker,
		ShardAddress: d.cfg.ShardAddress, Clock: d.cfg.Clock, Log: d.cfg.Log,
		Send: func(r *pb.WorkerReport) { d.report(a.Worker, r) },
	})
	if err != nil {
		d.ready = append(d.ready, exited(err))
		return
	}
	ctx, stop := context.WithCancel(d.ctx)
	h := &hosted{id: a.Worker, worker: w, stop: stop, ended: make(chan struct{}), lost: make(chan struct{})}
	d.workers[a.Worker] = h
	d.hosted = append(d.hosted, h)
	go func() {
		defer close(h.ended)
		defer stop()
		d.post(exited(w.Run(ctx)))
	}()
	d.ready = append(d.ready, job.WorkerStarted{Worker: a.Worker})
}

// lose gives a worker up whose tasks did not end when they were told to: code of
// the job that hangs cannot be ended inside a process.
func (d *driver) lose(h *hosted) {
	d.cfg.Clock.AfterFunc(stopGrace, func() {
		select {
		case <-h.ended:
			return
		default:
		}
		close(h.lost)
		d.post(job.WorkerExited{Worker: h.id, Exit: &pb.WorkerExited{JobId: d.cfg.JobID, WorkerId: h.id, Requested: true}})
	})
}

// await waits for all workers that are not lost.
func (d *driver) await() error {
	var left error
	for _, h := range d.hosted {
		select {
		case <-h.ended:
		case <-h.lost:
			left = errors.Join(left, fmt.Errorf("worker %s: code of the job has not ended %v after it was told to, and is left behind", h.id, stopGrace))
		}
	}
	return left
}

// report takes what a worker sends. Metrics are not for the master.
func (d *driver) report(worker string, r *pb.WorkerReport) {
	if m := r.GetMetrics(); m != nil {
		if d.cfg.Report != nil {
			d.cfg.Report(m)
		}
		return
	}
	d.post(job.WorkerReported{Worker: worker, Report: r})
}

// post hands an event to run, unless the job is over.
func (d *driver) post(ev job.Event) {
	select {
	case d.events <- ev:
	case <-d.ctx.Done():
	}
}

// runDisk does what may block on the bucket.
func (d *driver) runDisk() error {
	for {
		select {
		case f := <-d.disk:
			if ev := f(); ev != nil {
				d.post(ev)
			}
		case <-d.ctx.Done():
			return d.runRest()
		}
	}
}

// runRest does what the job's last step still asked for.
func (d *driver) runRest() error {
	for {
		select {
		case f := <-d.disk:
			f()
		default:
			return nil
		}
	}
}

func (d *driver) delete(a job.DeleteObjects) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(d.ctx), stopGrace)
	defer cancel()
	keys := a.Keys
	for _, prefix := range a.Prefixes {
		err := d.cfg.Bucket.List(ctx, prefix, func(i blob.Info) error {
			keys = append(keys, i.Key)
			return nil
		})
		if err != nil {
			d.cfg.Log.Warn("old checkpoints not listed", "prefix", prefix, "err", err)
		}
	}
	for _, key := range keys {
		if err := d.cfg.Bucket.Delete(ctx, key); err != nil && !errors.Is(err, blob.ErrNotFound) {
			d.cfg.Log.Warn("object not deleted", "key", key, "err", err)
		}
	}
}

func (d *driver) log(o job.Observation) {
	log := d.cfg.Log
	switch o := o.(type) {
	case job.StateChanged:
		log.Info("job state changed", "from", o.From.String(), "to", o.To.String())
	case job.AttemptRunning:
		log.Info("tasks run", "epoch", o.Epoch, "deploy", o.Deploy, "recovery", o.Recovery)
	case job.AttemptFailed:
		x := o.Exception
		log.Warn("attempt failed", "epoch", o.Epoch, "task", x.Task, "code", x.Error.GetCode(), "err", x.Error.GetMessage(), "restartIn", o.Delay)
	case job.CheckpointEnded:
		level := slog.LevelDebug
		if o.Stats.Failure != nil {
			level = slog.LevelWarn
		}
		log.Log(d.ctx, level, "checkpoint ended", "id", o.Stats.ID, "status", o.Stats.Status.String(),
			"took", o.Stats.Ended.Sub(o.Stats.Triggered).Round(time.Microsecond), "err", o.Stats.Failure.GetMessage())
	case job.Rescaled:
		if o.Err != nil {
			log.Warn("job not rescaled", "after", o.Took, "code", o.Err.GetCode(), "err", o.Err.GetMessage())
			return
		}
		log.Info("job rescaled", "epoch", o.Epoch, "took", o.Took, "paused", o.Pause)
	case job.Note:
		log.Info(o.Message, o.Args...)
	}
}
