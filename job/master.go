package job

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/checkpoint"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Config is what a master starts from.
type Config struct {
	// Record is the journal's fold of the job; the master copies it.
	Record *pb.JobRecord
	// EpochFloor is the highest epoch that any job of the same lineage is known
	// to have had: sinks refuse epochs that are not above it. The journal has the
	// last word: see EpochTaken.
	EpochFloor uint64
	// SlotWait is how long a job that never ran waits for slots; default
	// 5 minutes.
	SlotWait time.Duration
	// WorkerWait is how long a worker may take to start (default 30 s),
	// DeployWait tasks to get ready and running (default 5 min), CancelWait
	// tasks to end before their worker is killed (default 5 s).
	WorkerWait, DeployWait, CancelWait time.Duration
	// SinkWait is how long a sink may take to commit, or a source to find its
	// end, before the attempt is given up; default 30 s.
	SinkWait time.Duration
	// RescaleWait is how long a running job waits for slots of another
	// parallelism before it gives that up; default 30 s.
	RescaleWait time.Duration
}

func (c Config) withDefaults() Config {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	set(&c.SlotWait, 5*time.Minute)
	set(&c.WorkerWait, 30*time.Second)
	set(&c.DeployWait, 5*time.Minute)
	set(&c.CancelWait, 5*time.Second)
	set(&c.SinkWait, 30*time.Second)
	set(&c.RescaleWait, 30*time.Second)
	return c
}

// Master decides for one job. Its phases, of which State is what people see:
//
//	reading ─▶ slotting ─▶ raising ─▶ launching ─▶ deploying ─▶ starting ─▶ running ─▶ finishing
//	               ▲          ▲           └────────────┴─────┬──────┴──────────┘           │
//	               │          │                            failure                         │
//	               └──────── delaying ◀──────────────────────┤                             │
//	                                                         ▼                             ▼
//	                                                      ending ───────────────────▶ closing ─▶ over
//
// Invariants, held by the tests after every step:
//
//  1. A command carries the epoch of the attempt whose tasks it is for, and
//     that epoch is in the journal.
//  2. Epochs rise strictly.
//  3. Start follows, within its epoch, TasksReady of every worker, Enumerated of
//     every source and a recovered SinkCommitted of every transactional sink.
//  4. Deploy is sent when no task of an earlier epoch runs at any worker that
//     the job still has, and no record about a checkpoint is under way. Tasks
//     that halted at the very checkpoint that it restores do not count: they take
//     nothing in and give nothing out.
//  5. CheckpointCompleted and CommitSink follow the journal's word for that
//     checkpoint; commits of one sink go in order, each until acknowledged or
//     taken over by the recovery of the next attempt.
//  6. FinishTasks follows the acknowledged commits of a terminal checkpoint.
//  7. A terminal state is journalled before it is taken, and is final.
//  8. Every request is answered exactly once.
//  9. A restore is from the newest checkpoint that the journal names.
//  10. Only objects under the job's own prefix or of a savepoint that never
//     completed are deleted, and none that a retained manifest names.
//  11. The parallelism of an attempt, of its slots and of its manifests is what
//     the newest JobAttempt of the journal says that names one, else what the
//     submission carries over, else the submitted graph's; both ends of a forward
//     edge have the same.
//  12. After a halt is triggered the attempt gets no command but the completion
//     of that checkpoint and its end; it is followed by an attempt that is no
//     restart after a failure.
//  13. A job that runs holds all slots of its attempt until another runs.
//  14. A shard that the job writes and that is split or merged ends an attempt,
//     never the job: the restart strategy does not count the first closedMost
//     failures of a shard, under any leader.
//
// The zero value is not usable.
type Master struct {
	cfg   Config
	job   string
	graph *pb.JobGraph
	roles roles

	// What the journal knows.
	record *pb.JobRecord
	epoch  uint64

	phase   phase
	entered time.Time // the phase
	state   State
	since   [Failed + 1]time.Time
	now     time.Time
	out     []Action
	tokens  Token

	coord    *checkpoint.Coordinator
	restore  *restorePoint
	reading  reading
	raise    raise
	slots    slots
	workers  map[string]*worker
	seq      int
	attempt  attempt
	calls    map[string]*sinkCall // by uid
	stopping stopping
	rescale  rescaling
	journal  map[Token]func(error)
	manifest map[Token]checkpoint.ID
	restarts restarts
	ending   ending
	seen     seen
	// queued came between Start and the last TasksRunning.
	queued []queued
	// lineageID is known once manifests are read; committedID is the last
	// checkpoint that every sink is known to have committed.
	lineageID   string
	committedID uint64
}

// phase is what the master waits for.
type phase uint8

