package job

import (
	"slices"
	"time"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// seen is what the master remembers for people. It decides nothing.
type seen struct {
	submitted   time.Time
	failed      time.Time // the failure that the present recovery is from
	halted      time.Time // the rescale that the present attempt follows; zero after a failure
	rescales    []Rescaled
	recovery    time.Duration
	recoveryOut time.Duration
	submitOut   time.Duration
	exceptions  []Exception // newest first
	truncated   bool
	attempts    int
}

func (s *seen) rescaled(r Rescaled) {
	s.rescales = slices.Insert(s.rescales, 0, r)
	s.rescales = s.rescales[:min(len(s.rescales), MaxRescales)]
}

func (s *seen) exception(x Exception) {
	s.exceptions = slices.Insert(s.exceptions, 0, x)
	if len(s.exceptions) > MaxExceptions {
		s.exceptions, s.truncated = s.exceptions[:MaxExceptions], true
	}
}

// Failures are those that the journal remembers of a job, newest first.
func Failures(r *pb.JobRecord) []Exception {
	var all []Exception
	for _, f := range r.GetFailures() {
		all = append(all, Exception{
			At: time.UnixMilli(f.GetAtMs()), Epoch: f.GetEpoch(), Error: f.GetError(), VertexID: f.GetVertexId(), Task: f.GetTask(),
			Uncounted: f.GetUncounted(),
		})
	}
	slices.Reverse(all)
	return all
}

func (s *seen) started(now time.Time) {
	s.attempts++
	if !s.failed.IsZero() {
		s.recovery, s.recoveryOut = now.Sub(s.failed), 0
	}
}

// output notes the first record at a sink and returns the time since the
// failure, the halt or the submission.
func (s *seen) output(now time.Time) time.Duration {
	if !s.halted.IsZero() {
		return now.Sub(s.halted)
	}
	if s.failed.IsZero() {
		if s.submitOut == 0 {
			s.submitOut = now.Sub(s.submitted)
		}
		return s.submitOut
	}
	s.recoveryOut = now.Sub(s.failed)
	return s.recoveryOut
}

// Status describes the job as of now.
func (m *Master) Status(now time.Time) Status {
	st := Status{
		State: m.state, Since: m.since, Waiting: m.waiting(),
		Started: m.seen.submitted, Epoch: m.epoch, Restarts: m.record.GetRestarts(),
		Graph: m.graph, Rescalings: m.record.GetRescales(), Rescales: slices.Clone(m.seen.rescales), Rescaling: m.rescalingStatus(),
		Stopping:   m.stopping.record.GetHow(),
		Exceptions: slices.Clone(m.seen.exceptions), ExceptionsTruncated: m.seen.truncated,
		LastRecovery: m.seen.recovery, LastRecoveryFirstOutput: m.seen.recoveryOut,
		SubmitToFirstOutput: m.seen.submitOut,
		DrainPositions:      len(m.record.GetDrain()),
		Cause:               m.ending.err,
	}
	if ms := m.record.GetSubmitted().GetSubmittedMs(); ms > 0 {
		st.Started = time.UnixMilli(ms)
	}
	if m.state.Terminal() {
		st.Ended = m.since[m.state]
	}
	if m.coord != nil {
		st.Checkpoints = m.coord.History()
	}
	for i, w := range m.attempt.workers {
		st.Workers = append(st.Workers, WorkerStatus{
			ID: w.id, TaskManager: w.tm, DataAddress: w.address, PID: w.pid, Slots: m.slotsOf(i),
			Started: w.state != workerStarting && w.state != workerStopping,
		})
	}
	for _, v := range m.graph.GetVertices() {
		vs := VertexStatus{ID: v.GetId()}
		for i := range v.GetParallelism() {
			vs.Tasks = append(vs.Tasks, m.taskStatus(taskKey{v.GetId(), i}))
		}
		st.Vertices = append(st.Vertices, vs)
	}
	return st
}

// taskStatus derives a task's state from that of its worker and of the job.
func (m *Master) taskStatus(k taskKey) TaskStatus {
	t := TaskStatus{Attempt: max(m.seen.attempts-1, 0), Since: m.since[m.state]}
	w := m.workerOfSlot(k.subtask)
	if w != nil {
		t.TaskManager, t.Worker, t.Since = w.tm, w.id, w.since
		if w.epoch == m.epoch {
			t.Began = w.deployed
		}
	}
	switch {
	case m.attempt.failed[k]:
		t.State = TaskFailed
	case m.state == Finished:
		t.State = TaskFinished
	case m.state == Canceled || m.state == Failed:
		t.State = TaskCanceled
	case w == nil || m.phase < phaseLaunching:
		t.State = TaskCreated
	default:
		t.State = m.taskState(w)
	}
	if t.State == TaskFinished || t.State >= TaskCanceled {
		t.Ended = t.Since
	}
	return t
}

func (m *Master) taskState(w *worker) TaskState {
	switch w.state {
	case workerStarting:
		return TaskScheduled
	case workerEnding:
		return TaskCanceling
	case workerHalted:
		return TaskReady
	case workerBusy:
		switch {
		case w.running:
			return TaskRunning
		case w.ready:
			return TaskReady
		}
		return TaskDeploying
	case workerStopping:
		return TaskCanceled
	}
	if m.phase == phaseFinishing {
		return TaskFinished
	}
	if w.epoch == m.epoch && m.phase == phaseEnding {
		return TaskCanceled
	}
	return TaskScheduled
}

func (m *Master) workerOfSlot(slot uint32) *worker {
	if int(slot) >= len(m.attempt.slotWorker) {
		return nil
	}
	return m.attempt.workers[m.attempt.slotWorker[slot]]
}
