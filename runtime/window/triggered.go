package window

import (
	"errors"
	"fmt"
	"slices"

	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/codec"
	"github.com/millrace/millrace/runtime/operator"
	"github.com/millrace/millrace/runtime/state"
	"github.com/millrace/millrace/runtime/timer"
)

// TriggeredConfig describes a window operator with a trigger.
type TriggeredConfig[K comparable, T, A, S, R any] struct {
	Config[K, T, A, R]
	Trigger Trigger[T, S]
	// Purging drops a window's records whenever it has fired.
	Purging bool
	// Evict, if set, takes records out of the accumulator before a window
	// fires, and says whether any are left.
	Evict func(w Window, acc *A) bool
	// Time, if set, is told the time of a record before Aggregate.Add.
	Time func(t int64)
}

// Triggered is the operator of windows with a trigger. Unlike Sliced it keeps each
// window of a key by itself, with what the trigger keeps for it, so a record costs
// an update a window that it belongs to.
//
// Invariants:
//  1. The panes of a key are in order of their starts, then of their ends.
//  2. For each pane there is a timer at next or before, and one at its clock
//     or before; a timer that finds nothing due sets a new one.
//  3. A pane that is over has fired at its end, unless Only or empty.
type Triggered[K comparable, T, A, S, R any] struct {
	cfg  TriggeredConfig[K, T, A, S, R]
	ctx  *operator.Context
	main operator.Output[R]
	late operator.Output[T]

	panes     *state.Table[K, []pane[A, S]]
	accs      codec.Codec[A]
	timers    *timer.Timers[K]
	clocks    *timer.Timers[K]
	watermark int64
	before    int64 // watermark before the end of time
	reached   int64
	call      TriggerContext
	stamp     int64 // what results of endless windows have for event time

	out       batch.Batch[R]
	lateBatch batch.Batch[T]
	alarm     alarm
}

// pane is a window of a key.
type pane[A, S any] struct {
	Start, End int64
	// Timer and Clock are the trigger's.
	Timer, Clock int64
	// Held says that Acc has records, Over that the window's end has passed,
	// Fresh that a record has come since it fired.
	Held, Over, Fresh bool
	Acc               A
	Kept              S
}

func (c *TriggeredConfig[K, T, A, S, R]) validate() error {
	plain := c.Config
	if plain.Assigner.Endless {
		plain.Assigner = Assigner{Size: 1, Slide: 1}
	} else if plain.Assigner.overlaps() && plain.Aggregate.Merge == nil {
		plain.Assigner.Slide = plain.Assigner.Size // windows are kept one by one
		plain.Assigner.Cumulate = false
	}
	if err := plain.validate(); err != nil {
		return err
	}
	switch {
	case c.Trigger.Each == nil:
		return errors.New("a trigger needs a function for each record")
	case c.Assigner.Gap != 0 && c.Trigger.Merge == nil:
		return errors.New("session windows join, and so must what their triggers keep: give the trigger a Merge function")
	}
	return nil
}

// CheckTriggered names what is wrong with a configuration, for plan mode.
func CheckTriggered[K comparable, T, A, S, R any](c TriggeredConfig[K, T, A, S, R]) error {
	return c.validate()
}

// NewTriggered makes the operator of one subtask.
func NewTriggered[K comparable, T, A, S, R any](c TriggeredConfig[K, T, A, S, R]) operator.Operator {
	return &Triggered[K, T, A, S, R]{cfg: c}
}

// Input implements operator.Operator.
func (w *Triggered[K, T, A, S, R]) Input(int) any { return operator.Stage[T](w) }

// Output implements operator.Operator.
func (w *Triggered[K, T, A, S, R]) Output(tag string) any {
	return outputs(tag, w.cfg.Late, &w.main, &w.late)
}