const (
	phaseNew       phase = iota
	phaseReading         // manifests of what to restore
	phaseDelaying        // the delay before a restart
	phaseSlotting        // slots
	phaseRaising         // the epoch to be journalled
	phaseLaunching       // workers
	phaseDeploying       // tasks ready, splits, recovered sinks
	phaseStarting        // tasks running
	phaseRunning         // nothing in particular
	phaseFinishing       // tasks to end after the last commit
	phaseEnding          // tasks to end after a cancel or the last failure
	phaseClosing         // the end to be journalled
	phaseOver
)

// New returns a master; its first event is Submitted or Recovered. The error
// is an *Error for a graph that no cluster could run.
func New(cfg Config) (*Master, error) {
	cfg = cfg.withDefaults()
	record := proto.Clone(cfg.Record).(*pb.JobRecord)
	g := WithParallelism(record.GetSubmitted().GetGraph(), record.GetParallelism())
	if err := Validate(g); err != nil {
		return nil, err
	}
	if record.GetEnded() != nil {
		return nil, errorf(codeJobEnded, "job %s is over: %s", record.GetSubmitted().GetJobId(), record.GetEnded().GetState())
	}
	m := &Master{
		cfg: cfg, job: record.GetSubmitted().GetJobId(), graph: g, roles: rolesOf(g),
		record: record, epoch: record.GetEpoch(),
		workers: map[string]*worker{}, calls: map[string]*sinkCall{},
		journal: map[Token]func(error){}, manifest: map[Token]checkpoint.ID{},
	}
	m.restarts.strategy = strategyOf(g.GetConfig().GetRestart())
	m.stopping.record = record.GetStopping()
	m.stopping.drainKnown = len(record.GetDrain()) > 0
	m.seen.exceptions = Failures(record)
	for _, f := range record.GetFailures() {
		if f.GetUncounted() {
			m.restarts.refusedBy(f.GetError().GetSubject())
			continue
		}
		// A rate goes on counting under another leader.
		m.restarts.recent = append(m.restarts.recent, time.UnixMilli(f.GetAtMs()))
	}
	return m, nil
}

// Step takes an event in and says what is to be done. now never goes back.
func (m *Master) Step(ev Event, now time.Time) []Action {
	m.now, m.out = now, nil
	if m.phase == phaseOver {
		m.refuse(ev)
		return m.out
	}
	m.handle(ev)
	m.advance()
	return m.out
}

func (m *Master) handle(ev Event) {
	switch ev := ev.(type) {
	case Submitted, Recovered:
		m.begin()
	case SlotsGranted:
		m.granted(ev)
	case SlotsResized:
		m.slotsResized(ev)
	case SlotsShort:
		m.slots.free, m.slots.at, m.slots.known = ev.Free, ev.TaskManagers, true
	case TaskManagerLost:
		m.taskManagerLost(ev)
	case WorkerStarted:
		m.workerStarted(ev)
	case WorkerExited:
		m.workerExited(ev)
	case WorkerReported:
		m.reported(ev)
	case Journaled:
		if done, ok := m.journal[ev.Token]; ok {
			delete(m.journal, ev.Token)
			done(ev.Err)
		}
	case ManifestWritten:
		if id, ok := m.manifest[ev.Token]; ok {
			delete(m.manifest, ev.Token)
			m.checkpoints(checkpoint.Written{ID: id, Err: ev.Err})
		}
	case ObjectsListed:
		m.checkpoints(checkpoint.Listed{Keys: ev.Keys})
	case ManifestRead:
		m.manifestRead(ev)
	case CancelRequested:
		m.cancelRequested(ev)
	case StopRequested:
		m.stopRequested(ev)
	case SavepointRequested:
		m.savepointRequested(ev.Request, checkpoint.Request{Savepoint: true, Directory: ev.Directory})
	case CheckpointRequested:
		m.savepointRequested(ev.Request, checkpoint.Request{Full: ev.Full})
	case RescaleRequested:
		m.rescaleRequested(ev)
	case StreamsChanged:
		if x := m.raise.failed; x != nil && m.phase == phaseDelaying && mendedByStreams[x.Error.GetCode()] {
			m.restarts.at = m.now
		}
	case Tick:
	}
}

// refuse answers requests of a job that is over; everything else is too late.
func (m *Master) refuse(ev Event) {
	err := errorf(codeJobEnded, "job %s is %s", m.job, m.state)
	switch ev := ev.(type) {
	case CancelRequested:
		m.answer(ev.Request, Result{}, err)
	case StopRequested:
		m.answer(ev.Request, Result{}, err)
	case SavepointRequested:
		m.answer(ev.Request, Result{}, err)
	case CheckpointRequested:
		m.answer(ev.Request, Result{}, err)
	case RescaleRequested:
		m.answer(ev.Request, Result{}, err)
	}
}

