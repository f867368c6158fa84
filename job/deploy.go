package job

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/checkpoint"
	"github.com/millrace/millrace/internal/planted"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// This chapter takes an attempt from Deploy to running tasks.

// attempt is what is known of the attempt under way.
type attempt struct {
	began   time.Time
	started time.Time // Start was sent
	workers []*worker
	// slotWorker[i] is the index in workers that holds slot i.
	slotWorker []uint32
	restore    *restorePoint
	splits     map[string][]*pb.SplitAssignment // by source uid, once enumerated
	following  map[string]*following            // by source uid, while it enumerates again
	crossing   map[string][]string              // by source uid: see Master.crossing
	recovered  map[string]bool                  // by sink uid
	failed     map[taskKey]bool
	exhausted  bool // the terminal checkpoint was asked for
	output     bool // FirstOutput was seen
}

type taskKey struct {
	vertex  string
	subtask uint32
}

func (m *Master) deploy() {
	a := &m.attempt
	a.restore = m.restore
	a.following, a.crossing = map[string]*following{}, map[string][]string{}
	a.splits, a.recovered, a.failed = map[string][]*pb.SplitAssignment{}, map[string]bool{}, map[taskKey]bool{}
	var addresses []*pb.WorkerAddress
	index := map[string]uint32{}
	for i, w := range a.workers {
		addresses = append(addresses, &pb.WorkerAddress{WorkerId: w.id, DataAddress: w.address})
		index[w.tm] = uint32(i)
	}
	a.slotWorker = make([]uint32, len(m.slots.held))
	for i, tm := range m.slots.held {
		a.slotWorker[i] = index[tm]
	}
	m.enter(phaseDeploying)
	// Whatever ends an attempt cancels tasks that halted: where some are left,
	// it was at the restored checkpoint.
	keep := slices.ContainsFunc(a.workers, func(w *worker) bool { return w.state == workerHalted })
	for i, w := range a.workers {
		w.to(workerBusy, m.now)
		w.epoch, w.ready, w.running, w.exhausted, w.deployed = m.epoch, false, false, false, m.now
		d := &pb.Deploy{
			PlanHash: m.graph.GetPlanHash(), Graph: m.graph, Workers: addresses, SlotWorker: a.slotWorker, Self: uint32(i),
			Lineage: m.lineageID, StatePrefix: checkpoint.StatePrefix(m.job, m.epoch),
			AllowUnmatchedState: m.record.GetSubmitted().GetAllowUnmatchedState(), KeepState: keep,
		}
		if a.restore != nil {
			d.RestoreCheckpoint = a.restore.manifest.GetCheckpointId()
			d.Restore = restoreFor(a.restore.manifest, m.roles.vertexOf, m.slotsOf(i))
			d.RestoreGraph = a.restore.manifest.GetGraph()
			d.Drained = a.restore.manifest.GetDrained()
		}
		m.send(w, &pb.WorkerCommand{Body: &pb.WorkerCommand_Deploy{Deploy: d}})
	}
	if m.callSources(); m.phase != phaseDeploying {
		return
	}
	for _, uid := range m.roles.sinks {
		handles := m.restoredHandles(uid)
		if planted.RecoveryCommitsNothing {
			handles = nil
		}
		m.call(uid, m.restoredID(), handles, true)
	}
}

// slotsOf are the slots that the worker with this index holds.
func (m *Master) slotsOf(worker int) []int {
	var s []int
	for i, w := range m.attempt.slotWorker {
		if int(w) == worker {
			s = append(s, i)
		}
	}
	return s
}

// first is the worker of slot 0, where sources are enumerated and sinks commit.
func (m *Master) first() *worker { return m.attempt.workers[m.attempt.slotWorker[0]] }

func (m *Master) restoredID() uint64 {
	if m.attempt.restore == nil {
		return 0
	}
	return m.attempt.restore.manifest.GetCheckpointId()
}

