package job

import (
	"fmt"
	"time"

	"github.com/millrace/millrace/checkpoint"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// This chapter ends a job: tasks first, then the journal, then everything
// that it held.

// ending is the chapter's own state.
type ending struct {
	state State // to end in
	err   *pb.Error
	// needless: nobody will start from the job's checkpoints.
	needless bool
	// cancelBy: a cancel waits for a commit, at most until then.
	cancelBy time.Time
	under    bool
	retryAt  time.Time
	at       time.Time
}

// finish ends the tasks after the last commit.
func (m *Master) finish(c *pb.WorkerCommand) {
	m.stopCheckpoints(nil)
	m.stopSpare()
	for _, w := range m.attempt.workers {
		w.to(workerEnding, m.now)
		m.send(w, &pb.WorkerCommand{Body: c.GetBody()})
	}
	m.enter(phaseFinishing)
}

func (m *Master) advanceFinishing() {
	if m.quiet() {
		m.close(Finished, nil)
	}
}

// end waits for tasks to end before the job does.
func (m *Master) end(s State, err *pb.Error) {
	m.ending.state, m.ending.err = s, err
	m.stopSpare()
	m.endRescale(&pb.Error{Code: codeJobEnded, Message: fmt.Sprintf("job %s ends before it was rescaled", m.job)})
	m.enter(phaseEnding)
}

func (m *Master) advanceEnding() {
	if m.quiet() {
		m.close(m.ending.state, m.ending.err)
	}
}

// quiet says that no task of the job runs at a worker that is still there.
func (m *Master) quiet() bool {
	for _, w := range m.workers {
		if w.state == workerBusy || w.state == workerHalted || w.state == workerEnding {
			return false
		}
	}
	return true
}

// close journals the end.
func (m *Master) close(s State, err *pb.Error) {
	m.ending.state, m.ending.err, m.ending.at = s, err, m.now
	// A failed job's checkpoints stay, for a new one to start from, and those
	// of which sinks have yet to commit something.
	m.ending.needless = s == Finished || s == Canceled && !m.uncommitted()
	m.enter(phaseClosing)
}

func (m *Master) advanceClosing() {
	e := &m.ending
	if e.under || m.now.Before(e.retryAt) {
		return
	}
	e.under, e.retryAt = true, time.Time{}
	m.write(&pb.JournalRecord{Body: &pb.JournalRecord_JobEnded{JobEnded: &pb.JobEnded{
		JobId: m.job, State: e.state.String(), Error: e.err, EndedMs: e.at.UnixMilli(), Needless: e.needless,
	}}}, m.closed)
}

func (m *Master) closed(err error) {
	e := &m.ending
	e.under = false
	if err != nil {
		m.note("end not journalled", "err", err.Error(), "retry", journalRetry)
		e.retryAt = m.now.Add(journalRetry)
		return
	}
	m.become(e.state, e.err)
	m.enter(phaseOver)
	for _, w := range m.sortedWorkers() {
		if w.state != workerStopping {
			m.stopWorker(w, m.cfg.CancelWait)
		}
	}
	m.emit(ReleaseSlots{})
	if e.needless {
		m.emit(DeleteObjects{Prefixes: []string{checkpoint.JobPrefix(m.job)}})
	}
	m.answerEnd()
}

// uncommitted says that the latest checkpoint holds output that some sink is
// not known to have committed.
func (m *Master) uncommitted() bool {
	latest := m.record.GetLatest()
	return latest != nil && len(m.roles.sinks) > 0 && latest.GetCheckpointId() != m.committedID
}

// answerEnd answers the stops: with the last checkpoint, or why there is none.
func (m *Master) answerEnd() {
	switch latest := m.record.GetLatest(); {
	case m.ending.state == Finished && latest != nil:
		res := Result{CheckpointID: latest.GetCheckpointId()}
		if latest.GetSavepoint() {
			res.Path = checkpoint.PathOf(latest.GetManifest())
		}
		m.answerStops(res, nil)
	case m.ending.state == Canceled:
		m.answerStops(Result{}, errorf(codeJobCanceled, "job %s was cancelled", m.job))
	default:
		m.answerStops(Result{}, errorf(codeSavepointFailed, "job %s failed: %s", m.job, m.ending.err.GetMessage()))
	}
}
