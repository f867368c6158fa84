package worker

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/millrace/millrace/internal/failpoint"
	"github.com/millrace/millrace/runtime/exchange"
	"github.com/millrace/millrace/runtime/graph"
	"github.com/millrace/millrace/runtime/state"
	"github.com/millrace/millrace/runtime/task"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// attempt is one epoch of the job in this worker.
//
//	deploying ──all tasks ready──▶ ready ──Start──▶ running ──cancel──▶ ended
//
// run is its own goroutine; the worker's calls take and cancel. Everything that
// either starts is in group, and run waits for group before it closes ended.
type attempt struct {
	w      *Worker
	epoch  uint64
	deploy *pb.Deploy

	ctx    context.Context
	cancel context.CancelFunc
	ended  chan struct{}
	group  sync.WaitGroup

	// graphed is closed once members is set, ready once all tasks are.
	graphed chan struct{}
	ready   chan struct{}
	// waiting counts the tasks that are not ready or, later, not running.
	waiting atomic.Int64
	// begun is set once all tasks run.
	begun atomic.Bool

	members map[string]*graph.Member
	tasks   []*running
	network *exchange.Network

	// kept is what the tasks before left in memory, until all tasks are ready.
	kept map[place]*state.Store
	// budgets are of memory for tiered state, by slot, each of slotState bytes.
	budgets   map[int]*state.Budget
	slotState int64

	collect *collector
	meter   *meter
	sinks   map[string]chan func()

	held        atomic.Bool
	firstOutput atomic.Bool
	sources     atomic.Int64
	failed      atomic.Bool
}

// running is a task with its place.
type running struct {
	*task.Task
	vertex  *graph.Vertex
	subtask int
}

func newAttempt(w *Worker, epoch uint64, d *pb.Deploy) *attempt {
	a := &attempt{
		w: w, epoch: epoch, deploy: d, ended: make(chan struct{}),
		graphed: make(chan struct{}), ready: make(chan struct{}),
		sinks: make(map[string]chan func()), kept: make(map[place]*state.Store), budgets: make(map[int]*state.Budget),
	}
	// The attempt ends when the worker says so, which then waits for it.
	a.ctx, a.cancel = context.WithCancel(context.Background())
	a.collect = newCollector(a)
	a.meter = newMeter(a)
	return a
}

// run deploys once the attempt before, if any, has ended, then waits for the end.
func (a *attempt) run(before *attempt) {
	defer close(a.ended)
	defer a.cancel()
	if before != nil {
		<-before.ended
		a.keepState(before.tasks)
		before = nil
	}
	err := failpoint.Hit("restore.before-deploy")
	if err == nil {
		err = a.openTier()
	}
	if err == nil {
		err = a.build()
	}
	if err != nil {
		a.fail("", 0, protoError(err, codeDeployFailed))
	} else {
		a.launch()
	}
	<-a.ctx.Done()
	a.group.Wait()
}

// spawn runs f as part of the attempt.
func (a *attempt) spawn(f func()) {
	a.group.Add(1)
	go func() {
		defer a.group.Done()
		f()
	}()
}

// launch starts what build has wired.
func (a *attempt) launch() {
	a.waiting.Store(int64(len(a.tasks)) + 1)
	a.spawn(func() { a.collect.run(a.ctx) })
	a.spawn(a.watch)
	a.spawn(func() {
		if err := a.network.Run(a.ctx); err != nil {
			a.fail("", 0, protoError(err, codeDataPlane))
		}
	})
	a.spawn(func() {
		select {
		case <-a.network.Connected():
			a.oneReady()
		case <-a.ctx.Done():
		}
	})
	for _, t := range a.tasks {
		a.spawn(func() {
			if err := t.Run(a.ctx); err != nil && !errors.Is(err, exchange.ErrEnded) {
				a.fail(t.vertex.ID, t.subtask, protoError(err, codeDeployFailed))
			}
		})
	}
}

// oneReady counts the tasks, and the network, that are ready.
func (a *attempt) oneReady() {
	if a.waiting.Add(-1) == 0 {
		a.forsake()
		close(a.ready)
		a.report(&pb.WorkerReport{Body: &pb.WorkerReport_Ready{Ready: &pb.TasksReady{}}})
	}
}

// oneRunning counts the tasks that run.
func (a *attempt) oneRunning() {
	if a.waiting.Add(-1) == 0 {
		a.begun.Store(true)
		a.report(&pb.WorkerReport{Body: &pb.WorkerReport_Running{Running: &pb.TasksRunning{}}})
	}
}

// report sends a report of this attempt.
func (a *attempt) report(r *pb.WorkerReport) { a.w.report(a.epoch, r) }

// fail reports a failure. What follows from the first one, or from the end of
// the attempt, is for the log.
func (a *attempt) fail(vertex string, subtask int, e *pb.Error) {
	if a.ctx.Err() != nil {
		return
	}
	a.w.cfg.Log.Error("task failed", "epoch", a.epoch, "vertex", vertex, "subtask", subtask,
		"operator", e.GetOperator(), "code", e.GetCode(), "error", e.GetMessage())
	if a.failed.Swap(true) {
		return
	}
	a.report(&pb.WorkerReport{Body: &pb.WorkerReport_Failed{Failed: &pb.TaskFailed{
		VertexId: vertex, Subtask: uint32(subtask), Error: e,
	}}})
}

// take obeys a command, on the worker's goroutine.
func (a *attempt) take(cmd *pb.WorkerCommand) {
	if a.ctx.Err() != nil {
		return
	}
	switch body := cmd.GetBody().(type) {
	case *pb.WorkerCommand_Start:
		a.spawn(func() { a.start(body.Start) })
	case *pb.WorkerCommand_Trigger:
		a.trigger(body.Trigger)
	case *pb.WorkerCommand_Completed:
		a.collect.completed(body.Completed.GetCheckpointId())
	case *pb.WorkerCommand_Aborted:
		a.aborted(body.Aborted)
	case *pb.WorkerCommand_Enumerate:
		a.spawn(func() { a.enumerate(body.Enumerate) })
	case *pb.WorkerCommand_FindTips:
		a.spawn(func() { a.findTips(body.FindTips) })
	case *pb.WorkerCommand_Recover:
		a.atSink(body.Recover.GetUid(), func() { a.recoverSink(body.Recover) })
	case *pb.WorkerCommand_Commit:
		a.atSink(body.Commit.GetUid(), func() { a.commitSink(body.Commit) })
	case *pb.WorkerCommand_Assign:
		a.follow(body.Assign.GetSplits())
	case *pb.WorkerCommand_DrainTo:
		a.drainTo(body.DrainTo.GetPositions())
	}
}
