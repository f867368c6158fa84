package task

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/checkpoint/snapshot"
	"github.com/millrace/millrace/internal/clock"
	"github.com/millrace/millrace/internal/failpoint"
	"github.com/millrace/millrace/runtime/barrier"
	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/exchange"
	"github.com/millrace/millrace/runtime/keygroup"
	"github.com/millrace/millrace/runtime/operator"
	"github.com/millrace/millrace/runtime/state"
	"github.com/millrace/millrace/runtime/watermark"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// FlushInterval bounds how long a busy task keeps records in open batches.
const FlushInterval = 5 * time.Millisecond

// Patience is how long a barrier waits for the batches before it: behind a slow
// operator, and at a writer that waits for room. Then it overtakes them, and what
// is before it at the writer goes beyond the bound.
const Patience = 100 * time.Millisecond

// Operator is one operator of the chain, in topological order.
type Operator struct {
	UID, Name string
	// Parent is the index of the operator whose output this one takes; -1
	// for the first, which takes the gates' or is a source.
	Parent   int
	Operator operator.Operator
	Context  *operator.Context
}

// Output is an edge that leaves the chain.
type Output struct {
	Writer exchange.Writer
	// From is the index of the operator that sends.
	From int
}

// Restored is what an operator gets back from a checkpoint.
type Restored struct {
	Runs []*snapshot.Reader
	// Kept are stores that halted tasks of this process left, from which the
	// operator's takes what it owns. Runs are those of the other key groups.
	Kept    []*state.Store
	State   state.Restore
	Entries []*pb.OperatorEntry
	// Rebase says that no later checkpoint can refer to Runs: the first one
	// holds all state.
	Rebase bool
}

// Config is what a task needs of its worker. The functions are called on the
// task's goroutines and must not block for long.
type Config struct {
	VertexID  string
	Subtask   int
	KeyGroups keygroup.Range
	Operators []Operator
	// Gates are the inputs of the first operator, by port.
	Gates   []exchange.Gate
	Outputs []Output
	// Mailbox is what the contexts' Mail and Wake and the gates' Notify
	// were made with.
	Mailbox *Mailbox
	Clock   clock.Clock
	Log     *slog.Logger
	// Patience is how long a barrier waits for the batches before it: the
	// constant of that name if 0, not at all if negative.
	Patience time.Duration

	// Scratch takes snapshots that do not fit in memory.
	Scratch snapshot.Scratch
	// Restore gives each operator its state; it is called after Open and
	// may block.
	Restore func(ctx context.Context, op int) (Restored, error)
	// Ready is called when the operators are open and restored, Running when
	// the task has started and its source has its splits.
	Ready   func()
	Running func()
	// Snapshot takes each checkpoint when it is encoded.
	Snapshot func(*Checkpoint)
	// Exhausted is called once, when a source has reached its end.
	Exhausted func()
	// Metrics takes a copy of the counters after RequestMetrics.
	Metrics func(*pb.TaskMetrics)
}

// Mailbox is how other goroutines reach a task. It exists before the task, for
// operators and gates are made with it.
type Mailbox struct {
	signals signals
	mail    mailbox
	// room wakes a task that waits for room at a writer, to copy its counters
	// or to see what presses.
	room chan struct{}
	// triggers counts those that the task has not taken yet.
	triggers atomic.Int32
}

// NewMailbox returns an empty mailbox.
func NewMailbox() *Mailbox {
	return &Mailbox{signals: signals{notify: make(chan struct{}, 1)}, room: make(chan struct{}, 1)}
}

// Notify is for gates, and so is Press.
func (m *Mailbox) Notify() chan struct{} { return m.signals.notify }

// Press says that a barrier waits for the task.
func (m *Mailbox) Press() {
	m.signals.set(pressing)
	m.poke()
}

// poke wakes a task that waits for room.
func (m *Mailbox) poke() {
	select {
	case m.room <- struct{}{}:
	default:
	}
}

// Mail runs f on the task's goroutine between batches; it never blocks.
func (m *Mailbox) Mail(f func() error) {
	m.mail.put(letter{f: f})
	m.signals.set(mailed)
}

// Post is Mail for what operators do on their own account. Once the task has
// halted it is dropped, like the records after the barrier.
func (m *Mailbox) Post(f func() error) {
	m.mail.put(letter{f: f, ofOperator: true})
	m.signals.set(mailed)
}

// Wake makes the task call its operators' Work again.
func (m *Mailbox) Wake() { m.signals.set(woken) }

// Task is one subtask.
type Task struct {
	cfg   Config
	box   *Mailbox
	start chan Beginning
	done  <-chan struct{}

	ops []chained
	// awaiters are the operators that wait for results of calls.
	awaiters []int
	source   operator.Source
	current  atomic.Pointer[operator.Context]
	pulse    pulse

	gates    []exchange.Gate
	offsets  []int
	turn     int
	aligner  *barrier.Aligner
	combiner *watermark.Combiner
	idle     bool
	// input is the watermark that the chain has been told of; kept is the last
	// one before the end of time, which is what checkpoints hold: a job that
	// goes on after a drain goes on in time.
	input, kept int64

	// pressed is since when a barrier has been waiting, zero while none does.
	pressed time.Time

	encode   chan *encoding
	held     []frozen
	finished bool
	// halted is the checkpoint with whose barrier the task halted, 0 while it
	// runs.
	halted uint64

	flushed time.Time
	clocks  clocks
}

