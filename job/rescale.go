package job

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/millrace/millrace/checkpoint"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// This chapter gives a job another parallelism. A job that runs goes on until
// everything for it is there; then it halts at a checkpoint, and the next
// attempt takes it up at the new parallelism:
//
//	none ─▶ asked ─▶ slots ─▶ workers ─▶ easing ─▶ halting ─▶ raising ─▶ moving ─▶ none
//	  │       └────────┴─────────┴──────────┘          │         ▲          │
//	  │                  given up: the job runs on     │         │          └ failures restart at
//	  │                                                ▼         │            the new parallelism
//	  │          a halt that fails: restart at the old one       │
//	  └──────────────────────────── next ────────────────────────┘
//
// A job that waits to be restarted takes fewer slots with its next epoch.
//
// Only the record of the epoch decides: before the journal has it, the old
// parallelism is in force, after it the new one, whoever leads.

// rescaleStep names what a rescale waits for.
type rescaleStep uint8

const (
	rescaleNone    rescaleStep = iota
	rescaleAsked               // all tasks to run
	rescaleSlots               // slots, besides those held
	rescaleWorkers             // workers on task managers that are new to the job
	rescaleEasing              // an ordinary checkpoint, so that the halt's increment is small
	rescaleHalting             // the halt checkpoint
	rescaleNext                // the next epoch of a job that does not run
	rescaleRaising             // the journal's word for the epoch with the new parallelism
	rescaleMoving              // tasks to run with it
)

func (s rescaleStep) String() string {
	return [...]string{"", "asked", "slots", "workers", "checkpoint", "halt", "restart", "journal", "deploy"}[s]
}

// easeAfter: a checkpoint that began longer ago is followed by another before
// the halt.
const easeAfter = 500 * time.Millisecond

// rescaling is the chapter's own state.
type rescaling struct {
	step    rescaleStep
	entered time.Time // the step
	request RequestID
	// parallelism of every vertex, and the graph with it.
	parallelism map[string]uint32
	graph       *pb.JobGraph
	// slots that it is to have, nil where they are those held or, once
	// halted, where a task manager of them was lost.
	slots []string
	lost  *pb.Error // why slots cannot be had any more
	token Token     // of ResizeSlots
	// check is the coordinator's token for the checkpoint that is awaited.
	check  uint64
	report Rescaled
}

// internalTokens keeps the coordinator's tokens apart from those of requests.
const internalTokens = 1 << 63

func (r *rescaling) to(s rescaleStep, now time.Time) { r.step, r.entered = s, now }

// halting: what is asked of the tasks now would not be done.
func (r *rescaling) halting() bool { return r.step == rescaleHalting }

func (m *Master) rescaleRequested(ev RescaleRequested) {
	refuse := func(code, format string, args ...any) {
		m.answer(ev.Request, Result{}, errorf(code, format, args...))
	}
	target, err := Target(m.record.GetSubmitted().GetGraph(), m.record.GetParallelism(), ev.Parallelism, ev.Vertices)
	last := m.restore != nil && m.restore.terminal || m.phase == phaseRunning && m.attempt.exhausted
	switch {
	case err != nil:
		m.answer(ev.Request, Result{}, err)
	case m.rescale.step != rescaleNone:
		refuse(codeRescaleInProgress, "job %s is being rescaled already: it %s", m.job, m.waitingRescale())
	case m.stopping.record != nil || m.stopping.under != "" || !m.ending.cancelBy.IsZero() || m.phase >= phaseFinishing || last:
		refuse(codeJobStopping, "job %s is about to end", m.job)
	case maps.Equal(target, ParallelismOf(m.graph)):
		m.answer(ev.Request, Result{Parallelism: target}, nil)
	default:
		m.beginRescale(ev.Request, target)
	}
}

func (m *Master) beginRescale(id RequestID, target map[string]uint32) {
	graph := WithParallelism(m.record.GetSubmitted().GetGraph(), target)
	n, now := SlotsNeeded(graph), SlotsNeeded(m.graph)
	r := rescaling{
		step: rescaleAsked, entered: m.now, request: id, parallelism: target, graph: graph,
		report: Rescaled{From: ParallelismOf(m.graph), To: target, Slots: n, Asked: m.now},
	}
	switch {
	case m.phase >= phaseRaising:
		// It begins once all tasks run.
	case m.coord == nil || n > now:
		m.answer(id, Result{}, errorf(codeJobNotRunning, "job %s is %s and %s: it can be given %d slots instead of %d once it runs, or fewer now",
			m.job, m.state, m.waiting(), n, now))
		return
	default:
		r.step = rescaleNext
	}
	m.rescale = r
	m.note("rescale asked", "slots", n, "now", now)
	if r.step == rescaleNext {
		m.slots.held = nil // asking again gives them back
		if m.phase == phaseSlotting {
			m.requestSlots()
		}
	}
}

// slotsNeeded is what the next attempt needs.
func (m *Master) slotsNeeded() int {
	if m.rescale.step == rescaleNext {
		return SlotsNeeded(m.rescale.graph)
	}
	return SlotsNeeded(m.graph)
}

