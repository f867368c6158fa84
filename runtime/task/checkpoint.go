package task

import (
	"context"
	"fmt"
	"time"

	"github.com/millrace/millrace/checkpoint/snapshot"
	"github.com/millrace/millrace/internal/failpoint"
	"github.com/millrace/millrace/internal/planted"
	"github.com/millrace/millrace/runtime/barrier"
	"github.com/millrace/millrace/runtime/exchange"
	"github.com/millrace/millrace/runtime/operator"
	"github.com/millrace/millrace/runtime/state"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// encodeQueue is how many checkpoints may wait to be encoded. More than one is
// there only after the master gave one up; a task that runs into the bound
// waits with its barrier until one is out.
const encodeQueue = 4

// Checkpoint is a task's part of a checkpoint, encoded.
type Checkpoint struct {
	Barrier   barrier.Barrier
	VertexID  string
	Subtask   int
	Operators []OperatorCheckpoint
	Stats     *pb.TaskCheckpointStats
	// Err is why there is none.
	Err error
}

// OperatorCheckpoint is one operator's part.
type OperatorCheckpoint struct {
	UID string
	// Run is the change of keyed state since the last completed checkpoint,
	// or all of it if Full.
	Run        snapshot.Run
	Full       bool
	Entries    []*pb.OperatorEntry
	StateBytes uint64
}

// frozen are the stores of a checkpoint that is not known to be durable.
type frozen struct {
	id        uint64
	savepoint bool
	stores    []*state.Frozen
}

// encoding is what the second goroutine gets of a checkpoint.
type encoding struct {
	out      *Checkpoint
	frozen   []*state.Frozen
	deferred [][]func() ([]*pb.OperatorEntry, error)
}

// Trigger begins a checkpoint at a source; any goroutine may call it. Tasks
// with inputs get their barriers there, and ignore it.
func (t *Task) Trigger(b barrier.Barrier) {
	if t.source == nil {
		return
	}
	t.box.triggers.Add(1)
	t.box.Mail(func() error {
		t.box.triggers.Add(-1)
		if t.halted != 0 {
			return nil
		}
		delay := t.cfg.Clock.Now().Sub(time.UnixMilli(b.TriggeredMillis))
		return t.checkpoint(b, max(delay, 0), 0)
	})
	t.box.poke()
}

// Completed tells the task that a checkpoint is durable.
func (t *Task) Completed(id uint64) {
	t.box.Mail(func() error {
		t.settle(id, true)
		for i := range t.ops {
			c, ok := t.ops[i].Operator.Operator.(operator.Completer)
			if !ok {
				continue
			}
			t.ops[i].Context.Enter()
			if err := c.CheckpointCompleted(id); err != nil {
				return fmt.Errorf("completed checkpoint %d: %w", id, err)
			}
		}
		return nil
	})
}

// Aborted tells the task that a checkpoint was given up.
func (t *Task) Aborted(id uint64) {
	t.box.Mail(func() error {
		t.settle(id, false)
		if t.aligner != nil {
			t.obey(t.aligner.Cancel(id))
		}
		return nil
	})
}

// settle lets go of the frozen state of a checkpoint. The changes in a
// savepoint are part of the next checkpoint too, for that one must not refer to
// an object which is the user's.
func (t *Task) settle(id uint64, durable bool) {
	kept := t.held[:0]
	for _, h := range t.held {
		if h.id != id {
			kept = append(kept, h)
			continue
		}
		for i, f := range h.stores {
			switch {
			case f == nil:
			case durable && !h.savepoint:
				t.ops[i].rebase = false
				f.Release()
			default:
				f.Abort()
			}
		}
	}
	clear(t.held[len(kept):])
	t.held = kept
}

func (t *Task) takeBarrier(gate int, item exchange.Item) error {
	step := t.aligner.Barrier(t.offsets[gate]+item.Channel, item.Barrier, t.cfg.Clock.Now())
	if !step.Aligned {
		t.obey(step)
		if step.Block && !planted.BarrierNotAligned {
			t.gates[gate].Block(item.Channel)
		}
		return nil
	}
	if err := t.checkpoint(step.Barrier, step.StartDelay, step.Alignment); err != nil {
		return err
	}
	t.obey(step)
	return nil
}

func (t *Task) obey(step barrier.Step) {
	if !step.Unblock {
		return
	}
	for _, g := range t.gates {
		g.Unblock()
	}
	// What pressed when it came in behind another barrier waits from now on.
	t.box.signals.bits.Or(uint32(pressing))
}

// checkpoint is the pause: state is frozen and the barrier goes on.
func (t *Task) checkpoint(b barrier.Barrier, delay, alignment time.Duration) error {
	if err := failpoint.Hit("checkpoint.before-snapshot"); err != nil {
		return err
	}
	from := t.cfg.Clock.Now()
	t.pressed = time.Time{}
	if b.Terminal {
		if err := t.finishWork(); err != nil {
			return err
		}
	}
	if err := t.flushOperators(); err != nil {
		return err
	}
	e := &encoding{
		out:      &Checkpoint{Barrier: b, VertexID: t.cfg.VertexID, Subtask: t.cfg.Subtask},
		frozen:   make([]*state.Frozen, len(t.ops)),
		deferred: make([][]func() ([]*pb.OperatorEntry, error), len(t.ops)),
	}
	for i := range t.ops {
		op := &t.ops[i]
		part := OperatorCheckpoint{UID: op.UID}
		if s := op.Context.State; s != nil {
			e.frozen[i] = s.Freeze(b.Savepoint || op.rebase)
			size := s.Stats()
			part.StateBytes = uint64(size.Bytes + size.Disk)
		}
		if sn, ok := op.Operator.Operator.(operator.Snapshotter); ok {
			snap := operator.Snapshot{CheckpointID: b.ID, Terminal: b.Terminal}
			op.Context.Enter()
			if err := sn.Snapshot(&snap); err != nil {
				return fmt.Errorf("checkpoint %d: %w", b.ID, err)
			}
			part.Entries, e.deferred[i] = snap.Entries, snap.Deferred
		}
		if i == 0 && t.source == nil {
			part.Entries = append(part.Entries, operator.WatermarkEntry(operator.KeyInput, t.kept))
		}
		if i == 0 {
			part.Entries = append(part.Entries, t.flights()...)
		}
		e.out.Operators = append(e.out.Operators, part)
	}
	t.held = append(t.held, frozen{id: b.ID, savepoint: b.Savepoint, stores: e.frozen})
	for _, o := range t.cfg.Outputs {
		if err := o.Writer.Barrier(b); err != nil {
			return err
		}
	}
	e.out.Stats = &pb.TaskCheckpointStats{
		VertexId: t.cfg.VertexID, Subtask: uint32(t.cfg.Subtask),
		AlignmentUs: alignment.Microseconds(), StartDelayUs: delay.Microseconds(),
		SyncUs: t.cfg.Clock.Now().Sub(from).Microseconds(),
	}
	if b.Halt {
		t.halted, t.box.mail.halted = b.ID, true
		if err := failpoint.Hit("rescale.halted"); err != nil {
			return err
		}
	}
	select {
	case t.encode <- e:
		return nil
	default:
	}
	t.pulse.rest()
	defer t.pulse.beat()
	select {
	case t.encode <- e:
		return nil
	case <-t.done:
		return errCancelled
	}
}

// encodeAll is the second goroutine. It goes on to the end of what is queued,
// so that nobody who waits for a checkpoint waits in vain.
func (t *Task) encodeAll(ctx context.Context) {
	for e := range t.encode {
		if ctx.Err() != nil {
			continue
		}
		from := t.cfg.Clock.Now()
		e.out.Err = t.encodeOne(e)
		e.out.Stats.AsyncUs = t.cfg.Clock.Now().Sub(from).Microseconds()
		t.cfg.Snapshot(e.out)
	}
}

// encodeOne runs code of operators off the task's goroutine, so it has a door
// of its own.
func (t *Task) encodeOne(e *encoding) (err error) {
	i := 0
	defer func() {
		if v := recover(); v != nil {
			err = panicked(v)
		}
		if err != nil {
			err = &Failure{
				Operator: t.ops[i].Name, Subtask: t.cfg.Subtask,
				Err: fmt.Errorf("snapshot of checkpoint %d: %w", e.out.Barrier.ID, err),
			}
		}
	}()
	for i = range e.out.Operators {
		part := &e.out.Operators[i]
		if f := e.frozen[i]; f != nil {
			part.Full = f.Full()
			if part.Run, err = t.encodeRun(&t.ops[i], f); err != nil {
				return err
			}
		}
		for _, f := range e.deferred[i] {
			entries, err := f()
			if err != nil {
				return err
			}
			part.Entries = append(part.Entries, entries...)
		}
		e.out.Stats.CheckpointedBytes += uint64(part.Run.Size())
		e.out.Stats.StateBytes += part.StateBytes
	}
	return failpoint.Hit("checkpoint.after-snapshot")
}

// finishWork lets operators end what they have begun: after a terminal barrier
// nothing comes out, and what a window had still to emit at the end of time
// would be lost.
func (t *Task) finishWork() error {
	for {
		t.pulse.beat()
		if t.box.signals.get()&cancelled != 0 {
			return errCancelled
		}
		more, err := t.work()
		if err != nil {
			return err
		}
		if !more {
			if more, err = t.awaitResult(); err != nil || !more {
				return err
			}
		}
	}
}

// awaitResult waits for a result of an operator's calls, and says whether there
// was one to wait for.
func (t *Task) awaitResult() (bool, error) {
	for _, i := range t.awaiters {
		if come := t.ops[i].Operator.Operator.(operator.Awaiter).Awaits(); come != nil {
			t.ops[i].more = true
			return true, t.Wait(come)
		}
	}
	return false, nil
}

func (t *Task) encodeRun(op *chained, f *state.Frozen) (snapshot.Run, error) {
	w := snapshot.NewWriter(t.cfg.KeyGroups.N)
	w.Own(t.cfg.KeyGroups.First, t.cfg.KeyGroups.Last)
	w.Spill(t.cfg.Scratch)
	if f.Full() {
		w.Full()
	}
	if err := f.Write(w); err != nil {
		return snapshot.Run{}, err
	}
	return w.Finish()
}
