package job

import (
	"fmt"
	"maps"
	"slices"
	"time"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// This chapter ends a job on request: cancel, stop, drain. The request is in
// the journal before anything follows from it, so that another leader goes on.

const (
	howCancel = "cancel"
	howStop   = "stop"
	howDrain  = "drain"
)

// stopping is what the user asked for.
type stopping struct {
	record   *pb.JobStopping // as journalled, nil before
	under    string          // how, while it is being journalled
	requests []RequestID     // to answer at the job's end
	// The end positions of a drain: tips by source while they are gathered,
	// known once they are journalled.
	tips       map[string][]*pb.DrainPosition
	journaling bool
	drainKnown bool
	retryAt    time.Time
	tipsBy     time.Time
}

func (m *Master) cancelRequested(ev CancelRequested) {
	if m.phase == phaseEnding || m.phase == phaseClosing || m.stopping.record.GetHow() == howCancel {
		m.answer(ev.Request, Result{}, nil)
		return
	}
	m.stopping.under = howCancel
	record := &pb.JobStopping{JobId: m.job, How: howCancel}
	m.write(&pb.JournalRecord{Body: &pb.JournalRecord_JobStopping{JobStopping: record}}, func(err error) {
		m.stopping.under = ""
		if err != nil {
			m.answer(ev.Request, Result{}, errorf(codeBucketUnavailable, "cancel job %s: %v", m.job, err))
			return
		}
		m.answer(ev.Request, Result{}, nil)
		m.stopping.record = record
		m.cancel()
	})
}

// cancel ends the tasks, after a commit that is under way.
func (m *Master) cancel() {
	switch m.phase {
	case phaseFinishing, phaseEnding, phaseClosing, phaseOver:
		return
	case phaseRunning:
		if m.committing() {
			m.become(Cancelling, nil)
			m.ending.cancelBy = m.now.Add(m.cfg.CancelWait)
			return
		}
	}
	m.cancelNow()
}

func (m *Master) cancelNow() {
	m.ending.cancelBy = time.Time{}
	err := &pb.Error{Code: codeJobCanceled, Message: "the job was cancelled"}
	m.become(Cancelling, nil)
	m.stopCheckpoints(err)
	m.cancelTasks()
	m.end(Canceled, nil)
}

func (m *Master) stopRequested(ev StopRequested) {
	how := howStop
	if ev.Drain {
		how = howDrain
	}
	is := m.stopping.record.GetHow()
	if is == "" {
		is = m.stopping.under
	}
	switch {
	case is == how:
		m.stopping.requests = append(m.stopping.requests, ev.Request)
		return
	case is != "" || m.phase == phaseEnding || m.phase == phaseClosing:
		if is == "" {
			is = "end"
		}
		m.answer(ev.Request, Result{}, errorf(codeJobStopping, "job %s is already about to %s", m.job, is))
		return
	}
	m.stopping.under = how
	m.stopping.requests = append(m.stopping.requests, ev.Request)
	record := &pb.JobStopping{JobId: m.job, How: how, SavepointDirectory: ev.Directory}
	m.write(&pb.JournalRecord{Body: &pb.JournalRecord_JobStopping{JobStopping: record}}, func(err error) {
		if m.stopping.under == how {
			m.stopping.under = ""
		}
		switch {
		case err != nil:
			m.answerStops(Result{}, errorf(codeBucketUnavailable, "%s job %s: %v", how, m.job, err))
		case m.stopping.record.GetHow() != howCancel:
			m.stopping.record = record
			m.continueStop()
		}
	})
}

func (m *Master) answerStops(res Result, err error) {
	for _, r := range m.stopping.requests {
		m.answer(r, res, err)
	}
	m.stopping.requests = nil
}

// continueStop does what a journalled stop asks of an attempt that runs.
func (m *Master) continueStop() {
	if m.phase != phaseRunning || m.rescale.halting() { // the attempt after the halt goes on
		return
	}
	switch how := m.stopping.record.GetHow(); {
	case how != "" && m.attempt.exhausted:
		m.askTerminal(true) // as a savepoint, if it has not begun yet
	case how == howStop:
		m.attempt.exhausted = true
		m.askTerminal(false)
	case how == howDrain:
		if !m.stopping.drainKnown && m.stopping.tips == nil && !m.stopping.journaling {
			m.findTips()
		}
	}
}

// findTips asks where every split ends now.
func (m *Master) findTips() {
	m.stopping.tips = map[string][]*pb.DrainPosition{}
	m.stopping.tipsBy = m.now.Add(m.cfg.SinkWait)
	for _, uid := range m.roles.sources {
		f := &pb.FindTips{Uid: uid}
		for _, a := range m.attempt.splits[uid] {
			f.Splits = append(f.Splits, a.GetSplits()...)
		}
		m.send(m.first(), &pb.WorkerCommand{Body: &pb.WorkerCommand_FindTips{FindTips: f}})
	}
}

func (m *Master) tipsFound(t *pb.TipsFound) {
	s := &m.stopping
	if m.phase != phaseRunning || s.tips == nil || s.drainKnown || s.journaling || !slices.Contains(m.roles.sources, t.GetUid()) {
		return
	}
	if t.GetError() != nil {
		m.fail(failure{worker: m.first(), vertex: m.roles.vertexOf[t.GetUid()], err: t.GetError()})
		return
	}
	if s.tips[t.GetUid()] == nil {
		s.tips[t.GetUid()] = append([]*pb.DrainPosition{}, t.GetTips()...)
	}
	if len(s.tips) == len(m.roles.sources) {
		m.journalDrain()
	}
}

// journalDrain makes the end positions durable; only then are they obeyed.
func (m *Master) journalDrain() {
	s := &m.stopping
	d := &pb.JobDraining{JobId: m.job}
	for _, uid := range slices.Sorted(maps.Keys(s.tips)) {
		d.Positions = append(d.Positions, s.tips[uid]...)
	}
	s.journaling, s.retryAt, s.tipsBy = true, time.Time{}, time.Time{}
	m.write(&pb.JournalRecord{Body: &pb.JournalRecord_JobDraining{JobDraining: d}}, func(err error) {
		s.journaling = false
		if err != nil {
			m.note("drain not journalled", "err", err.Error(), "retry", journalRetry)
			s.tips, s.retryAt = nil, m.now.Add(journalRetry)
			return
		}
		s.drainKnown, s.tips = true, nil
		m.record.Drain = d.GetPositions()
		if m.phase == phaseRunning {
			m.sendAll(&pb.WorkerCommand{Body: &pb.WorkerCommand_DrainTo{DrainTo: &pb.DrainTo{Positions: d.GetPositions()}}})
		}
	})
}

// tickDrain repeats what failed and gives up on sources that hang.
func (m *Master) tickDrain() {
	if by := m.stopping.tipsBy; !by.IsZero() && !m.now.Before(by) {
		m.fail(failure{worker: m.first(), err: &pb.Error{
			Code:    codeWorkerUnresponsive,
			Message: fmt.Sprintf("sources did not say within %s where their splits end", m.cfg.SinkWait),
		}})
		return
	}
	if !m.stopping.retryAt.IsZero() && !m.now.Before(m.stopping.retryAt) {
		m.stopping.retryAt = time.Time{}
		m.continueStop()
	}
}