func (m *Master) restoredHandles(uid string) []*pb.SinkHandle {
	if m.attempt.restore == nil {
		return nil
	}
	return handlesOf(m.attempt.restore.manifest, uid)
}

// callSources has every source list its splits, unless the job only has to
// commit its last checkpoint.
func (m *Master) callSources() {
	if m.lastCommitOnly() {
		return
	}
	for _, uid := range m.roles.sources {
		e := &pb.Enumerate{Uid: uid, Parallelism: m.roles.vertexOf[uid].GetParallelism()}
		if m.attempt.restore != nil {
			known, err := splitsOf(m.attempt.restore.manifest, uid)
			if err != nil {
				m.fail(failure{err: protoError(err), fatal: true})
				return
			}
			e.Known = known
		}
		m.send(m.first(), &pb.WorkerCommand{Body: &pb.WorkerCommand_Enumerate{Enumerate: e}})
	}
}

// lastCommitOnly: the restored checkpoint was to be the job's last; nothing
// runs any more, its sinks only have to commit.
func (m *Master) lastCommitOnly() bool {
	return m.attempt.restore != nil && m.attempt.restore.terminal
}

func (m *Master) enumerated(e *pb.Enumerated) {
	v := m.roles.vertexOf[e.GetUid()]
	if m.phase == phaseRunning {
		m.followersFound(e)
		return
	}
	if m.phase != phaseDeploying || v == nil || !slices.Contains(m.roles.sources, e.GetUid()) || m.attempt.splits[e.GetUid()] != nil {
		return
	}
	if e.GetError() != nil {
		m.fail(failure{worker: m.first(), err: e.GetError(), vertex: v})
		return
	}
	splits := make([]*pb.SplitAssignment, 0, len(e.GetSplits()))
	for _, s := range e.GetSplits() {
		if s.GetSubtask() >= v.GetParallelism() || s.GetUid() != e.GetUid() {
			m.fail(failure{worker: m.first(), vertex: v, err: &pb.Error{
				Code:    codeInternal,
				Message: fmt.Sprintf("source %q assigned splits to subtask %d of %q, it has %d", e.GetUid(), s.GetSubtask(), s.GetUid(), v.GetParallelism()),
			}})
			return
		}
		splits = append(splits, s)
	}
	m.attempt.splits[e.GetUid()] = splits
}

func (m *Master) waitingDeploy() string {
	var what []string
	for _, w := range m.attempt.workers {
		if !w.ready {
			what = append(what, "worker "+w.id)
		}
	}
	for _, uid := range m.roles.sources {
		if m.attempt.splits[uid] == nil && !m.lastCommitOnly() {
			what = append(what, "splits of "+uid)
		}
	}
	for _, uid := range m.roles.sinks {
		if !m.attempt.recovered[uid] {
			what = append(what, "recovery of sink "+uid)
		}
	}
	return "waits for " + strings.Join(what, ", ")
}

func (m *Master) advanceDeploying() {
	a := &m.attempt
	for _, w := range a.workers {
		if !w.ready {
			m.checkDeployWait()
			return
		}
	}
	if len(a.recovered) < len(m.roles.sinks) {
		return // its calls have time limits of their own
	}
	if m.lastCommitOnly() {
		m.finish(&pb.WorkerCommand{Body: &pb.WorkerCommand_Cancel{Cancel: &pb.CancelTasks{}}})
		return
	}
	if len(a.splits) < len(m.roles.sources) {
		m.checkDeployWait()
		return
	}
	for i, w := range a.workers {
		s := &pb.Start{Drain: m.record.GetDrain()}
		for _, uid := range m.roles.sources {
			for _, split := range a.splits[uid] {
				if int(a.slotWorker[split.GetSubtask()]) == i {
					s.Splits = append(s.Splits, split)
				}
			}
		}
		m.send(w, &pb.WorkerCommand{Body: &pb.WorkerCommand_Start{Start: s}})
	}
	a.started = m.now
	m.seen.started(m.now)
	m.become(Running, nil)
	m.enter(phaseStarting)
}