// advance moves on from phase to phase for as long as what each waits for is
// there. Events record facts; this is where they have consequences.
func (m *Master) advance() {
	for before := phase(255); before != m.phase; {
		before = m.phase
		switch m.phase {
		case phaseReading:
			m.advanceReading()
		case phaseDelaying:
			m.advanceDelaying()
		case phaseSlotting:
			m.advanceSlotting()
		case phaseRaising:
			m.advanceRaising()
		case phaseLaunching:
			m.advanceLaunching()
		case phaseDeploying:
			m.advanceDeploying()
		case phaseStarting:
			m.advanceStarting()
		case phaseRunning:
			m.advanceRunning()
		case phaseFinishing:
			m.advanceFinishing()
		case phaseEnding:
			m.advanceEnding()
		case phaseClosing:
			m.advanceClosing()
		}
	}
	m.tickSinks()
	m.killSlow()
	if m.coord != nil && m.phase == phaseRunning {
		m.checkpoints(checkpoint.Tick{})
	}
}

// begin reads what to restore, and everything that is retained: what a
// retained manifest names must not be deleted.
func (m *Master) begin() {
	if m.phase != phaseNew {
		return
	}
	m.seen.submitted = m.now
	m.state = Created
	if m.epoch > 0 {
		m.state = Restarting
	}
	m.since[m.state] = m.now
	m.beginReading()
}

func (m *Master) emit(a Action)         { m.out = append(m.out, a) }
func (m *Master) observe(o Observation) { m.emit(Observe{o}) }

func (m *Master) note(message string, args ...any) { m.observe(Note{Message: message, Args: args}) }

func (m *Master) answer(r RequestID, res Result, err error) {
	m.emit(Answer{Request: r, Result: res, Err: err})
}

func (m *Master) token() Token {
	m.tokens++
	return m.tokens
}

// write journals a record; then learns what came of it, in the step of the
// answer.
func (m *Master) write(r *pb.JournalRecord, then func(error)) {
	t := m.token()
	m.journal[t] = then
	m.emit(Journal{Token: t, Record: r})
}

// enter moves to a phase.
func (m *Master) enter(p phase) {
	m.phase, m.entered = p, m.now
}

// become moves to a state that people see.
func (m *Master) become(s State, err *pb.Error) {
	if s == m.state {
		return
	}
	m.observe(StateChanged{From: m.state, To: s, Err: err})
	m.state, m.since[s] = s, m.now
}

// send sends a command of the present epoch to a worker.
func (m *Master) send(w *worker, c *pb.WorkerCommand) {
	c.Epoch = m.epoch
	m.emit(SendWorker{TaskManager: w.tm, Worker: w.id, Command: c})
}

// sendAs sends a command about tasks of an attempt that may be over.
func (m *Master) sendAs(w *worker, epoch uint64, c *pb.WorkerCommand) {
	c.Epoch = epoch
	m.emit(SendWorker{TaskManager: w.tm, Worker: w.id, Command: c})
}

// sendAll sends one command to every worker of the attempt.
func (m *Master) sendAll(c *pb.WorkerCommand) {
	for _, w := range m.attempt.workers {
		m.send(w, c)
	}
}

// State is the job's state.
func (m *Master) State() State { return m.state }

// Deadline is when Step wants a Tick if nothing happens before; false for
// never.
func (m *Master) Deadline() (time.Time, bool) {
	var d deadline
	switch m.phase {
	case phaseReading:
		d.at(m.reading.retryAt)
	case phaseDelaying:
		if !m.raise.under {
			d.at(m.restarts.at)
		}
	case phaseSlotting:
		if m.state == Created {
			d.at(m.entered.Add(m.cfg.SlotWait))
		}
	case phaseRaising:
		d.at(m.raise.retryAt)
	case phaseLaunching:
		for _, w := range m.attempt.workers {
			if w.state == workerStarting {
				d.at(w.since.Add(m.cfg.WorkerWait))
			}
		}
	case phaseDeploying, phaseStarting:
		d.at(m.entered.Add(m.cfg.DeployWait))
	case phaseClosing:
		d.at(m.ending.retryAt)
	case phaseRunning:
		if at, ok := m.coord.Deadline(); ok {
			d.at(at)
		}
		d.at(m.ending.cancelBy)
		d.at(m.stopping.retryAt)
		d.at(m.stopping.tipsBy)
		m.rescaleDeadline(&d)
	}
	for _, c := range m.calls {
		d.at(c.deadline(m.cfg.SinkWait))
	}
	for _, w := range m.workers {
		if w.state == workerEnding {
			d.at(w.since.Add(m.cfg.CancelWait))
		}
	}
	return d.t, !d.t.IsZero()
}

// deadline collects the earliest of some times; zero times are none.
type deadline struct{ t time.Time }

func (d *deadline) at(t time.Time) {
	if !t.IsZero() && (d.t.IsZero() || t.Before(d.t)) {
		d.t = t
	}
}

func (p phase) String() string {
	names := [...]string{
		"new", "reading", "delaying", "slotting", "raising", "launching", "deploying", "starting",
		"running", "finishing", "ending", "closing", "over",
	}
	if int(p) < len(names) {
		return names[p]
	}
	return fmt.Sprintf("phase(%d)", uint8(p))
}