// chained is an operator with its place in the chain.
type chained struct {
	Operator
	worker      operator.Worker
	flusher     operator.Flusher
	watermarked operator.Watermarked
	children    []int
	writers     []exchange.Writer
	// rebase says that checkpoints hold all state until one has completed.
	rebase bool
	// more says that Work is to be called.
	more bool
	// reached is the watermark of the output that was told to those behind it.
	reached int64
}

// New wires a task. It starts nothing.
func New(cfg Config) (*Task, error) {
	if len(cfg.Operators) == 0 {
		return nil, fmt.Errorf("task %s/%d has no operators", cfg.VertexID, cfg.Subtask)
	}
	t := &Task{
		cfg: cfg, box: cfg.Mailbox, start: make(chan Beginning, 1), gates: cfg.Gates,
		input: batch.NoTime, kept: batch.NoTime, encode: make(chan *encoding, encodeQueue),
	}
	t.ops = make([]chained, len(cfg.Operators))
	for i, op := range cfg.Operators {
		c := &t.ops[i]
		*c = chained{Operator: op, reached: batch.NoTime}
		c.worker, _ = op.Operator.(operator.Worker)
		c.flusher, _ = op.Operator.(operator.Flusher)
		c.watermarked, _ = op.Operator.(operator.Watermarked)
		if _, ok := op.Operator.(operator.Awaiter); ok {
			t.awaiters = append(t.awaiters, i)
		}
		if op.Parent >= 0 {
			t.ops[op.Parent].children = append(t.ops[op.Parent].children, i)
		}
		op.Context.OnEnter(t.enter)
	}
	for _, o := range cfg.Outputs {
		t.ops[o.From].writers = append(t.ops[o.From].writers, o.Writer)
	}
	t.source, _ = cfg.Operators[0].Operator.(operator.Source)
	if t.cfg.Patience == 0 {
		t.cfg.Patience = Patience
	}
	channels := 0
	for _, g := range cfg.Gates {
		t.offsets = append(t.offsets, channels)
		channels += g.Channels()
	}
	if (channels == 0) != (t.source != nil) {
		return nil, fmt.Errorf("task %s/%d: operator %s has %d input channels", cfg.VertexID, cfg.Subtask, cfg.Operators[0].Name, channels)
	}
	if channels > 0 {
		t.aligner = barrier.NewAligner(channels)
		t.combiner = watermark.NewCombiner(channels)
	}
	return t, nil
}

// Kept detaches the keyed state of a task that halted at a checkpoint and
// returns it by operator; what is in use is not in it. It is called once, after
// Run has returned. Of a task that did not halt, or at another checkpoint,
// there is none.
func (t *Task) Kept(checkpoint uint64) map[string]*state.Store {
	if t.halted == 0 || t.halted != checkpoint {
		return nil
	}
	kept := make(map[string]*state.Store)
	for i := range t.ops {
		op := &t.ops[i]
		if op.Context.State == nil {
			continue
		}
		if err := op.Context.State.Detach(); err != nil {
			t.cfg.Log.Warn("state is not kept", "operator", op.Name, "subtask", t.cfg.Subtask, "error", err)
			continue
		}
		kept[op.UID] = op.Context.State
	}
	return kept
}

// States are the stores of the chain's keyed state. Nobody touches them between
// the task's being ready and its start.
func (t *Task) States() (all []*state.Store) {
	for i := range t.ops {
		if s := t.ops[i].Context.State; s != nil {
			all = append(all, s)
		}
	}
	return all
}

// Source is the source operator of the chain, nil where there is none.
func (t *Task) Source() operator.Source { return t.source }

func (t *Task) enter(c *operator.Context) {
	t.current.Store(c)
	t.pulse.beat()
}

// Beginning is what a source starts with.
type Beginning struct {
	Splits []*pb.Split
	// Draining makes the splits end, at the positions in Drain.
	Draining bool
	Drain    []*pb.DrainPosition
}

// Start lets the task take in records; it is called once, after Ready.
func (t *Task) Start(b Beginning) { t.start <- b }

// Run is the task. It returns nil once ctx has ended, or what failed.
func (t *Task) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	t.done = ctx.Done()
	defer context.AfterFunc(ctx, func() { t.box.signals.set(cancelled) })()
	encoded := make(chan struct{})
	go func() {
		defer close(encoded)
		t.encodeAll(ctx)
	}()
	err := t.door(func() error { return t.live(ctx) })
	if ctx.Err() != nil {
		err = nil // what breaks because the attempt has ended is no failure
	}
	if closeErr := t.closeAll(); err == nil && ctx.Err() == nil {
		err = closeErr
	}
	stop()
	close(t.encode)
	<-encoded
	return err
}