func (m *Master) checkDeployWait() {
	if m.now.Before(m.entered.Add(m.cfg.DeployWait)) {
		return
	}
	m.fail(failure{err: &pb.Error{
		Code:    codeWorkerUnresponsive,
		Message: fmt.Sprintf("deployment %s for %s", m.waitingDeploy(), m.cfg.DeployWait),
	}})
}

func (m *Master) advanceStarting() {
	for _, w := range m.attempt.workers {
		if !w.running {
			m.checkDeployWait()
			return
		}
	}
	m.enter(phaseRunning)
	r := AttemptRunning{Epoch: m.epoch, Deploy: m.attempt.started.Sub(m.attempt.began)}
	if !m.seen.failed.IsZero() {
		r.Recovery = m.attempt.started.Sub(m.seen.failed)
	}
	m.observe(r)
	ev := checkpoint.Started{Epoch: m.epoch, Subtasks: subtasks(m.graph), Full: m.attempt.restore.full(), Graph: m.graph}
	for _, w := range m.attempt.workers {
		ev.Workers = append(ev.Workers, w.id)
	}
	if p := m.attempt.restore; p != nil {
		ev.Restored = &checkpoint.Restored{
			ID: checkpoint.ID(p.manifest.GetCheckpointId()), At: m.now,
			Savepoint: p.manifest.GetSavepoint(), Path: checkpoint.PathOf(p.key),
		}
	}
	m.checkpoints(ev)
	m.rescaled()
	m.stopping.tips, m.stopping.tipsBy = nil, time.Time{} // of an earlier attempt
	m.continueStop()
	queue := m.queued
	m.queued = nil
	for _, q := range queue {
		m.savepointRequested(q.id, q.request)
	}
}

// reported takes in what a worker says. Only workers of the attempt are
// heard, and of others the end of their tasks.
func (m *Master) reported(ev WorkerReported) {
	w := m.workers[ev.Worker]
	if w == nil || w.epoch != ev.Report.GetEpoch() {
		return
	}
	if _, ok := ev.Report.GetBody().(*pb.WorkerReport_Ended); ok {
		if w.state == workerEnding {
			w.to(workerIdle, m.now)
		}
		return
	}
	if w.state != workerBusy || w.epoch != m.epoch {
		return
	}
	switch r := ev.Report.GetBody().(type) {
	case *pb.WorkerReport_Ready:
		w.ready = true
	case *pb.WorkerReport_Running:
		w.running = m.phase == phaseStarting || w.running
	case *pb.WorkerReport_Failed:
		m.taskFailed(w, r.Failed)
	case *pb.WorkerReport_Exhausted:
		w.exhausted = true
	case *pb.WorkerReport_FirstOutput:
		m.firstOutput()
	case *pb.WorkerReport_Enumerated:
		if w == m.first() {
			m.enumerated(r.Enumerated)
		}
	case *pb.WorkerReport_Committed:
		if w == m.first() {
			m.committed(r.Committed)
		}
	case *pb.WorkerReport_Tips:
		if w == m.first() {
			m.tipsFound(r.Tips)
		}
	case *pb.WorkerReport_Ack:
		m.checkpoints(checkpoint.Acked{Worker: w.id, Epoch: w.epoch, Ack: r.Ack})
	case *pb.WorkerReport_Declined:
		m.checkpoints(checkpoint.Declined{
			Worker: w.id, Epoch: w.epoch, ID: checkpoint.ID(r.Declined.GetCheckpointId()), Err: r.Declined.GetError(),
		})
	case *pb.WorkerReport_Held:
		m.checkpoints(checkpoint.Held{})
	}
}

func (m *Master) firstOutput() {
	if m.attempt.output {
		return
	}
	m.attempt.output = true
	m.observe(FirstOutput{Epoch: m.epoch, Since: m.seen.output(m.now)})
}
