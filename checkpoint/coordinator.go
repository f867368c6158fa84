package checkpoint

import (
	"fmt"
	"time"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Coordinator decides about the checkpoints of one job. At any time it is in
// one of these phases:
//
//	idle ──due──▶ collecting ──all acks──▶ writing ──written──▶ journaling ──ok──▶ committing ──▶ idle
//	                  │                       │                      │
//	                  └── timeout, declined, write or journal failed, attempt over ──▶ idle (aborted)
//
// While journaling, an attempt that ends does not abort: only the journal
// knows. Invariants, checked by check:
//
//  1. At most one checkpoint is under way, and only its id is triggered,
//     written, journalled, completed or aborted, in that order, each at most once.
//  2. Ids rise strictly.
//  3. A manifest holds the acks of every worker of its attempt, and no others.
//  4. Complete follows Journaled without an error, and nothing else.
//  5. The next checkpoint begins only after Committed, or in another attempt.
//  6. No object that a retained manifest names is deleted, nor anything of a
//     completed savepoint.
//  7. At most Retained checkpoints are retained, and always the newest.
//  8. After a terminal checkpoint has completed nothing is triggered.
//  9. Every request with a token is answered exactly once, unless it is terminal.
//  10. While periodic checkpoints are on, two begin at least MinGap apart.
//  11. GiveUp follows exactly Tolerated+1 failures of an attempt with no
//     checkpoint completed in between; savepoints, terminal checkpoints and what
//     ends with the attempt are no failures of that kind, nor are halts.
//  12. After a halt nothing is triggered in its attempt.
type Coordinator struct {
	cfg     Config
	nextID  ID
	phase   phase
	pending pending

	// The attempt.
	running  bool
	epoch    uint64
	workers  []string
	subtasks int
	full     bool // until a full checkpoint completes
	halted   bool // a halt was triggered: tasks take nothing in any more

	lastBegan time.Time
	notBefore time.Time
	early     bool
	failures  int // in a row, of those that count
	setbacks  int // in a row, of any
	closed    bool

	terminal *Request
	queue    []Request

	kept []kept
	// objects may exist under the job's prefix, or are left of an aborted
	// savepoint: what no retained manifest names goes with the next
	// completed checkpoint.
	objects map[string]bool
	// merged are the last mostMerged objects of this epoch with merged runs that
	// were deleted, oldest first: such an object is named by more than the
	// checkpoint that it was written for, but never again after it was let go.
	merged []string
	// done counts completed checkpoints; swept is when, and in which epoch,
	// forgotten objects were looked for.
	done       int
	swept      time.Time
	sweptEpoch uint64

	hist history
	out  []Action
}

type phase uint8

const (
	idle phase = iota
	collecting
	writing
	journaling
	committing
)

func (p phase) String() string {
	return [...]string{"idle", "collecting", "writing", "journaling", "committing"}[p]
}

// pending is the checkpoint under way.
type pending struct {
	id        ID
	epoch     uint64
	request   Request   // what it is for
	requests  []Request // who wants to know
	path      string
	key       string
	fresh     string // prefix of the objects that it may write
	acked     map[string]bool
	operators []*pb.OperatorSnapshot
	manifest  *pb.Manifest
	done      *pb.CheckpointDone
	stats     *Stats
}

type kept struct {
	key     string
	objects map[string]bool
}

// MaxQueue bounds the requests that wait; more are refused.
const MaxQueue = 64

// New returns a coordinator with no attempt.
func New(cfg Config) *Coordinator {
	cfg = cfg.withDefaults()
	c := &Coordinator{cfg: cfg, nextID: cfg.NextID, objects: map[string]bool{}}
	for _, k := range cfg.Kept {
		c.keep(k.Done.GetManifest(), k.Manifest)
		c.nextID = max(c.nextID, ID(k.Done.GetCheckpointId())+1)
	}
	return c
}

// Step takes an event in and returns what is to be done, in order.
func (c *Coordinator) Step(ev Event, now time.Time) []Action {
	c.out = nil
	switch ev := ev.(type) {
	case Started:
		c.start(ev, now)
	case Stopped:
		c.stop(ev, now)
	case Held:
		c.early = true
	case Asked:
		c.ask(ev.Request)
	case Listed:
		c.listed(ev.Keys)
	case Acked:
		c.ack(ev, now)
	case Declined:
		if c.phase == collecting && c.pending.id == ev.ID && c.pending.epoch == ev.Epoch && c.takesPart(ev.Worker) {
			c.abort(&pb.Error{
				Code:     "checkpoint-declined",
				Message:  fmt.Sprintf("worker %s declined checkpoint %d: %s", ev.Worker, ev.ID, ev.Err.GetMessage()),
				Operator: ev.Err.GetOperator(), Subtask: ev.Err.GetSubtask(), Stack: ev.Err.GetStack(),
			}, now)
		}
	case Written:
		c.written(ev, now)
	case Journaled:
		c.journaled(ev, now)
	case Committed:
		if c.phase == committing && c.pending.id == ev.ID {
			c.pending.stats.Committed = now
			c.phase, c.pending = idle, pending{}
		}
	case Tick:
	}
	if (c.phase == collecting || c.phase == writing) && !now.Before(c.expires()) {
		c.abort(c.timeoutError(), now)
	}
	c.trigger(now)
	return c.out
}

// Deadline is when Step wants a Tick if nothing happens before.
func (c *Coordinator) Deadline() (time.Time, bool) {
	switch {
	case c.phase == collecting || c.phase == writing:
		return c.expires(), true
	case c.phase == idle:
		_, at, ok := c.due()
		return at, ok
	}
	return time.Time{}, false
}

// Busy says that a checkpoint is being journalled: what to restore from is
// not known until it is.
func (c *Coordinator) Busy() bool { return c.phase == journaling }

// Age is how long ago the last checkpoint of this attempt began that others
// build on; false where there is none.
func (c *Coordinator) Age(now time.Time) (time.Duration, bool) {
	if s := c.hist.completed; c.running && s != nil && s.Epoch == c.epoch {
		return now.Sub(s.Triggered), true
	}
	return 0, false
}

// expires is when the pending checkpoint is given up.
func (c *Coordinator) expires() time.Time {
	limit := c.cfg.Timeout
	if c.pending.request.Halt {
		limit = min(limit, c.cfg.HaltTimeout)
	}
	return c.pending.stats.Triggered.Add(limit)
}

// NextID is the number that the next checkpoint gets.
func (c *Coordinator) NextID() ID { return c.nextID }

func (c *Coordinator) emit(a Action) { c.out = append(c.out, a) }

func (c *Coordinator) start(ev Started, now time.Time) {
	if c.running {
		c.stop(Stopped{}, now)
	}
	c.running, c.epoch, c.workers, c.subtasks = true, ev.Epoch, ev.Workers, ev.Subtasks
	c.merged = nil
	c.full, c.halted = ev.Full, false
	if ev.Graph != nil {
		c.cfg.Graph = ev.Graph
	}
	c.early, c.failures, c.setbacks, c.notBefore = true, 0, 0, time.Time{}
	if ev.Restored != nil {
		c.hist.counts.Restored++
		c.hist.restored = ev.Restored
	}
}

func (c *Coordinator) stop(ev Stopped, now time.Time) {
	if !c.running {
		return
	}
	c.running, c.early, c.terminal = false, false, nil
	err := ev.Err
	if err == nil {
		err = &pb.Error{Code: "job-not-running", Message: "the tasks were stopped"}
	}
	switch c.phase {
	case collecting, writing:
		c.abort(err, now)
	case committing:
		// The next attempt's recovery of the sinks commits it.
		c.phase, c.pending = idle, pending{}
	}
	for _, r := range c.queue {
		c.answer(r, 0, "", err)
	}
	c.queue = nil
}

func (c *Coordinator) ask(r Request) {
	switch {
	case c.closed:
		c.answer(r, 0, "", &pb.Error{Code: "job-stopping", Message: "the job has taken its last checkpoint"})
	case !c.running:
		c.answer(r, 0, "", &pb.Error{Code: "job-not-running", Message: "no tasks run that could take a checkpoint; ask again when the job is RUNNING"})
	case r.Terminal:
		c.terminal = &r
	case len(c.queue) >= MaxQueue:
		c.answer(r, 0, "", &pb.Error{Code: "checkpoint-in-progress", Message: fmt.Sprintf("%d requests wait for checkpoints already; ask again later", MaxQueue)})
	default:
		c.queue = append(c.queue, r)
	}
}

func (c *Coordinator) answer(r Request, id ID, path string, err *pb.Error) {
	if r.Token != 0 {
		c.emit(Answered{Token: r.Token, ID: id, Path: path, Err: err})
	}
}

// due says what the next checkpoint is for and when it may begin.
func (c *Coordinator) due() (r Request, at time.Time, ok bool) {
	if !c.running || c.phase != idle || c.closed || c.halted {
		return Request{}, time.Time{}, false
	}
	var gap time.Duration
	switch {
	case c.terminal != nil:
		r = *c.terminal
	case len(c.queue) > 0:
		r = c.queue[0]
	case c.cfg.NoPeriod:
		return Request{}, time.Time{}, false
	case c.early:
		gap = min(c.cfg.MinGap, c.cfg.Interval)
	default:
		gap = c.cfg.Interval
	}
	at = c.notBefore
	if next := c.lastBegan.Add(gap); next.After(at) {
		at = next
	}
	return r, at, true
}

// trigger begins the next checkpoint if one is due.
func (c *Coordinator) trigger(now time.Time) {
	r, at, ok := c.due()
	if !ok || now.Before(at) {
		return
	}
	p := pending{id: c.nextID, epoch: c.epoch, request: r, acked: map[string]bool{}}
	early := !r.Terminal && len(c.queue) == 0 && c.early
	// A savepoint does not serve who asked for a checkpoint, nor the reverse;
	// of those that one checkpoint can serve, all are.
	if !r.Terminal {
		var rest []Request
		for i, q := range c.queue {
			if i == 0 || q.mergeable(r) {
				p.requests = append(p.requests, q)
			} else {
				rest = append(rest, q)
			}
		}
		c.queue = rest
	}
	c.nextID++
	c.lastBegan, c.early, c.halted = now, false, r.Halt
	cmd := &pb.TriggerCheckpoint{
		CheckpointId: uint64(p.id), TriggeredMs: now.UnixMilli(),
		Savepoint: r.Savepoint, Full: r.Savepoint || r.Full || c.full, Terminal: r.Terminal,
		Halt: r.Halt,
	}
	if r.Savepoint {
		p.path = SavepointPath(r.Directory, c.cfg.Job, c.epoch, p.id)
		p.key = SavepointManifest(p.path)
		cmd.StatePrefix = p.path + "/state-"
		p.fresh = cmd.StatePrefix
	} else {
		p.key = ManifestKey(c.cfg.Job, c.epoch, p.id)
		p.path = p.key
		p.fresh = fmt.Sprintf("%s%d-", StatePrefix(c.cfg.Job, c.epoch), p.id)
	}
	p.request.Full = cmd.Full
	p.stats = c.hist.begin(Stats{
		ID: p.id, Epoch: c.epoch, Savepoint: r.Savepoint, Terminal: r.Terminal, Halt: r.Halt, Early: early,
		Triggered: now, Subtasks: c.subtasks, Manifest: p.key, Path: p.path,
	})
	c.pending, c.phase = p, collecting
	c.emit(Trigger{Command: cmd, Stats: p.stats.clone()})
}
