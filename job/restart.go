package job

import (
	"fmt"
	"math"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/checkpoint"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// This chapter is about failures: what ends an attempt, and when the next
// begins.

// failure is why an attempt ends.
type failure struct {
	err     *pb.Error
	worker  *worker
	vertex  *pb.Vertex
	subtask uint32
	// fatal: a restart cannot mend it.
	fatal bool
	// uncounted: it is no fault, and the restart strategy has no say.
	uncounted bool
}

// restarts counts failures and says when the next restart is due.
type restarts struct {
	strategy *pb.RestartStrategy
	inRow    uint32
	// recent are the failures that the rate is about, oldest first.
	recent []time.Time
	at     time.Time
	// closed counts, by shard, the attempts that ended because it gave way to
	// others.
	closed map[string]int
}

// Defaults of a restart strategy.
const (
	defaultInitialDelay = 100 * time.Millisecond
	defaultMaxDelay     = time.Minute
	defaultMultiplier   = 2
	defaultReset        = 10 * time.Second
	defaultRateInterval = time.Minute
)

// A shard that the job writes exactly once and that gives way to others ends the
// attempt, whose successor knows those. It costs one restart, or some where a host
// hears of the change late; more often than that is a failure.
const (
	closedMost  = 5
	closedDelay = 100 * time.Millisecond // before the second, doubled from there
)

func strategyOf(s *pb.RestartStrategy) *pb.RestartStrategy {
	r := &pb.RestartStrategy{
		Kind: s.GetKind(), InitialDelayMs: s.GetInitialDelayMs(), MaxDelayMs: s.GetMaxDelayMs(),
		Multiplier: s.GetMultiplier(), ResetMs: s.GetResetMs(), MaxAttempts: s.GetMaxAttempts(), RateIntervalMs: s.GetRateIntervalMs(),
	}
	if r.Kind == pb.RestartStrategy_KIND_UNSPECIFIED {
		r.Kind = pb.RestartStrategy_KIND_EXPONENTIAL
	}
	if r.InitialDelayMs <= 0 {
		r.InitialDelayMs = defaultInitialDelay.Milliseconds()
	}
	if r.MaxDelayMs <= 0 {
		r.MaxDelayMs = defaultMaxDelay.Milliseconds()
	}
	if r.Multiplier < 1 {
		r.Multiplier = defaultMultiplier
	}
	if r.ResetMs <= 0 {
		r.ResetMs = defaultReset.Milliseconds()
	}
	if r.RateIntervalMs <= 0 {
		r.RateIntervalMs = defaultRateInterval.Milliseconds()
	}
	return r
}

// next says how long to wait before the next restart, or that there is none.
// ran is how long the failed attempt ran.
func (r *restarts) next(ran time.Duration, now time.Time) (time.Duration, bool) {
	s := r.strategy
	initial := time.Duration(s.GetInitialDelayMs()) * time.Millisecond
	switch s.GetKind() {
	case pb.RestartStrategy_KIND_NONE:
		return 0, false
	case pb.RestartStrategy_KIND_RATE:
		return initial, r.within(now)
	}
	if ran >= time.Duration(s.GetResetMs())*time.Millisecond {
		r.inRow = 0
	}
	if s.GetMaxAttempts() > 0 && r.inRow >= s.GetMaxAttempts() {
		return 0, false
	}
	r.inRow++
	if s.GetKind() == pb.RestartStrategy_KIND_FIXED {
		return initial, true
	}
	if r.inRow == 1 {
		return 0, true
	}
	most := float64(s.GetMaxDelayMs()) * float64(time.Millisecond)
	return time.Duration(min(float64(initial)*math.Pow(s.GetMultiplier(), float64(r.inRow-2)), most)), true
}

// follows says how long to wait before the restart of an attempt that a closed
// shard refused, or that it was refused there too often for that to be no
// failure.
func (r *restarts) follows(shard string) (time.Duration, bool) {
	if r.closed[shard] >= closedMost {
		return 0, false
	}
	r.refusedBy(shard)
	if r.closed[shard] == 1 {
		return 0, true
	}
	return closedDelay << (r.closed[shard] - 2), true
}

func (r *restarts) refusedBy(shard string) {
	if r.closed == nil {
		r.closed = map[string]int{}
	}
	r.closed[shard]++
}

// within notes a failure and says whether there are no more of them in an
// interval than the rate allows. A failure counts for an interval that begins
// with it and does not hold its end.
func (r *restarts) within(now time.Time) bool {
	most := int(r.strategy.GetMaxAttempts())
	if most == 0 {
		return true
	}
	interval := time.Duration(r.strategy.GetRateIntervalMs()) * time.Millisecond
	r.recent = slices.DeleteFunc(r.recent, func(at time.Time) bool { return now.Sub(at) >= interval })
	if len(r.recent) >= most {
		return false
	}
	r.recent = append(r.recent, now)
	return true
}

// spent says why there is no further restart.
func (r *restarts) spent() string {
	s := r.strategy
	switch s.GetKind() {
	case pb.RestartStrategy_KIND_NONE:
		return "the restart strategy is none: the first failure ends the job"
	case pb.RestartStrategy_KIND_RATE:
		return fmt.Sprintf("restart strategy failure-rate: %d failures within %s, at most %d are allowed",
			len(r.recent)+1, showTime(s.GetRateIntervalMs()), s.GetMaxAttempts())
	}
	return fmt.Sprintf("restart strategy %s: failure %d in a row, at most %d restarts are allowed",
		strategyNames[s.GetKind()], r.inRow+1, s.GetMaxAttempts())
}

// fail ends the attempt under way, if there is one, and decides what follows.
func (m *Master) fail(f failure) {
	switch m.phase {
	case phaseDelaying, phaseSlotting, phaseEnding, phaseClosing, phaseOver:
		// Nothing of the job runs that could fail: a straggler's report, or
		// (slotting) the end of the wait for slots.
		if m.phase != phaseSlotting || !f.fatal {
			return
		}
	case phaseFinishing:
		// The last commit is acknowledged: only the tasks' end was awaited.
		return
	}
	if m.takenOver(f) {
		f.fatal = true
		f.err = &pb.Error{
			Code: codeStaleEpoch, Operator: f.err.GetOperator(), Subtask: f.err.GetSubtask(), Stack: f.err.GetStack(),
			Message: fmt.Sprintf("the output of job %s was taken over: something else writes with its lineage %s and an epoch above %d, the highest of this cluster's journal "+
				"(a copy of the bucket that another cluster runs?): %s", m.job, m.lineageID, m.epoch, f.err.GetMessage()),
		}
	}
	delay, again := m.follow(&f)
	x := m.exception(f)
	if m.seen.failed.IsZero() || m.phase == phaseRunning {
		m.seen.failed = m.now
	}
	var ran time.Duration
	if m.phase == phaseRunning {
		ran = m.now.Sub(m.entered)
	}
	if !again && !f.fatal && !fatal[f.err.GetCode()] {
		delay, again = m.restarts.next(ran, m.now)
		if !again {
			f.err = &pb.Error{
				Code:     codeRestartsExhausted,
				Message:  m.restarts.spent() + "; the last: " + f.err.GetMessage(),
				Operator: f.err.GetOperator(), Subtask: f.err.GetSubtask(), Stack: f.err.GetStack(),
			}
		}
	}
	if !again {
		delay = -1
	}
	m.observe(AttemptFailed{Epoch: m.epoch, Exception: x, Delay: delay})
	m.failRescale(f.err)
	m.stopCheckpoints(f.err)
	m.killHung(f)
	m.cancelTasks()
	if !m.ending.cancelBy.IsZero() {
		m.cancelNow() // it only waited for a commit, which the failure ended
		return
	}
	if !again {
		m.become(Failing, f.err)
		m.end(Failed, f.err)
		return
	}
	m.become(Restarting, f.err)
	m.raise.failed, m.raise.halted = &x, false
	m.restarts.at = m.now.Add(delay)
	m.enter(phaseDelaying)
}

// follow says whether a failure is only that a shard which the job writes was
// split or merged. If so the next attempt begins after delay, and the failure
// says so to who reads it.
func (m *Master) follow(f *failure) (delay time.Duration, ok bool) {
	if f.fatal || f.err.GetCode() != codeShardClosed || f.err.GetSubject() == "" {
		return 0, false
	}
	if delay, ok = m.restarts.follows(f.err.GetSubject()); !ok {
		return 0, false
	}
	err := proto.Clone(f.err).(*pb.Error)
	err.Message = "a shard that the job writes was split or merged; the job is restarted to write those that follow it, which the restart strategy does not count: " + err.GetMessage()
	f.err, f.uncounted = err, true
	return delay, true
}

// killHung ends the worker of a task that hangs: told to cancel, it would not end,
// and everybody would wait for it.
func (m *Master) killHung(f failure) {
	if w := f.worker; w != nil && f.err.GetCode() == codeTaskHung && w.state == workerBusy {
		m.note("worker killed: a task hangs", "worker", w.id)
		m.stopWorker(w, 0)
	}
}

// takenOver says that a shard refused the attempt under way as stale. Epochs are
// unique in a lineage, so this is no old attempt's report: another would be
// fenced in its turn, and what one of the two staged be lost. Workers that
// refuse each other's connections use the same code; those do restart.
func (m *Master) takenOver(f failure) bool {
	return f.err.GetCode() == codeStaleEpoch && f.err.GetOperator() != "" && f.vertex != nil &&
		slices.ContainsFunc(m.roles.sinks, func(uid string) bool { return m.roles.vertexOf[uid] == f.vertex })
}

// exception adds a failure to the history.
func (m *Master) exception(f failure) Exception {
	x := Exception{At: m.now, Epoch: m.epoch, Error: f.err, Uncounted: f.uncounted}
	if f.worker != nil {
		x.Worker, x.TaskManager = f.worker.id, f.worker.tm
	}
	if f.vertex != nil {
		x.VertexID = f.vertex.GetId()
		x.Task = fmt.Sprintf("%s (%d/%d)", f.vertex.GetName(), f.subtask+1, f.vertex.GetParallelism())
	}
	m.seen.exception(x)
	return x
}

// advanceDelaying goes on once the delay is over. Tasks that still end are
// waited for later, before Deploy.
func (m *Master) advanceDelaying() {
	// A record on its way may change the parallelism, and with it the slots.
	if m.now.Before(m.restarts.at) || m.raise.under {
		return
	}
	switch {
	case m.coord == nil:
		m.beginReading()
	case m.slots.held == nil:
		m.requestSlots()
	default:
		m.enter(phaseRaising)
	}
}

// cancelTasks ends the tasks of the attempt; its workers stay.
func (m *Master) cancelTasks() {
	clear(m.calls)
	m.stopSpare()
	for _, w := range m.attempt.workers {
		if w.state == workerBusy || w.state == workerHalted {
			w.to(workerEnding, m.now)
			m.sendAs(w, w.epoch, &pb.WorkerCommand{Body: &pb.WorkerCommand_Cancel{Cancel: &pb.CancelTasks{}}})
		}
	}
}

func (m *Master) stopCheckpoints(err *pb.Error) {
	m.checkpoints(checkpoint.Stopped{Err: err})
	for _, q := range m.queued {
		m.answer(q.id, Result{}, errorf(codeJobNotRunning, "the tasks of job %s ended: %s", m.job, err.GetMessage()))
	}
	m.queued = nil
}

func (m *Master) taskFailed(w *worker, f *pb.TaskFailed) {
	var vertex *pb.Vertex
	for _, v := range m.graph.GetVertices() {
		if v.GetId() == f.GetVertexId() {
			vertex = v
		}
	}
	m.attempt.failed[taskKey{f.GetVertexId(), f.GetSubtask()}] = true
	m.fail(failure{err: f.GetError(), worker: w, vertex: vertex, subtask: f.GetSubtask()})
}

func (m *Master) workerExited(ev WorkerExited) {
	w := m.workers[ev.Worker]
	if w == nil {
		return
	}
	delete(m.workers, w.id)
	if w.state == workerStopping {
		return
	}
	err := ev.Exit.GetError()
	if err == nil {
		err = &pb.Error{Code: codeWorkerExited, Message: exitText(w, ev.Exit)}
	}
	m.lost(w, err)
}

func exitText(w *worker, x *pb.WorkerExited) string {
	switch {
	case x.GetSignal() != "":
		return fmt.Sprintf("worker %s on %s was ended by signal %s", w.id, w.tm, x.GetSignal())
	case x == nil:
		return fmt.Sprintf("worker %s on %s exited", w.id, w.tm)
	}
	return fmt.Sprintf("worker %s on %s exited with code %d", w.id, w.tm, x.GetExitCode())
}

// lost takes note of a worker that is gone. One whose tasks were ending is
// replaced when the attempt is launched; of any other the attempt depends.
func (m *Master) lost(w *worker, err *pb.Error) {
	was := w.state
	w.to(workerStopping, m.now)
	if was == workerEnding {
		// The first sign of a crash is often a peer's broken connection.
		m.note("worker is gone", "worker", w.id, "taskManager", w.tm, "err", err.GetMessage())
		m.exception(failure{err: err, worker: w})
		return
	}
	if !slices.Contains(m.attempt.workers, w) {
		m.spareLost(w, err)
		return
	}
	for slot, i := range m.attempt.slotWorker {
		for _, v := range m.graph.GetVertices() {
			if m.attempt.workers[i] == w && slot < int(v.GetParallelism()) {
				m.attempt.failed[taskKey{v.GetId(), uint32(slot)}] = true
			}
		}
	}
	m.fail(failure{err: err, worker: w})
}

func (m *Master) taskManagerLost(ev TaskManagerLost) {
	err := &pb.Error{Code: codeTaskManagerLost, Message: fmt.Sprintf("task manager %s is lost: %s", ev.TaskManager, ev.Reason)}
	var gone *worker
	for _, w := range m.sortedWorkers() {
		if w.tm == ev.TaskManager {
			delete(m.workers, w.id)
			if w.state != workerStopping {
				gone = w
			}
		}
	}
	held := slices.Contains(m.slots.held, ev.TaskManager)
	if held {
		m.slots.held = nil
	}
	target := slices.Contains(m.rescale.slots, ev.TaskManager)
	if gone != nil {
		m.lost(gone, err)
	}
	if held && m.phase >= phaseRaising && m.phase <= phaseRunning {
		m.fail(failure{err: err}) // it had no worker whose end would do
	}
	if target {
		m.targetLost(err)
	}
}
