package task

import (
	"errors"
	"time"

	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/exchange"
	"github.com/millrace/millrace/runtime/operator"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// errCancelled is what waits inside the chain end with.
var errCancelled = errors.New("the task was cancelled")

// loop runs until the task is cancelled or fails.
func (t *Task) loop() error {
	for {
		t.pulse.beat()
		t.ease()
		if s := t.box.signals.get(); s != 0 {
			if s&cancelled != 0 {
				return nil
			}
			if err := t.heed(); err != nil {
				return err
			}
		}
		if t.halted != 0 {
			t.sleep()
			continue
		}
		busy, err := t.work()
		if err != nil {
			return err
		}
		full := !busy && t.full()
		if busy || full {
			err = t.takeBarriers(false)
		} else {
			busy, err = t.takeInput()
		}
		switch {
		case err != nil:
			return err
		case t.halted != 0:
			continue // nothing may leave after the barrier
		case busy:
			err = t.flushIfDue()
		case full:
			err = t.parkFull()
		default:
			err = t.park()
		}
		if err != nil {
			return err
		}
	}
}

// full says that an operator takes no input until a result of its has come.
func (t *Task) full() bool {
	for _, i := range t.awaiters {
		if t.ops[i].Operator.Operator.(operator.Awaiter).Full() {
			return true
		}
	}
	return false
}

// parkFull is park while input waits. A barrier behind it waits no longer than it
// would behind a batch, unless it is one that does not overtake.
func (t *Task) parkFull() error {
	if left := t.patience(); left > 0 && !t.pressed.IsZero() {
		defer t.cfg.Clock.AfterFunc(left, func() { t.box.signals.set(pressing) })()
	}
	return t.park()
}

// ease is the moment at which no operator works, so state may leave memory.
func (t *Task) ease() {
	for i := range t.ops {
		if s := t.ops[i].Context.State; s != nil {
			s.Ease()
		}
	}
}

// heed does what signals ask for.
func (t *Task) heed() error {
	if t.box.signals.take(counted) {
		t.cfg.Metrics(t.metrics())
	}
	if t.box.signals.take(woken) {
		for i := range t.ops {
			t.ops[i].more = t.ops[i].worker != nil
		}
	}
	if t.box.signals.take(mailed) {
		if err := t.box.mail.run(); err != nil {
			return err
		}
	}
	if t.box.signals.get()&pressing != 0 {
		return t.heedPress()
	}
	return nil
}

// heedPress lets barriers overtake that have waited for too long.
func (t *Task) heedPress() error {
	t.box.signals.take(pressing)
	if t.patience() <= 0 {
		if err := t.takeBarriers(true); err != nil {
			return err
		}
	}
	if !t.pressed.IsZero() {
		t.box.signals.bits.Or(uint32(pressing)) // look again, without a wake
	}
	return nil
}

// patience is what is left of it for a barrier that waits.
func (t *Task) patience() time.Duration {
	if !t.barrierWaits() {
		t.pressed = time.Time{}
		return max(t.cfg.Patience, 1)
	}
	now := t.cfg.Clock.Now()
	if t.pressed.IsZero() {
		t.pressed = now
	}
	return t.cfg.Patience - now.Sub(t.pressed)
}

// work lets each operator that has work of its own, save a source, do a step
// of it and says whether any has more.
func (t *Task) work() (more bool, err error) {
	for i := range t.ops {
		op := &t.ops[i]
		if !op.more || i == 0 && t.source != nil {
			continue
		}
		var reached int64
		op.more, reached, err = op.worker.Work()
		if err != nil {
			return false, err
		}
		more = more || op.more
		if err := t.reach(i, reached); err != nil {
			return false, err
		}
	}
	return more, nil
}

// takeInput takes one batch from the source, or one item from a gate, and says
// whether there was something.
func (t *Task) takeInput() (bool, error) {
	if t.source != nil {
		return t.takeFromSource()
	}
	for range t.gates {
		g := t.turn
		if t.turn++; t.turn == len(t.gates) {
			t.turn = 0
		}
		item, err := t.gates[g].Poll()
		if err != nil {
			return false, err
		}
		if item.Kind != exchange.None {
			return true, t.take(g, item)
		}
	}
	return false, nil
}

// takeFromSource keeps the source's watermark back while the source is busy,
// until batches are flushed anyway: each watermark flushes all writers.
func (t *Task) takeFromSource() (bool, error) {
	op := &t.ops[0]
	if !op.more {
		return false, nil
	}
	more, reached, err := op.worker.Work()
	if err != nil {
		return false, err
	}
	op.more = more
	if idle := t.source.Idle(); idle != t.idle {
		if err := t.setIdle(idle); err != nil {
			return false, err
		}
	}
	if !more || reached == batch.EndOfTime {
		if err := t.reach(0, reached); err != nil {
			return false, err
		}
	}
	if !t.finished && t.source.Exhausted() {
		t.finished = true
		t.cfg.Exhausted()
	}
	return more, nil
}

// takeBarriers takes barriers only, for there is work to do before more input.
func (t *Task) takeBarriers(overtake bool) error {
	for g, gate := range t.gates {
		for t.halted == 0 {
			item, ok := gate.TakeBarrier(overtake)
			if !ok {
				break
			}
			if err := t.take(g, item); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *Task) take(gate int, item exchange.Item) error {
	channel := t.offsets[gate] + item.Channel
	switch item.Kind {
	case exchange.Data:
		return nil // the operator has it already
	case exchange.Watermark:
		if t.combiner.SetWatermark(channel, item.Time) {
			return t.told()
		}
	case exchange.Idle, exchange.Active:
		if t.combiner.SetIdle(channel, item.Kind == exchange.Idle) {
			if err := t.told(); err != nil {
				return err
			}
		}
		if idle := t.combiner.Idle(); idle != t.idle {
			return t.setIdle(idle)
		}
	case exchange.Barrier:
		return t.takeBarrier(gate, item)
	}
	return nil
}

// told passes on the watermark of the inputs, which has risen.
func (t *Task) told() error {
	if w := t.combiner.Current(); w > t.input {
		t.input = w
		if w != batch.EndOfTime {
			t.kept = w
		}
		return t.tell(0, w)
	}
	return nil
}

// tell lets an operator know that its input has reached a watermark.
func (t *Task) tell(i int, w int64) error {
	op := &t.ops[i]
	op.Context.Enter()
	reached, err := op.Operator.Operator.Watermark(w)
	if err != nil {
		return err
	}
	op.more = op.more || reached < w && op.worker != nil
	return t.reach(i, reached)
}

// reach passes on the watermark of an operator's output, if it has risen.
func (t *Task) reach(i int, w int64) error {
	op := &t.ops[i]
	if w <= op.reached {
		return nil
	}
	op.reached = w
	for _, out := range op.writers {
		if err := out.Watermark(w); err != nil {
			return err
		}
	}
	for _, child := range op.children {
		if err := t.tell(child, w); err != nil {
			return err
		}
	}
	return nil
}

func (t *Task) setIdle(idle bool) error {
	t.idle = idle
	for _, o := range t.cfg.Outputs {
		var err error
		if idle {
			err = o.Writer.Idle()
		} else {
			err = o.Writer.Active()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// reachOwn passes on the watermarks that operators make of their records, and
// the one of the source that was kept back.
func (t *Task) reachOwn() error {
	if t.source != nil {
		w := t.source.Reached()
		if err := t.reach(0, w); err != nil {
			return err
		}
	}
	for i := range t.ops {
		if m := t.ops[i].watermarked; m != nil {
			if err := t.reach(i, m.CurrentWatermark()); err != nil {
				return err
			}
		}
	}
	return nil
}

// flushIfDue bounds how long a busy task holds records and watermarks back.
func (t *Task) flushIfDue() error {
	now := t.cfg.Clock.Now()
	if now.Sub(t.flushed) < FlushInterval {
		return nil
	}
	t.flushed = now
	if err := t.reachOwn(); err != nil {
		return err
	}
	return t.flushWriters()
}

func (t *Task) flushWriters() error {
	for _, o := range t.cfg.Outputs {
		if o.Writer.Pending() {
			if err := o.Writer.Flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// park flushes everything and sleeps until there is something to do.
func (t *Task) park() error {
	if err := t.reachOwn(); err != nil {
		return err
	}
	if err := t.flushOperators(); err != nil {
		return err
	}
	if err := t.flushWriters(); err != nil {
		return err
	}
	t.sleep()
	return nil
}

// sleep waits for a signal, or for something at a gate.
func (t *Task) sleep() {
	select {
	case <-t.box.signals.notify: // already there: not idle
		return
	default:
	}
	from := t.cfg.Clock.Now()
	t.pulse.rest()
	select {
	case <-t.box.signals.notify:
	case <-t.done:
	}
	now := t.cfg.Clock.Now()
	t.clocks.idle += now.Sub(from)
	t.flushed = now
}

func (t *Task) flushOperators() error {
	for i := range t.ops {
		op := &t.ops[i]
		if op.flusher == nil {
			continue
		}
		if err := op.flusher.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// Park waits for room at a writer, for exchange.WriterConfig.Park, unless a
// barrier waits for the task.
func (t *Task) Park(room <-chan struct{}) (pressed bool, err error) {
	return t.await(room, true)
}

// Wait is Park for operators (operator.Context.Park), whose waits nobody else
// counts, and which wait to the end.
func (t *Task) Wait(room <-chan struct{}) error {
	from := t.cfg.Clock.Now()
	defer func() { t.clocks.waited += t.cfg.Clock.Now().Sub(from) }()
	_, err := t.await(room, false)
	return err
}

func (t *Task) await(room <-chan struct{}, mayPress bool) (pressed bool, err error) {
	t.clocks.blocked = t.cfg.Clock.Now()
	t.pulse.rest()
	var alarm func() bool
	defer func() {
		if alarm != nil {
			alarm()
		}
		t.clocks.blocked = time.Time{}
		t.pulse.beat()
	}()
	for {
		if mayPress {
			left := t.patience()
			if left <= 0 {
				return true, nil
			}
			if !t.pressed.IsZero() && alarm == nil {
				alarm = t.cfg.Clock.AfterFunc(left, t.box.poke)
			}
		}
		select {
		case <-room:
			return false, nil
		case <-t.box.room:
			if t.box.signals.take(counted) {
				t.cfg.Metrics(t.metrics())
			}
		case <-t.done:
			return false, errCancelled
		}
	}
}

// barrierWaits says that a barrier waits for what the task is at.
func (t *Task) barrierWaits() bool {
	if t.box.triggers.Load() > 0 {
		return true
	}
	for _, g := range t.gates {
		if g.Pressed() {
			return true
		}
	}
	return false
}

// RequestMetrics makes the task hand a copy of its counters to Config.Metrics.
func (t *Task) RequestMetrics() {
	t.box.signals.set(counted)
	t.box.poke()
}

// Follow passes splits that follow finished ones to the source, after what it
// was sent before: a barrier that was triggered earlier is taken earlier.
func (t *Task) Follow(splits []*pb.Split, released []string) {
	if t.source == nil {
		return
	}
	t.box.Mail(func() error {
		if t.halted != 0 {
			return nil // the next attempt finds them anew
		}
		return t.source.Follow(splits, released)
	})
}

// DrainTo passes the end positions to the source.
func (t *Task) DrainTo(positions []*pb.DrainPosition) {
	if t.source == nil {
		return
	}
	t.box.Post(func() error {
		t.source.DrainTo(positions)
		return nil
	})
}