// Open implements operator.Operator.
func (w *Triggered[K, T, A, S, R]) Open(ctx *operator.Context) error {
	w.ctx = ctx
	w.watermark, w.reached = batch.NoTime, batch.NoTime
	if err := w.cfg.validate(); err != nil {
		return err
	}
	var err error
	if w.accs, err = codec.Derive[A](); err != nil {
		return err
	}
	if w.panes, err = state.NewTable[K, []pane[A, S]](ctx.State, StateName); err != nil {
		return err
	}
	ctx.State.Describe(StateName, "window")
	if w.timers, err = timer.New[K](ctx.State, StateName+"-ends"); err != nil {
		return err
	}
	w.clocks, err = timer.New[K](ctx.State, StateName+"-clocks")
	return err
}

// Close implements operator.Operator.
func (w *Triggered[K, T, A, S, R]) Close() error {
	w.alarm.off()
	return nil
}

// Push implements operator.Stage.
func (w *Triggered[K, T, A, S, R]) Push(b *batch.Batch[T]) error {
	w.ctx.Enter()
	w.ctx.Metrics.RecordsIn += uint64(len(b.Values))
	w.call.now = w.ctx.Clock.Now().UnixMilli()
	for i, v := range b.Values {
		t := b.Times[i]
		w.stamp = t
		if w.cfg.Assigner.ProcessingTime {
			t = max(w.call.now, w.watermark+1)
		} else if t == batch.NoTime && !w.cfg.Assigner.Endless {
			return fmt.Errorf("a record without event time reached the window: give its source a watermark strategy, or the stream timestamps")
		}
		if !w.add(v, t, b.Hashes[i]) {
			w.ctx.Metrics.LateDropped++
			if w.late.Attached() {
				w.lateBatch.AppendKeyed(v, t, b.Hashes[i])
			}
		}
		if w.out.Full() {
			if err := w.flush(); err != nil {
				return err
			}
		}
	}
	w.schedule()
	return w.flush()
}

// add puts a record into its windows and asks the trigger; false says that it is
// too late for all of them.
func (w *Triggered[K, T, A, S, R]) add(v T, t int64, hash uint64) (taken bool) {
	key := w.cfg.Key(v)
	a := &w.cfg.Assigner
	switch {
	case a.Endless:
		return w.addTo(v, t, hash, key, Window{batch.NoTime, batch.EndOfTime})
	case a.Gap != 0:
		span := w.grown(Window{t, t + a.Gap}, hash, key)
		return w.addTo(v, t, hash, key, span)
	}
	slice, _, covered := a.slice(t)
	if !covered {
		return true
	}
	for end := a.firstEnd(slice); end <= a.lastEnd(slice); end += a.Slide {
		taken = w.addTo(v, t, hash, key, Window{a.start(end), end}) || taken
	}
	return taken
}

// grown is the session that a record's own span makes with those it touches.
func (w *Triggered[K, T, A, S, R]) grown(span Window, hash uint64, key K) Window {
	own := span
	if list, ok := w.panes.Get(hash, key); ok {
		for _, p := range *list {
			if p.End > own.Start && p.Start < own.End {
				span.Start, span.End = min(span.Start, p.Start), max(span.End, p.End)
			}
		}
	}
	return span
}

// addTo adds a record to one window.
func (w *Triggered[K, T, A, S, R]) addTo(v T, t int64, hash uint64, key K, span Window) bool {
	if w.past(span.End-1+w.cfg.AllowedLateness) && !w.cfg.Assigner.Endless {
		return false
	}
	list, _ := w.panes.Upsert(hash, key)
	p := w.paneOf(list, span)
	if w.cfg.Time != nil {
		w.cfg.Time(t)
	}
	if !p.Held {
		p.Acc, p.Held = w.cfg.Aggregate.New(), true
	}
	w.cfg.Aggregate.Add(&p.Acc, v)
	p.Fresh = true
	action := w.ask(p, t, func() Action { return w.cfg.Trigger.Each(&w.call, &p.Kept, v) })
	if action == Continue && p.Over && !w.cfg.Trigger.Only && min(p.Timer, p.Clock) == never {
		action = Fire // what comes late is not to wait for another
	}
	w.act(p, key, action)
	if w.cfg.Assigner.Endless && !p.Held && action != Fire && min(p.Timer, p.Clock) == never {
		w.panes.Delete(hash, key)
		return true
	}
	if at := w.next(p); at != never {
		w.timers.Register(at, hash, key)
	}
	if p.Clock != never {
		w.clocks.Register(p.Clock, hash, key)
	}
	return true
}

