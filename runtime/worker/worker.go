package worker

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/checkpoint/snapshot"
	"github.com/millrace/millrace/runtime/tier"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Bounds of the worker's queues: a sender beyond them waits.
const (
	commandQueue = 256
	reportQueue  = 256
)

// Worker runs the tasks of one job in this process.
type Worker struct {
	cfg      Config
	commands chan *pb.WorkerCommand
	reports  chan *pb.WorkerReport
	ticks    chan struct{}
	// copies are nil, and spills empty, without a folder of the job's.
	copies *copies
	spills string

	// The rest belongs to the goroutine of obey.
	epoch   uint64
	attempt *attempt
	// disk has tiered state, nil where there is none. It belongs to the attempt, and
	// to the next once that one has ended; to obey after the last.
	disk *tier.Disk
	// ends are the goroutines that wait for an attempt to end.
	ends sync.WaitGroup
}

// New returns a worker; nothing runs before Run.
func New(cfg Config) (*Worker, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	return &Worker{
		cfg:      cfg,
		copies:   openCopies(cfg.LocalDir, cfg.Log),
		spills:   openScratch(cfg.LocalDir, cfg.Log),
		commands: make(chan *pb.WorkerCommand, commandQueue),
		reports:  make(chan *pb.WorkerReport, reportQueue),
		ticks:    make(chan struct{}, 1),
	}, nil
}

// scratch is where snapshots go that do not fit in memory.
func (w *Worker) scratch() snapshot.Scratch {
	// What is inline is in memory.
	return snapshot.Scratch{Folder: w.spills, Memory: max(w.cfg.SnapshotMemory, w.cfg.InlineLimit)}
}

// Handle takes a command of the job master. It must not be called once the
// context of Run has ended.
func (w *Worker) Handle(cmd *pb.WorkerCommand) { w.commands <- cmd }

// Run obeys commands until ctx ends, then cancels what runs and waits for it.
// It returns nil, or what broke the worker itself; failures of tasks are
// reports.
func (w *Worker) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	if w.cfg.DataListener != nil {
		g.Go(func() error { return w.cfg.DataListener.Run(ctx) })
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for r := range w.reports {
			w.cfg.Send(r)
		}
	}()
	g.Go(func() error {
		w.obey(ctx)
		return nil
	})
	err := g.Wait()
	close(w.reports)
	<-sent
	return err
}

// obey is the goroutine that owns the attempt. Nothing it does blocks, but
// reports that the master does not take.
func (w *Worker) obey(ctx context.Context) {
	stop := w.tick()
	defer func() {
		_ = stop()
		if w.attempt != nil {
			w.attempt.cancel()
			<-w.attempt.ended
		}
		w.ends.Wait()
		w.closeTier()
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case cmd := <-w.commands:
			w.take(cmd)
		case <-w.ticks:
			stop = w.tick()
			if w.attempt != nil {
				w.attempt.meter.tick()
			}
		}
	}
}

// tick asks for the next metrics report.
func (w *Worker) tick() (stop func() bool) {
	return w.cfg.Clock.AfterFunc(w.cfg.MetricsInterval, func() {
		select {
		case w.ticks <- struct{}{}:
		default:
		}
	})
}

// take obeys one command, if it is of the right epoch.
func (w *Worker) take(cmd *pb.WorkerCommand) {
	switch {
	case cmd.GetEpoch() < w.epoch:
		w.cfg.Log.Info("command of an older epoch ignored", "epoch", cmd.GetEpoch(), "current", w.epoch)
		return
	case cmd.GetEpoch() > w.epoch && cmd.GetDeploy() == nil && cmd.GetCancel() == nil:
		w.cfg.Log.Warn("command of an unknown epoch ignored", "epoch", cmd.GetEpoch(), "current", w.epoch)
		return
	}
	raised := cmd.GetEpoch() > w.epoch
	w.epoch = cmd.GetEpoch()
	switch body := cmd.GetBody().(type) {
	case *pb.WorkerCommand_Deploy:
		if !raised && w.attempt != nil {
			return
		}
		w.deploy(body.Deploy)
	case *pb.WorkerCommand_Cancel, *pb.WorkerCommand_Finish:
		w.end()
	default:
		if w.attempt != nil && w.attempt.epoch == w.epoch {
			w.attempt.take(cmd)
		}
	}
}

func (w *Worker) deploy(d *pb.Deploy) {
	before := w.attempt
	if before != nil {
		before.cancel()
	}
	w.attempt = newAttempt(w, w.epoch, d)
	go w.attempt.run(before)
}

// end cancels the tasks and reports, under the epoch of the command, when none
// runs any more.
func (w *Worker) end() {
	epoch, a := w.epoch, w.attempt
	if a == nil {
		w.report(epoch, &pb.WorkerReport{Body: &pb.WorkerReport_Ended{Ended: &pb.TasksEnded{}}})
		return
	}
	a.cancel()
	w.ends.Go(func() {
		<-a.ended
		w.report(epoch, &pb.WorkerReport{Body: &pb.WorkerReport_Ended{Ended: &pb.TasksEnded{}}})
	})
}

func (w *Worker) report(epoch uint64, r *pb.WorkerReport) {
	r.Epoch = epoch
	w.reports <- r
}

func (w *Worker) now() int64 { return w.cfg.Clock.Now().UnixMilli() }

// rolePatience bounds one call of a sink's or source's role.
const rolePatience = time.Minute
