package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/checkpoint"
	"github.com/millrace/millrace/internal/clock"
	"github.com/millrace/millrace/runtime/exchange"
	"github.com/millrace/millrace/runtime/graph"
	"github.com/millrace/millrace/runtime/operator"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// sent is a report with the worker that sent it.
type sent struct {
	from int
	*pb.WorkerReport
}

// master is a job master as small as can be: it deploys, triggers one
// checkpoint after the other, commits, and restores the last complete one.
type master struct {
	t       *testing.T
	build   func() (*graph.Graph, error)
	bucket  blob.Bucket
	workers []*Worker
	address []*pb.WorkerAddress
	reports chan sent
	stop    func()

	epoch, id uint64
	// flights counts batches in flight in checkpoints.
	flights  int
	graph    *pb.JobGraph
	complete *pb.Manifest
	// crash says whether to cancel now; it is asked at every step.
	crash     func() bool
	exhausted map[int]bool
	savepoint bool
	metrics   chan *pb.MetricsReport
	failed    *pb.Error
	// pace is called at every trigger.
	pace func()

	// submitted is the parallelism of the submitted graph, that of each attempt
	// if 0; spread then says what a vertex has in an attempt.
	submitted int
	spread    func(v *pb.Vertex, parallelism int) int
	// halts says, at each trigger, whether to rescale here, and hasty whether
	// to do so without a word of what became of the checkpoint.
	halts, hasty func() bool
	halted       bool // by the last checkpoint
	deployed     func()
	running      func()
	// followed is asked, for each worker and trigger, whether to give it the
	// splits that follow others before the trigger.
	followed func() bool
	assigned []*pb.SplitAssignment
	waiting  map[int]*pb.AssignSplits // not given yet, by worker
}

// testTiered says of which epochs state is tiered, with a budget of one byte.
var testTiered = func(epoch uint64) bool { return false }

// testPatience is what workers of the next master have. Tests that set it run
// alone.
var testPatience time.Duration

var errRescale = errors.New("the tasks have halted")

var errCrash = errors.New("the attempt was cancelled on purpose")

func newMaster(t *testing.T, build func() (*graph.Graph, error), bucket blob.Bucket, workers, inline int) *master {
	return newMasterWith(t, build, bucket, workers, inline, clock.System)
}

func clone(m *pb.Manifest) *pb.Manifest { return proto.CloneOf(m) }