// live opens, restores, waits for Start and loops.
func (t *Task) live(ctx context.Context) error {
	if err := t.open(ctx); err != nil {
		return err
	}
	t.cfg.Ready()
	select {
	case b := <-t.start:
		if err := t.begin(ctx, b); err != nil {
			return err
		}
	case <-t.done:
		return nil
	}
	t.cfg.Running()
	t.clocks.begin(t.cfg.Clock.Now())
	t.flushed = t.cfg.Clock.Now()
	for i := range t.ops {
		t.ops[i].more = t.ops[i].worker != nil
	}
	t.pulse.begin()
	defer t.pulse.end()
	if err := t.resumeTime(); err != nil {
		return err
	}
	return t.loop()
}

// begin gives the source its splits. Their readers are opened here, on the
// task's goroutine, which has nothing else to do yet: so nobody closes a source
// while it opens them.
func (t *Task) begin(ctx context.Context, b Beginning) error {
	if t.source == nil {
		return nil
	}
	if err := t.source.Assign(ctx, b.Splits); err != nil {
		return err
	}
	if b.Draining {
		t.source.DrainTo(b.Drain)
	}
	return nil
}

// resumeTime tells the chain, before the first record, the event time of the
// restored checkpoint: what was late then is late now.
func (t *Task) resumeTime() error {
	if t.source != nil {
		return t.reach(0, t.source.Reached())
	}
	if t.input != batch.NoTime {
		return t.tell(0, t.input)
	}
	return nil
}

func (t *Task) open(ctx context.Context) error {
	for i := range t.ops {
		op := &t.ops[i]
		t.current.Store(op.Context)
		if err := op.Operator.Operator.Open(op.Context); err != nil {
			return fmt.Errorf("open: %w", err)
		}
	}
	for i := range t.ops {
		op := &t.ops[i]
		t.current.Store(op.Context)
		r, err := t.cfg.Restore(ctx, i)
		if err != nil {
			return fmt.Errorf("restore: %w", err)
		}
		op.rebase = r.Rebase
		if len(r.Kept) > 0 {
			if err := failpoint.Hit("rescale.before-adopt"); err != nil {
				return err
			}
			if err := op.Context.State.Adopt(r.Kept, r.State); err != nil {
				return fmt.Errorf("take over keyed state: %w", err)
			}
			if err := failpoint.Hit("rescale.after-adopt"); err != nil {
				return err
			}
		}
		if len(r.Runs) > 0 {
			err := failpoint.Hit("restore.before-load")
			if err == nil {
				err = op.Context.State.Load(r.Runs, r.State)
			}
			for _, run := range r.Runs {
				_ = run.Close()
			}
			if err != nil {
				return fmt.Errorf("restore keyed state: %w", err)
			}
			if err := failpoint.Hit("restore.after-load"); err != nil {
				return err
			}
		}
		if i == 0 && t.source == nil {
			if t.input, err = operator.RestoredWatermark(r.Entries, operator.KeyInput); err != nil {
				return err
			}
			t.kept = t.input
			if err := t.resumeFlights(r.Entries); err != nil {
				return fmt.Errorf("restore: %w", err)
			}
		} else if err := refuseFlights(r.Entries); err != nil {
			return fmt.Errorf("restore: %w", err)
		}
		if restorer, ok := op.Operator.Operator.(operator.Restorer); ok {
			if err := restorer.Restore(r.Entries); err != nil {
				return fmt.Errorf("restore: %w", err)
			}
		}
	}
	return nil
}

// closeAll closes every operator, each behind the door, and returns the first
// error.
func (t *Task) closeAll() error {
	var first error
	for i := range t.ops {
		op := &t.ops[i]
		err := t.door(func() error {
			t.current.Store(op.Context)
			return op.Operator.Operator.Close()
		})
		if err != nil {
			t.cfg.Log.Warn("operator did not close", "operator", op.Name, "subtask", t.cfg.Subtask, "error", err)
			if first == nil {
				first = err
			}
		}
	}
	return first
}

// door is where user code runs: what goes wrong behind it comes out as a
// *Failure of the operator that was entered last.
func (t *Task) door(f func() error) (err error) {
	defer func() {
		switch v := recover().(type) {
		case nil:
		case *state.DiskError: // no panic of the job's code
			err = &Failure{Operator: t.current.Load().Name, Subtask: t.cfg.Subtask, Err: v}
		default:
			err = &Failure{Operator: t.current.Load().Name, Subtask: t.cfg.Subtask, Stack: string(debug.Stack()), Err: panicked(v)}
		}
	}()
	t.current.Store(t.ops[0].Context)
	if err := f(); err != nil {
		return &Failure{Operator: t.current.Load().Name, Subtask: t.cfg.Subtask, Err: err}
	}
	return nil
}
