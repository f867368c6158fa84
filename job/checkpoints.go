package job

import (
	"github.com/millrace/millrace/checkpoint"
	"github.com/millrace/millrace/internal/planted"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// This chapter carries out what the checkpoint coordinator decides.

// checkpoints tells the coordinator something and does what it says.
func (m *Master) checkpoints(ev checkpoint.Event) {
	if m.coord == nil {
		return
	}
	for _, a := range m.coord.Step(ev, m.now) {
		switch a := a.(type) {
		case checkpoint.Trigger:
			m.observe(CheckpointBegan{Stats: a.Stats})
			if a.Command.GetHalt() {
				m.rescale.report.Halted = m.now
			}
			m.sendAll(&pb.WorkerCommand{Body: &pb.WorkerCommand_Trigger{Trigger: a.Command}})
		case checkpoint.Write:
			if planted.CommitBeforeCompletion {
				for _, uid := range m.roles.sinks {
					m.call(uid, uint64(a.ID), handlesOf(a.Manifest, uid), false)
				}
			}
			t := m.token()
			m.manifest[t] = a.ID
			m.emit(WriteManifest{Token: t, Key: a.Key, Manifest: a.Manifest})
		case checkpoint.Journal:
			id := checkpoint.ID(a.Done.GetCheckpointId())
			m.write(&pb.JournalRecord{Body: &pb.JournalRecord_CheckpointDone{CheckpointDone: a.Done}}, func(err error) {
				m.checkpoints(checkpoint.Journaled{ID: id, Err: err})
			})
		case checkpoint.Complete:
			m.completed(a)
		case checkpoint.Abort:
			m.observe(CheckpointEnded{Stats: a.Stats})
			if a.Live && m.phase == phaseRunning {
				m.sendAll(&pb.WorkerCommand{Body: &pb.WorkerCommand_Aborted{Aborted: &pb.CheckpointAborted{
					CheckpointId: uint64(a.ID), Reason: a.Err.GetMessage(),
				}}})
			}
		case checkpoint.Delete:
			m.emit(DeleteObjects{Keys: a.Keys})
		case checkpoint.List:
			m.emit(ListObjects{Prefix: a.Prefix})
		case checkpoint.Answered:
			m.answerCheckpoint(a)
		case checkpoint.GiveUp:
			m.fail(failure{err: a.Err})
		}
	}
}

// completed: the journal has the checkpoint. It is what the next attempt
// restores; if the present one lives, it is told and its sinks commit.
func (m *Master) completed(a checkpoint.Complete) {
	m.record.Latest = a.Done
	m.restore = &restorePoint{key: a.Done.GetManifest(), manifest: a.Manifest, terminal: a.Done.GetTerminal()}
	m.observe(CheckpointEnded{Stats: a.Stats})
	if !a.Live || m.phase != phaseRunning {
		return
	}
	m.sendAll(&pb.WorkerCommand{Body: &pb.WorkerCommand_Completed{Completed: &pb.CheckpointCompleted{
		CheckpointId: a.Done.GetCheckpointId(),
	}}})
	if a.Halt && m.rescale.halting() && m.ending.cancelBy.IsZero() {
		m.halted()
		return
	}
	for _, uid := range m.roles.sinks {
		m.call(uid, a.Done.GetCheckpointId(), handlesOf(a.Manifest, uid), false)
	}
	m.followSplits(a.Manifest)
}

// advanceRunning: with the last commit acknowledged the next checkpoint may
// begin, or the job may end.
func (m *Master) advanceRunning() {
	if !m.ending.cancelBy.IsZero() && (!m.committing() || !m.now.Before(m.ending.cancelBy)) {
		m.cancelNow()
		return
	}
	if latest := m.record.GetLatest(); len(m.calls) == 0 && latest != nil {
		m.checkpoints(checkpoint.Committed{ID: checkpoint.ID(latest.GetCheckpointId())})
		if latest.GetTerminal() && m.phase == phaseRunning {
			m.finish(&pb.WorkerCommand{Body: &pb.WorkerCommand_Finish{Finish: &pb.FinishTasks{}}})
		}
	}
	if m.phase != phaseRunning {
		return
	}
	if m.tickDrain(); m.phase != phaseRunning {
		return
	}
	if !m.attempt.exhausted && m.sourcesExhausted() && !m.rescale.halting() {
		m.attempt.exhausted = true
		m.askTerminal(true)
	}
	m.advanceRescale()
}

// committing says that a completed checkpoint of the running attempt is, or
// may be about to be, on its way into sinks.
func (m *Master) committing() bool { return len(m.calls) > 0 || m.coord.Busy() }

// sourcesExhausted: every worker with a source subtask has reached the end of
// input.
func (m *Master) sourcesExhausted() bool {
	for slot, i := range m.attempt.slotWorker {
		if slot < m.roles.sourceSlots && !m.attempt.workers[i].exhausted {
			return false
		}
	}
	return true
}

// askTerminal asks for the job's last checkpoint: a savepoint if the job was
// stopped by its user.
func (m *Master) askTerminal(drained bool) {
	r := checkpoint.Request{Terminal: true, Drained: drained}
	if s := m.stopping.record; s != nil && s.GetHow() != howCancel {
		r.Savepoint, r.Directory = true, s.GetSavepointDirectory()
	}
	m.checkpoints(checkpoint.Asked{Request: r})
}

func (m *Master) savepointRequested(id RequestID, r checkpoint.Request) {
	paused := m.rescale.halting() || m.rescale.step >= rescaleRaising && m.phase >= phaseRaising && m.phase < phaseRunning
	if m.coord == nil || m.phase != phaseRunning && m.phase != phaseStarting && !paused {
		m.answer(id, Result{}, errorf(codeJobNotRunning, "job %s is %s: a checkpoint needs running tasks", m.job, m.state))
		return
	}
	if m.phase == phaseStarting || paused {
		m.queued = append(m.queued, queued{id, r})
		return
	}
	m.checkpoints(checkpoint.Asked{Request: m.withToken(id, r)})
}

// queued is a request that waits for the tasks to run.
type queued struct {
	id      RequestID
	request checkpoint.Request
}

// withToken numbers a request for the coordinator, for which 0 is none.
func (m *Master) withToken(id RequestID, r checkpoint.Request) checkpoint.Request {
	r.Token = uint64(id) + 1
	return r
}

func (m *Master) answerCheckpoint(a checkpoint.Answered) {
	if a.Token >= internalTokens {
		m.rescaleChecked(a)
		return
	}
	id := RequestID(a.Token - 1)
	if a.Err != nil {
		m.answer(id, Result{}, ErrorOf(a.Err))
		return
	}
	m.answer(id, Result{CheckpointID: uint64(a.ID), Path: checkpoint.PathOf(a.Path)}, nil)
}