func newMasterWith(t *testing.T, build func() (*graph.Graph, error), bucket blob.Bucket, workers, inline int, clk clock.Clock, change ...func(*Config)) *master {
	no, nothing := func() bool { return false }, func() {}
	m := &master{
		metrics: make(chan *pb.MetricsReport, 100), t: t, build: build, bucket: bucket, reports: make(chan sent, 1024),
		crash: no, pace: nothing, halts: no, hasty: no, deployed: nothing, running: nothing,
		followed: func() bool { return true },
		spread:   func(_ *pb.Vertex, parallelism int) int { return parallelism },
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for i := range workers {
		var listener *exchange.Listener
		m.address = append(m.address, &pb.WorkerAddress{WorkerId: fmt.Sprint("w", i)})
		if workers > 1 {
			var err error
			if listener, err = exchange.Listen("job", "127.0.0.1:0"); err != nil {
				t.Fatal(err)
			}
			m.address[i].DataAddress = listener.Address()
		}
		cfg := Config{
			Graph: build, Bucket: bucket, JobID: "job", JobName: "test", WorkerID: m.address[i].GetWorkerId(),
			DataListener: listener, InlineLimit: inline, Clock: clk, Patience: testPatience,
			Send: func(r *pb.WorkerReport) {
				if r.GetMetrics() == nil {
					m.reports <- sent{i, r}
					return
				}
				select {
				case m.metrics <- r.GetMetrics():
				default: // the test has seen enough
				}
			},
		}
		for _, f := range change {
			f(&cfg)
		}
		w, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		m.workers = append(m.workers, w)
		wg.Go(func() {
			if err := w.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	m.stop = func() { cancel(); wg.Wait() }
	return m
}

func (m *master) all(c *pb.WorkerCommand) {
	c.Epoch = m.epoch
	for _, w := range m.workers {
		w.Handle(c)
	}
}

func (m *master) first(c *pb.WorkerCommand) {
	c.Epoch = m.epoch
	m.workers[0].Handle(c)
}

// next returns the next report of this epoch, or errCrash.
func (m *master) next() (sent, error) {
	for {
		if m.crash() {
			return sent{}, errCrash
		}
		r := <-m.reports
		if r.GetEpoch() != m.epoch {
			continue
		}
		switch {
		case r.GetFailed() != nil:
			m.failed = r.GetFailed().GetError()
			return r, fmt.Errorf("task failed: %v", r.GetFailed())
		case r.GetDeclined() != nil:
			m.failed = r.GetDeclined().GetError()
			return r, fmt.Errorf("declined: %v", r.GetDeclined())
		case r.GetExhausted() != nil:
			m.exhausted[r.from] = true
		}
		return r, nil
	}
}

// await takes reports until each worker has sent one that is wanted.
func (m *master) await(n int, want func(sent) bool) error {
	for n > 0 {
		r, err := m.next()
		if err != nil {
			return err
		}
		if want(r) {
			n--
		}
	}
	return nil
}

func (m *master) operators(f func(v *pb.Vertex, o *pb.Operator) error) error {
	for _, v := range m.graph.GetVertices() {
		for _, o := range v.GetOperators() {
			if err := f(v, o); err != nil {
				return err
			}
		}
	}
	return nil
}

// handlesOf are a sink's handles in a manifest.
func handlesOf(man *pb.Manifest, uid string) (out []*pb.SinkHandle) {
	for _, s := range man.GetOperators() {
		for _, e := range s.GetEntries() {
			if s.GetUid() == uid && e.GetKind() == checkpoint.EntryHandle {
				out = append(out, &pb.SinkHandle{Subtask: s.GetSubtask(), Value: e.GetValue()})
			}
		}
	}
	return out
}

// attempt runs one epoch at a parallelism; it returns nil when the job has
// finished.
func (m *master) attempt(parallelism int) error {
	m.epoch++
	m.exhausted = map[int]bool{}
	g, err := m.build()
	if err != nil {
		return err
	}
	if m.graph, err = graph.Plan(g, cmp.Or(m.submitted, parallelism)); err != nil {
		return err
	}
	if m.submitted > 0 {
		m.graph = proto.CloneOf(m.graph)
		for _, v := range m.graph.GetVertices() {
			v.Parallelism = uint32(m.spread(v, parallelism))
		}
	}
	sources := 0
	for _, v := range m.graph.GetVertices() {
		if v.GetOperators()[0].GetSource() {
			sources = int(v.GetParallelism())
		}
	}
	keep := m.halted
	m.halted = false
	m.deployed()
	slots := make([]uint32, parallelism)
	for i := range slots {
		slots[i] = uint32(i % len(m.workers))
	}
	graph := m.graph
	if testTiered(m.epoch) {
		graph = proto.CloneOf(graph)
		graph.Config.StateBackend, graph.Config.StateMemoryBytes = "tiered", 1
	}
	for i, w := range m.workers {
		w.Handle(&pb.WorkerCommand{Epoch: m.epoch, Body: &pb.WorkerCommand_Deploy{Deploy: &pb.Deploy{
			PlanHash: m.graph.GetPlanHash(), Graph: graph, Workers: m.address, SlotWorker: slots, Self: uint32(i),
			RestoreCheckpoint: m.complete.GetCheckpointId(), Restore: m.complete.GetOperators(), Lineage: "job",
			StatePrefix: checkpoint.StatePrefix("job", m.epoch), RestoreGraph: m.complete.GetGraph(), KeepState: keep,
		}}})
	}
	start, err := m.roles()
	if err != nil {
		return err
	}
	m.assigned, m.waiting = start.GetSplits(), map[int]*pb.AssignSplits{}
	m.all(&pb.WorkerCommand{Body: &pb.WorkerCommand_Start{Start: start}})
	if err := m.await(len(m.workers), func(r sent) bool { return r.GetRunning() != nil }); err != nil {
		return err
	}
	m.running()
	for {
		// Only workers that have slots have sources.
		last := len(m.exhausted) == min(sources, len(m.workers))
		m.halted = !last && m.halts()
		if err := m.checkpoint(last); err != nil {
			m.halted = false
			return err
		}
		if m.halted {
			return errRescale
		}
		if last {
			m.all(&pb.WorkerCommand{Body: &pb.WorkerCommand_Finish{Finish: &pb.FinishTasks{}}})
			return m.await(len(m.workers), func(r sent) bool { return r.GetEnded() != nil })
		}
	}
}

// roles enumerates the sources and recovers the sinks while tasks deploy.
func (m *master) roles() (*pb.Start, error) {
	roles := 0
	start := &pb.Start{}
	err := m.operators(func(v *pb.Vertex, o *pb.Operator) error {
		switch {
		case o.GetSource():
			roles++
			cmd := &pb.Enumerate{Uid: o.GetUid(), Parallelism: v.GetParallelism()}
			var err error
			if cmd.Known, err = splitsOf(m.complete, o.GetUid()); err != nil {
				return err
			}
			m.first(&pb.WorkerCommand{Body: &pb.WorkerCommand_Enumerate{Enumerate: cmd}})
		case o.GetTransactionalSink():
			roles++
			m.first(&pb.WorkerCommand{Body: &pb.WorkerCommand_Recover{Recover: &pb.RecoverSink{
				Uid: o.GetUid(), CheckpointId: m.complete.GetCheckpointId(), Lineage: "job", Handles: handlesOf(m.complete, o.GetUid()),
			}}})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var failed error
	err = m.await(len(m.workers)+roles, func(r sent) bool {
		if e := r.GetEnumerated(); e != nil {
			start.Splits = append(start.Splits, e.GetSplits()...)
			if e.GetError() != nil {
				failed = fmt.Errorf("enumerate: %v", e.GetError())
			}
		}
		if e := r.GetCommitted().GetError(); e != nil {
			failed = fmt.Errorf("recover: %v", e)
		}
		return r.GetReady() != nil || r.GetEnumerated() != nil || r.GetCommitted() != nil
	})
	return start, errors.Join(err, failed)
}

func (m *master) checkpoint(last bool) error {
	m.id++
	m.pace()
	man := &pb.Manifest{CheckpointId: m.id, Epoch: m.epoch, Graph: m.graph, Savepoint: m.savepoint}
	cmd := &pb.TriggerCheckpoint{CheckpointId: m.id, Terminal: last, Savepoint: m.savepoint, Full: m.savepoint, Halt: m.halted}
	if m.savepoint {
		cmd.StatePrefix = fmt.Sprintf("savepoints/%d/state-", m.id)
	}
	for i := range m.workers {
		if m.followed() {
			m.giveFollowers(i)
		}
	}
	m.all(&pb.WorkerCommand{Body: &pb.WorkerCommand_Trigger{Trigger: cmd}})
	if !m.halted {
		for i := range m.workers {
			m.giveFollowers(i)
		}
	}
	err := m.await(len(m.workers), func(r sent) bool {
		if r.GetAck().GetCheckpointId() != m.id {
			return false
		}
		man.Operators = append(man.Operators, r.GetAck().GetOperators()...)
		return true
	})
	if err != nil {
		return err
	}
	m.complete = man
	for _, o := range man.GetOperators() {
		for _, e := range o.GetEntries() {
			if e.GetKind() == operator.KindInFlight {
				m.flights++
			}
		}
	}
	if m.crash() {
		return errCrash
	}
	if m.halted && m.hasty() {
		return nil
	}
	m.all(&pb.WorkerCommand{Body: &pb.WorkerCommand_Completed{Completed: &pb.CheckpointCompleted{CheckpointId: m.id}}})
	commits := 0
	_ = m.operators(func(_ *pb.Vertex, o *pb.Operator) error {
		if o.GetTransactionalSink() {
			commits++
			m.first(&pb.WorkerCommand{Body: &pb.WorkerCommand_Commit{Commit: &pb.CommitSink{
				Uid: o.GetUid(), CheckpointId: m.id, Lineage: "job", Handles: handlesOf(man, o.GetUid()),
			}}})
		}
		return nil
	})
	var failed error
	err = m.await(commits, func(r sent) bool {
		if e := r.GetCommitted().GetError(); e != nil {
			failed = fmt.Errorf("commit: %v", e)
		}
		return r.GetCommitted() != nil
	})
	if err := errors.Join(err, failed); err != nil || m.halted || last {
		return err
	}
	return m.follow()
}

// cancel ends the attempt, as after a failure.
func (m *master) cancel() {
	m.epoch++
	m.all(&pb.WorkerCommand{Body: &pb.WorkerCommand_Cancel{Cancel: &pb.CancelTasks{}}})
	m.crash = func() bool { return false }
	if err := m.await(len(m.workers), func(r sent) bool { return r.GetEnded() != nil }); err != nil {
		m.t.Fatal(err)
	}
}

// crashAfter makes the next attempt end at a random step.
func (m *master) crashAfter(steps int) {
	m.crash = func() bool {
		steps--
		return steps < 0
	}
}

// live runs the job to its end through a number of crashes, each attempt at a
// parallelism that the seed says.
func (m *master) live(rng *rand.Rand, crashes, maxParallelism int) {
	for {
		m.crash = func() bool { return false }
		if crashes > 0 {
			m.crashAfter(rng.IntN(24))
		}
		err := m.attempt(1 + rng.IntN(maxParallelism))
		switch {
		case err == nil:
			return
		case errors.Is(err, errCrash):
			crashes--
			m.cancel()
		default:
			m.t.Fatal(err)
		}
	}
}
