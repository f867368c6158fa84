package job

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	pb "github.com/millrace/millrace/proto/millrace/v1"

	"github.com/millrace/millrace/internal/planted"
)

// This chapter gets slots, raises the epoch and starts workers: one for each
// task manager that holds slots of the job, kept over attempts.

// slots is the chapter's own state.
type slots struct {
	// held[i] is the task manager of slot i; empty before a grant and after
	// one of them was lost.
	held []string
	// For people: what is free while the job waits.
	free, at int
	known    bool
}

// raise is the epoch on its way to the journal.
type raise struct {
	under   bool
	failed  *Exception // why the attempt before ended, if it failed
	halted  bool       // it was to change parallelism, which is no failure
	retryAt time.Time
}

type workerState uint8

const (
	workerStarting workerState = iota // StartWorker was sent
	workerIdle                        // no task runs
	workerBusy                        // Deploy was sent
	workerHalted                      // its tasks halted at a complete checkpoint
	workerEnding                      // CancelTasks or FinishTasks was sent
	workerStopping                    // StopWorker was sent
)

// worker is one process, or one stand-in for it.
type worker struct {
	id, tm  string
	slots   int
	state   workerState
	since   time.Time
	address string
	pid     int64
	began   time.Time
	// Of the attempt that it was deployed for.
	epoch     uint64
	ready     bool
	running   bool
	exhausted bool
	deployed  time.Time
}

func (w *worker) to(s workerState, now time.Time) { w.state, w.since = s, now }

const journalRetry = time.Second

func (m *Master) requestSlots() {
	m.slots = slots{}
	m.enter(phaseSlotting)
	m.emit(RequestSlots{N: m.slotsNeeded()})
}

func (m *Master) granted(ev SlotsGranted) {
	if m.phase != phaseSlotting {
		return // ended meanwhile; ReleaseSlots gives these back too
	}
	if n := m.slotsNeeded(); len(ev.Slots) != n {
		m.note("grant refused", "slots", len(ev.Slots), "wanted", n)
		m.emit(RequestSlots{N: n})
		return
	}
	m.slots.held = slices.Clone(ev.Slots)
	for _, w := range m.sortedWorkers() {
		if w.state != workerStopping && !slices.Contains(m.slots.held, w.tm) {
			m.stopWorker(w, m.cfg.CancelWait)
		}
	}
	m.enter(phaseRaising)
}

func (m *Master) advanceSlotting() {
	if m.state == Created && !m.now.Before(m.entered.Add(m.cfg.SlotWait)) {
		m.fail(failure{err: &pb.Error{Code: codeSlotsUnavailable, Message: fmt.Sprintf(
			"in %s job %s was not given %s: start another task manager, or lower the parallelism", m.cfg.SlotWait, m.job, m.slotsText())}, fatal: true})
	}
}

// slotsText says for people how many slots the job needs, and how many there are.
func (m *Master) slotsText() string {
	text := fmt.Sprintf("%d slots", m.slotsNeeded())
	if m.rescale.step == rescaleSlots {
		need := SlotsNeeded(m.rescale.graph)
		text = fmt.Sprintf("%d slots, %d more than it has", need, need-len(m.slots.held))
	}
	if m.slots.known {
		text += fmt.Sprintf(", %d free on %d task managers", m.slots.free, m.slots.at)
	}
	return text
}

// waiting says for people what the job waits for.
func (m *Master) waiting() string {
	switch m.phase {
	case phaseSlotting:
		return "waits for " + m.slotsText()
	case phaseDelaying:
		return fmt.Sprintf("restarts at %s", m.restarts.at.UTC().Format(time.RFC3339Nano))
	case phaseReading:
		if m.restoreKey() != "" {
			return "reads " + m.restoreKey()
		}
	case phaseRaising, phaseClosing:
		return "waits for the journal"
	case phaseLaunching:
		return "waits for workers"
	case phaseDeploying:
		return m.waitingDeploy()
	}
	if m.phase == phaseRunning {
		return cmp.Or(m.waitingRescale(), m.waitingCrossing())
	}
	return ""
}

// advanceRaising journals the next epoch: nothing of an attempt is sent before.
func (m *Master) advanceRaising() {
	if m.raise.under || m.now.Before(m.raise.retryAt) {
		return
	}
	next := max(m.epoch, m.cfg.EpochFloor)
	if m.restore != nil {
		next = max(next, m.restore.manifest.GetEpoch())
	}
	if planted.EpochNotChecked {
		next = m.epoch
	}
	next++
	m.raise.under, m.raise.retryAt = true, time.Time{}
	record := &pb.JobAttempt{JobId: m.job, Epoch: next, Rescaled: m.raise.halted}
	if s := m.rescale.step; s == rescaleRaising || s == rescaleNext {
		record.Parallelism = m.rescale.parallelism
	}
	if x := m.raise.failed; x != nil {
		record.Cause, record.FailedMs, record.VertexId, record.Task = x.Error, x.At.UnixMilli(), x.VertexID, x.Task
		record.Uncounted = x.Uncounted
	}
	m.write(&pb.JournalRecord{Body: &pb.JournalRecord_JobAttempt{JobAttempt: record}}, func(err error) { m.raised(record, err) })
}