// paneOf finds or makes the pane of a window; sessions that it covers join it.
func (w *Triggered[K, T, A, S, R]) paneOf(list *[]pane[A, S], span Window) *pane[A, S] {
	first := 0
	for first < len(*list) && ((*list)[first].Start < span.Start || (*list)[first].Start == span.Start && (*list)[first].End < span.End && w.cfg.Assigner.Gap == 0) {
		first++
	}
	last := first
	for last < len(*list) && (w.cfg.Assigner.Gap != 0 && (*list)[last].Start < span.End || (*list)[last].Start == span.Start && (*list)[last].End == span.End) {
		last++
	}
	if first == last {
		fresh := pane[A, S]{Start: span.Start, End: span.End, Timer: never, Clock: never, Over: w.past(span.End - 1)}
		*list = slices.Insert(*list, first, fresh)
		return &(*list)[first]
	}
	for i := first + 1; i < last; i++ {
		w.join(&(*list)[first], &(*list)[i])
	}
	*list = slices.Delete(*list, first+1, last)
	p := &(*list)[first]
	p.Start, p.End, p.Over = span.Start, span.End, w.past(span.End-1)
	return p
}

// join merges a later session into an earlier one.
func (w *Triggered[K, T, A, S, R]) join(p, q *pane[A, S]) {
	switch {
	case p.Held && q.Held:
		w.cfg.Aggregate.Merge(&p.Acc, &q.Acc)
	case q.Held:
		p.Acc, p.Held = w.accs.Clone(&q.Acc), true
	}
	w.cfg.Trigger.Merge(&p.Kept, &q.Kept)
	p.Timer, p.Clock, p.Fresh = min(p.Timer, q.Timer), min(p.Clock, q.Clock), p.Fresh || q.Fresh
}

// past says whether event time has reached t.
func (w *Triggered[K, T, A, S, R]) past(t int64) bool {
	return w.watermark != batch.NoTime && t <= w.watermark
}

// ask calls the trigger for a pane.
func (w *Triggered[K, T, A, S, R]) ask(p *pane[A, S], t int64, f func() Action) Action {
	c := &w.call
	c.window, c.time, c.watermark, c.timer, c.clock = Window{p.Start, p.End}, t, w.watermark, p.Timer, p.Clock
	action := f()
	p.Timer, p.Clock = c.timer, c.clock
	return action
}

// act does what the trigger said.
func (w *Triggered[K, T, A, S, R]) act(p *pane[A, S], key K, action Action) {
	if action == Fire || action == FirePurge {
		w.fire(p, key)
	}
	if p.Held && (action == Purge || action == FirePurge) {
		var none A
		var kept S
		p.Acc, p.Held, p.Fresh, p.Kept = none, false, false, kept
	}
}

// fire emits the result of a pane that holds something.
func (w *Triggered[K, T, A, S, R]) fire(p *pane[A, S], key K) {
	p.Fresh = false
	if !p.Held || w.cfg.Evict != nil && !w.cfg.Evict(Window{p.Start, p.End}, &p.Acc) {
		return
	}
	t := p.End - 1
	if w.cfg.Assigner.Endless {
		t = w.stamp
	}
	w.out.Append(w.cfg.Result(Window{p.Start, p.End}, key, p.Acc), t)
	if w.cfg.Purging {
		var none A
		p.Acc, p.Held = none, false
	}
}