// advanceRescale goes on while all tasks run.
func (m *Master) advanceRescale() {
	r := &m.rescale
	if r.step == rescaleNone || r.step >= rescaleHalting {
		return
	}
	if m.stopping.record != nil || m.stopping.under != "" || m.attempt.exhausted {
		m.abandonRescale(&pb.Error{Code: codeJobStopping, Message: fmt.Sprintf("job %s is about to end", m.job)})
		return
	}
	switch r.step {
	case rescaleAsked:
		if SlotsNeeded(r.graph) == len(m.slots.held) {
			m.resized(slices.Clone(m.slots.held))
			return
		}
		r.token = m.token()
		r.to(rescaleSlots, m.now)
		m.slots.known = false
		m.emit(ResizeSlots{Token: r.token, N: SlotsNeeded(r.graph)})
	case rescaleSlots:
		if !m.now.Before(r.entered.Add(m.cfg.RescaleWait)) {
			m.abandonRescale(&pb.Error{Code: codeSlotsUnavailable, Message: m.tooFewSlots()})
		}
	case rescaleWorkers:
		m.advanceRescaleWorkers()
	}
}

func (m *Master) slotsResized(ev SlotsResized) {
	if r := &m.rescale; r.step == rescaleSlots && r.token == ev.Token && m.phase == phaseRunning {
		m.resized(arrange(m.slots.held, ev.Slots))
	}
}

// resized has the slots: workers are started where the job has none.
func (m *Master) resized(slots []string) {
	r := &m.rescale
	r.slots = slots
	r.to(rescaleWorkers, m.now)
	tms, count := perTaskManager(slots)
	for _, tm := range tms {
		if m.workerAt(tm) == nil {
			m.startWorker(tm, count[tm])
		}
	}
	m.advanceRescaleWorkers()
}

func (m *Master) advanceRescaleWorkers() {
	tms, _ := perTaskManager(m.rescale.slots)
	for _, tm := range tms {
		w := m.workerAt(tm)
		if w == nil || w.state != workerStarting {
			continue
		}
		if !m.now.Before(w.since.Add(m.cfg.WorkerWait)) {
			m.abandonRescale(&pb.Error{Code: codeWorkerUnresponsive, Message: fmt.Sprintf(
				"worker %s on %s did not start within %s: job %s goes on as it was", w.id, w.tm, m.cfg.WorkerWait, m.job)})
		}
		return
	}
	m.ease()
}

// ease takes an ordinary checkpoint first if the last is old: what the halt has
// to write, while nothing runs, is only what changed since.
func (m *Master) ease() {
	if age, ok := m.coord.Age(m.now); ok && age <= easeAfter {
		m.halt()
		return
	}
	m.rescale.to(rescaleEasing, m.now)
	m.checkpoints(checkpoint.Asked{Request: checkpoint.Request{Token: m.checkToken()}})
}

func (m *Master) halt() {
	m.rescale.to(rescaleHalting, m.now)
	m.checkpoints(checkpoint.Asked{Request: checkpoint.Request{Halt: true, Token: m.checkToken()}})
}

func (m *Master) checkToken() uint64 {
	m.rescale.check = internalTokens + uint64(m.token())
	return m.rescale.check
}

// perTaskManager lists the task managers of slots by the first of them, and
// counts.
func perTaskManager(slots []string) (tms []string, count map[string]int) {
	count = map[string]int{}
	for _, tm := range slots {
		if count[tm]++; count[tm] == 1 {
			tms = append(tms, tm)
		}
	}
	return tms, count
}

// waitingRescale says for people what a rescale waits for; the subject is the
// job.
func (m *Master) waitingRescale() string {
	r := &m.rescale
	switch r.step {
	case rescaleAsked:
		return "is rescaled once all tasks run"
	case rescaleSlots:
		return "waits for " + m.slotsText()
	case rescaleWorkers:
		return "waits for workers to rescale"
	case rescaleEasing:
		return "takes a checkpoint before it halts to be rescaled"
	case rescaleHalting:
		return "halts at a checkpoint to be rescaled"
	case rescaleNext:
		return "is restarted with another parallelism"
	case rescaleRaising:
		return "waits for the journal to be rescaled"
	case rescaleMoving:
		return "starts with another parallelism"
	}
	return ""
}

// tooFewSlots says why a rescale is given up, and what would be possible.
func (m *Master) tooFewSlots() string {
	text := fmt.Sprintf("in %s job %s was not given %s: it goes on as it was", m.cfg.RescaleWait, m.job, m.slotsText())
	switch there := len(m.slots.held) + m.slots.free; {
	case !m.slots.known:
	case there < SlotsNeeded(m.rescale.graph):
		text += fmt.Sprintf("; a parallelism of %d is possible now", there)
	default:
		text += "; another job waits for slots before it"
	}
	return text
}

func (m *Master) rescalingStatus() *Rescaling {
	r := &m.rescale
	if r.step == rescaleNone {
		return nil
	}
	st := &Rescaling{
		Step: r.step.String(), Asked: r.report.Asked, To: r.parallelism, Slots: r.report.Slots, Held: len(m.slots.held), Free: -1,
	}
	if r.step == rescaleSlots && m.slots.known {
		st.Free = m.slots.free
	}
	return st
}

func (m *Master) rescaleDeadline(d *deadline) {
	switch r := &m.rescale; r.step {
	case rescaleSlots:
		d.at(r.entered.Add(m.cfg.RescaleWait))
	case rescaleWorkers:
		for _, w := range m.workers {
			if w.state == workerStarting {
				d.at(w.since.Add(m.cfg.WorkerWait))
			}
		}
	}
}