func (m *Master) raised(record *pb.JobAttempt, err error) {
	epoch := record.GetEpoch()
	m.raise.under = false
	var taken *EpochTaken
	if errors.As(err, &taken) {
		m.note("epoch is taken", "epoch", epoch, "highest", taken.Highest)
		m.cfg.EpochFloor = max(m.cfg.EpochFloor, taken.Highest)
		m.notRaised()
		return
	}
	if err != nil {
		m.note("epoch not journalled", "epoch", epoch, "err", err.Error())
		m.raise.retryAt = m.now.Add(journalRetry)
		m.notRaised()
		return
	}
	switch {
	case record.GetRescaled() && len(record.GetParallelism()) > 0:
		m.record.Rescales++
	case record.GetRescaled():
	case m.record.Epoch > 0:
		m.record.Restarts++
	}
	m.record.Epoch = epoch
	if len(record.GetParallelism()) > 0 {
		m.inForce(record.GetParallelism())
	}
	if m.phase != phaseRaising {
		// The job was cancelled, or lost its slots, meanwhile. Survivors may
		// still carry the old epoch; it stays in use until the next raise.
		m.epoch = max(m.epoch, epoch)
		return
	}
	m.epoch = epoch
	m.raise = raise{}
	if m.slots.held == nil { // some of those for the new parallelism were lost
		m.raise.halted = record.GetRescaled()
		m.requestSlots()
		return
	}
	key := ""
	if m.restore != nil {
		key = m.restore.key
	}
	m.attempt = attempt{began: m.now}
	m.observe(AttemptStarted{Epoch: epoch, Restore: key})
	if m.state == Created {
		m.become(Initializing, nil)
	}
	m.enter(phaseLaunching)
}

// advanceLaunching has a worker at every task manager of the job and deploys
// once all are idle.
func (m *Master) advanceLaunching() {
	m.place()
	for _, w := range m.attempt.workers {
		if w.state == workerStarting && !m.now.Before(w.since.Add(m.cfg.WorkerWait)) {
			m.stopWorker(w, 0)
			m.fail(failure{worker: w, err: &pb.Error{
				Code:    codeWorkerUnresponsive,
				Message: fmt.Sprintf("worker %s on %s did not start within %s", w.id, w.tm, m.cfg.WorkerWait),
			}})
			return
		}
	}
	for _, w := range m.attempt.workers {
		if w.state != workerIdle && w.state != workerHalted {
			return
		}
	}
	if m.coord.Busy() {
		return
	}
	m.deploy()
}

// place chooses the attempt's workers, by their first slots.
func (m *Master) place() {
	tms, count := perTaskManager(m.slots.held)
	workers := make([]*worker, 0, len(tms))
	for _, tm := range tms {
		w := m.workerAt(tm)
		switch {
		case w == nil:
			w = m.startWorker(tm, count[tm])
		case w.slots < count[tm] || w.state != workerHalted:
			// One that halted still holds what it gives away.
			m.resizeWorker(w, count[tm])
		}
		workers = append(workers, w)
	}
	m.attempt.workers = workers
}

func (m *Master) workerAt(tm string) *worker {
	for _, w := range m.workers {
		if w.tm == tm && w.state != workerStopping {
			return w
		}
	}
	return nil
}

func (m *Master) startWorker(tm string, slots int) *worker {
	m.seq++
	w := &worker{id: fmt.Sprintf("%.8s-%d-%d", m.job, m.epoch, m.seq), tm: tm, slots: slots}
	w.to(workerStarting, m.now)
	m.workers[w.id] = w
	m.emit(StartWorker{TaskManager: tm, Worker: w.id, Slots: slots})
	return w
}

func (m *Master) stopWorker(w *worker, grace time.Duration) {
	w.to(workerStopping, m.now)
	m.emit(StopWorker{TaskManager: w.tm, Worker: w.id, Grace: grace})
}

// sortedWorkers are all workers in the order of their ids, so that equal
// events give equal actions.
func (m *Master) sortedWorkers() []*worker {
	ws := make([]*worker, 0, len(m.workers))
	for _, w := range m.workers {
		ws = append(ws, w)
	}
	slices.SortFunc(ws, func(a, b *worker) int {
		switch {
		case a.id < b.id:
			return -1
		case a.id > b.id:
			return 1
		}
		return 0
	})
	return ws
}

func (m *Master) workerStarted(ev WorkerStarted) {
	w := m.workers[ev.Worker]
	if w == nil || w.state != workerStarting {
		return
	}
	w.address, w.pid, w.began = ev.DataAddress, ev.PID, m.now
	w.to(workerIdle, m.now)
}

// killSlow ends workers whose tasks did not end in time.
func (m *Master) killSlow() {
	for _, w := range m.sortedWorkers() {
		if w.state == workerEnding && !m.now.Before(w.since.Add(m.cfg.CancelWait)) {
			m.note("worker killed: its tasks did not end", "worker", w.id, "after", m.cfg.CancelWait)
			m.stopWorker(w, 0)
		}
	}
}
