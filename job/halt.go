package job

import (
	"fmt"
	"slices"
	"time"

	"github.com/millrace/millrace/checkpoint"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// This chapter takes a rescale from its halt to its end, whichever that is.

// rescaleChecked: the checkpoint that a rescale waits for is complete, or will
// never be. A halt that completes is told by completed.
func (m *Master) rescaleChecked(a checkpoint.Answered) {
	r := &m.rescale
	switch {
	case a.Token != r.check:
	case r.step == rescaleEasing && a.Err == nil:
		m.halt()
	case r.step == rescaleEasing:
		m.abandonRescale(&pb.Error{Code: codeRescaleFailed, Message: fmt.Sprintf(
			"no checkpoint could be taken before the job was to halt, it goes on as it was: %s", a.Err.GetMessage())})
	case r.step == rescaleHalting && a.Err != nil && m.phase == phaseRunning:
		m.resume(&pb.Error{Code: codeRescaleFailed, Message: fmt.Sprintf(
			"the job could not halt at a checkpoint and goes on as it was: %s", a.Err.GetMessage())})
	}
}

// halted: the journal has the halt checkpoint, whose handles the recovery of the
// next attempt commits. Tasks stay as they are until Deploy takes over from them.
func (m *Master) halted() {
	r := &m.rescale
	m.checkpoints(checkpoint.Stopped{})
	m.seen.failed, m.seen.halted = time.Time{}, r.report.Halted
	r.report.Checkpoint = m.now.Sub(r.report.Halted)
	if r.lost != nil {
		m.resume(r.lost)
		return
	}
	for _, w := range m.attempt.workers {
		w.to(workerHalted, m.now)
	}
	r.to(rescaleRaising, m.now)
	m.raise = raise{halted: true}
	m.become(Restarting, nil)
	m.enter(phaseRaising)
}

// notRaised: the record of the epoch is not in the journal. If the attempt has
// failed meanwhile, or its slots are gone, the old parallelism it is.
func (m *Master) notRaised() {
	r := &m.rescale
	switch {
	case r.step != rescaleRaising:
	case m.phase == phaseRaising && r.lost != nil:
		m.resume(r.lost)
	case m.phase != phaseRaising:
		m.abandonRescale(&pb.Error{Code: codeRescaleFailed, Message: fmt.Sprintf("job %s failed before it was rescaled", m.job)})
	}
}

// inForce: the journal has an epoch with this parallelism.
func (m *Master) inForce(parallelism map[string]uint32) {
	r := &m.rescale
	m.record.Parallelism = parallelism
	m.graph = WithParallelism(m.record.GetSubmitted().GetGraph(), parallelism)
	m.roles = rolesOf(m.graph)
	switch r.step {
	case rescaleRaising:
		m.slots.held = r.slots // none, if a task manager of them was lost
	case rescaleNext:
	default:
		return // the job ends
	}
	r.report.Epoch = m.epoch
	r.to(rescaleMoving, m.now)
}

// rescaled: all tasks run with the new parallelism.
func (m *Master) rescaled() {
	r := &m.rescale
	if r.step != rescaleMoving {
		return
	}
	m.stopSpare()
	_, count := perTaskManager(m.slots.held)
	for _, w := range m.attempt.workers {
		m.resizeWorker(w, count[w.tm])
	}
	m.emit(KeepSlots{Slots: slices.Clone(m.slots.held)})
	r.report.Epoch = m.epoch
	if !r.report.Halted.IsZero() {
		r.report.Pause = m.now.Sub(r.report.Halted)
	}
	m.endRescale(nil)
}

// resume starts tasks that were to halt again, at the parallelism in force. It
// is no failure of the job.
func (m *Master) resume(err *pb.Error) {
	m.abandonRescale(err)
	m.stopCheckpoints(err)
	m.cancelTasks()
	if !m.ending.cancelBy.IsZero() {
		m.cancelNow()
		return
	}
	m.become(Restarting, nil)
	m.raise = raise{halted: true}
	m.restarts.at = m.now
	m.enter(phaseDelaying)
}

// abandonRescale gives up what was prepared; the job is as it was.
func (m *Master) abandonRescale(err *pb.Error) {
	if m.rescale.step == rescaleNone {
		return
	}
	if m.rescale.token != 0 && m.slots.held != nil {
		m.emit(KeepSlots{Slots: slices.Clone(m.slots.held)})
	}
	if m.rescale.step < rescaleMoving {
		m.stopSpare()
	}
	m.endRescale(err)
}

// endRescale answers the request.
func (m *Master) endRescale(err *pb.Error) {
	r := m.rescale
	if r.step == rescaleNone {
		return
	}
	m.rescale = rescaling{}
	r.report.Took, r.report.Err = m.now.Sub(r.report.Asked), err
	m.seen.rescaled(r.report)
	m.observe(r.report)
	if err != nil {
		m.answer(r.request, Result{}, ErrorOf(err))
		return
	}
	m.answer(r.request, Result{Parallelism: r.parallelism, Pause: r.report.Pause}, nil)
}

// failRescale: the attempt under way failed.
func (m *Master) failRescale(err *pb.Error) {
	switch s := m.rescale.step; {
	case s == rescaleRaising && m.raise.under:
		// The journal decides which parallelism is in force.
	case s == rescaleNext || s == rescaleMoving:
		// It restarts with the new one.
	default:
		m.abandonRescale(&pb.Error{Code: codeRescaleFailed, Message: fmt.Sprintf(
			"job %s failed before it was rescaled, and restarts as it was: %s", m.job, err.GetMessage())})
	}
}

// spareLost: a worker ended that runs no task of the attempt.
func (m *Master) spareLost(w *worker, err *pb.Error) {
	if s := m.rescale.step; s > rescaleNone && s < rescaleHalting {
		m.abandonRescale(&pb.Error{Code: codeRescaleFailed, Message: fmt.Sprintf(
			"worker %s on %s ended before job %s was rescaled, which goes on as it was: %s", w.id, w.tm, m.job, err.GetMessage())})
		return
	}
	m.note("worker without tasks is gone", "worker", w.id, "taskManager", w.tm, "err", err.GetMessage())
}

// targetLost: a task manager is gone that the job was to have slots of.
func (m *Master) targetLost(err *pb.Error) {
	r := &m.rescale
	failed := &pb.Error{Code: codeRescaleFailed, Message: fmt.Sprintf("job %s was to be rescaled and goes on as it was: %s", m.job, err.GetMessage())}
	switch {
	case r.step == rescaleNone || r.step >= rescaleNext && r.step != rescaleRaising:
	case r.step < rescaleHalting:
		m.abandonRescale(failed)
	case r.step == rescaleHalting:
		r.slots, r.lost = nil, failed
	case m.phase == phaseRaising && !m.raise.under:
		m.resume(failed)
	default:
		r.slots, r.lost = nil, failed // the journal decides
	}
}

// stopSpare ends the workers that have no part in the attempt.
func (m *Master) stopSpare() {
	for _, w := range m.sortedWorkers() {
		if w.state != workerStopping && !slices.Contains(m.attempt.workers, w) {
			m.stopWorker(w, m.cfg.CancelWait)
		}
	}
}

func (m *Master) resizeWorker(w *worker, slots int) {
	if w.slots != slots {
		w.slots = slots
		m.emit(ResizeWorker{TaskManager: w.tm, Worker: w.id, Slots: slots})
	}
}
