package sdk

import (
	"errors"
	"fmt"
	"time"

	"github.com/millrace/millrace/runtime/operator"
	"github.com/millrace/millrace/runtime/window"
)

// Endless makes one window of all time for each key, which fires when a trigger
// says so, and only then: the last hundred records, whenever they come. Its Start
// and End mean nothing; a result has the event time of the record or timer that
// fired it.
func Endless() Windows { return Windows{window.Assigner{Endless: true}} }

// Trigger decides when a window of a key fires besides at its end. S is what it
// keeps for each key and window: state, which begins with the zero value.
//
// OnCount, OnDelta, Every and EveryProcessing are triggers; a literal makes one of
// your own:
//
//	// Fires with the first payment over a limit, and then with each.
//	large := sdk.Trigger[Payment, bool]{
//		Each: func(c *sdk.TriggerContext, over *bool, p Payment) sdk.TriggerAction {
//			if *over = *over || p.Amount > limit; *over {
//				return sdk.Fire
//			}
//			return sdk.Continue
//		},
//		Merge: func(into, from *bool) { *into = *into || *from },
//	}
//
// The functions are called by the goroutine of the key's subtask, and must keep
// neither c nor kept.
type Trigger[T, S any] struct {
	// Each is called for each record, after the window has taken it in. A late
	// record, for which it neither fires nor sets a timer, fires at once.
	Each func(c *TriggerContext, kept *S, v T) TriggerAction
	// OnTimer and OnProcessingTimer are called for the window's timers, one in
	// event and one in processing time; see TriggerContext.
	OnTimer           func(c *TriggerContext, kept *S) TriggerAction
	OnProcessingTimer func(c *TriggerContext, kept *S) TriggerAction
	// Merge folds what was kept for a session into that of an earlier one that
	// it joins. Only session windows need it.
	Merge func(into, from *S)
	// Only leaves out the result at the window's end, which other triggers
	// only add to.
	Only bool

	wrong error // of a constructor
}

// TriggerAction is what a trigger has a window do.
type TriggerAction = window.Action

// What a trigger has a window do: go on, emit the result so far, drop the records
// so far with what the trigger keeps, or both.
const (
	Continue     = window.Continue
	Fire         = window.Fire
	Purge        = window.Purge
	FireAndPurge = window.FirePurge
)

// TriggerContext is what a trigger knows and can do.
type TriggerContext window.TriggerContext

func (c *TriggerContext) of() *window.TriggerContext { return (*window.TriggerContext)(c) }

// Window is the window.
func (c *TriggerContext) Window() Window { return spanOf(c.of().Window()) }

// Time is the event time of the record, or the time of the timer.
func (c *TriggerContext) Time() time.Time { return time.UnixMilli(c.of().Time()).UTC() }

// Watermark is how far event time has come: no record at or before it is expected.
func (c *TriggerContext) Watermark() time.Time { return time.UnixMilli(c.of().Watermark()).UTC() }

// Now is the processing time.
func (c *TriggerContext) Now() time.Time { return time.UnixMilli(c.of().Now()).UTC() }

// SetTimer sets the window's timer in event time, in place of the one before.
// Trigger.OnTimer is called once the watermark has reached t.
func (c *TriggerContext) SetTimer(t time.Time) { c.of().SetTimer(t.UnixMilli()) }

// HasTimer says whether the timer is set.
func (c *TriggerContext) HasTimer() bool {
	_, set := c.of().Timer()
	return set
}

// SetProcessingTimer sets the window's timer in processing time, in place of the
// one before, for Trigger.OnProcessingTimer.
func (c *TriggerContext) SetProcessingTimer(t time.Time) { c.of().SetClock(t.UnixMilli()) }

// HasProcessingTimer says whether the timer in processing time is set.
func (c *TriggerContext) HasProcessingTimer() bool {
	_, set := c.of().Clock()
	return set
}

// OnCount fires a window with each nth record of its key.
func OnCount[T any](n int64) Trigger[T, int64] {
	t := built(window.OnCount[T](n))
	if n < 1 {
		t.wrong = fmt.Errorf("a trigger that fires every %d records: it must be at least 1", n)
	}
	return t
}

// Reference is what OnDelta keeps: the record with which a window fired last.
type Reference[T any] = window.Reference[T]

// OnDelta fires a window with a record that is far from the one with which it
// fired last, or at first from its first record.
func OnDelta[T any](far func(last, v T) bool) Trigger[T, Reference[T]] {
	t := built(window.OnDelta(far))
	if far == nil {
		t.wrong = errors.New("the function of its delta trigger is nil")
	}
	return t
}

// Every fires a window early, and again for late records, at each multiple of an
// interval in event time, if a record has come since it fired.
func Every[T any](interval time.Duration) Trigger[T, struct{}] { return every[T](interval, false) }

// EveryProcessing is Every by the clock: results so far while a window is open.
func EveryProcessing[T any](interval time.Duration) Trigger[T, struct{}] {
	return every[T](interval, true)
}

func every[T any](interval time.Duration, clock bool) Trigger[T, struct{}] {
	t := built(window.Every[T](max(1, interval.Milliseconds()), clock))
	if interval < time.Millisecond {
		t.wrong = fmt.Errorf("a trigger that fires every %v: it must be at least a millisecond", interval)
	}
	return t
}

// built is a trigger of the runtime's. Its context is ours by another name.
func built[T, S any](t window.Trigger[T, S]) Trigger[T, S] {
	out := Trigger[T, S]{Merge: t.Merge, Only: t.Only}
	out.Each = func(c *TriggerContext, kept *S, v T) TriggerAction { return t.Each(c.of(), kept, v) }
	if t.OnTimer != nil {
		out.OnTimer = func(c *TriggerContext, kept *S) TriggerAction { return t.OnTimer(c.of(), kept) }
	}
	if t.OnClock != nil {
		out.OnProcessingTimer = func(c *TriggerContext, kept *S) TriggerAction { return t.OnClock(c.of(), kept) }
	}
	return out
}

func (t Trigger[T, S]) runtime() window.Trigger[T, S] {
	out := window.Trigger[T, S]{Merge: t.Merge, Only: t.Only}
	if each := t.Each; each != nil {
		out.Each = func(c *window.TriggerContext, kept *S, v T) window.Action {
			return each((*TriggerContext)(c), kept, v)
		}
	}
	if f := t.OnTimer; f != nil {
		out.OnTimer = func(c *window.TriggerContext, kept *S) window.Action { return f((*TriggerContext)(c), kept) }
	}
	if f := t.OnProcessingTimer; f != nil {
		out.OnClock = func(c *window.TriggerContext, kept *S) window.Action { return f((*TriggerContext)(c), kept) }
	}
	return out
}

// TriggeredStream is a keyed stream cut into windows that a trigger fires. Each
// window of a key is kept by itself, so a record costs an update for each window
// that it belongs to; without a trigger it costs one in all.
//
// A window also fires at its end (unless Trigger.Only), and then once for each
// record within the allowed lateness. Its results have the event time of its end.
type TriggeredStream[K comparable, T, S any] struct {
	w       WindowedStream[K, T]
	t       Trigger[T, S]
	purging bool
}

// Trigger fires the windows early, or late, as t says: a result each time, of all
// records so far (see TriggeredStream.Purging).
func (w WindowedStream[K, T]) Trigger[S any](t Trigger[T, S]) TriggeredStream[K, T, S] {
	return TriggeredStream[K, T, S]{w: w, t: t}
}

// Purging makes each result be of the records since the one before.
func (w TriggeredStream[K, T, S]) Purging() TriggeredStream[K, T, S] {
	w.purging = true
	return w
}

// Aggregate folds the records of each key and window into an accumulator, and
// makes a result of it whenever the window fires. Merge of the aggregate is needed
// for session windows only. result must not keep memory that the accumulator holds.
func (w TriggeredStream[K, T, S]) Aggregate[A, R any](name string, agg Aggregate[T, A], result func(w Window, key K, acc A) R) DataStream[R] {
	c := window.TriggeredConfig[K, T, A, S, R]{Trigger: w.t.runtime(), Purging: w.purging}
	c.Assigner, c.Key, c.AllowedLateness, c.Late = w.w.a, w.w.k.key, w.w.lateness.Milliseconds(), w.w.lateTag()
	c.Aggregate = window.Aggregate[T, A]{New: agg.New, Add: agg.Add, Merge: agg.Merge}
	c.Result = spanned(result)
	return triggered(w, name, c, func() operator.Operator { return window.NewTriggered(c) })
}

// Evict keeps the records of each window, and asks e before it fires which of them
// are to stay.
func (w TriggeredStream[K, T, S]) Evict(e Evictor[T]) EvictedStream[K, T, S] {
	return EvictedStream[K, T, S]{w, e}
}

// Evict keeps the records of each window, and asks e before it fires which of them
// are to stay.
func (w WindowedStream[K, T]) Evict[E ~func(Window, []Kept[T]) []Kept[T]](e E) EvictedStream[K, T, struct{}] {
	atEnd := window.Trigger[T, struct{}]{
		Each:  func(*window.TriggerContext, *struct{}, T) window.Action { return window.Continue },
		Merge: func(_, _ *struct{}) {},
	}
	return w.Trigger(built(atEnd)).Evict(Evictor[T](e))
}

// Kept is a record that a window keeps, with its event time in milliseconds since
// 1970 (for windows in processing time, the time at which it came).
type Kept[T any] = window.Kept[T]

// Evictor chooses, before a window fires, which of its records are to stay, in the
// order in which they came. What it leaves out is gone for good. It may reuse the
// slice. KeepLast and KeepNewest are evictors.
type Evictor[T any] func(w Window, records []Kept[T]) []Kept[T]

// KeepLast keeps the n records that came last.
func KeepLast[T any](n int) Evictor[T] {
	keep := window.KeepLast[T](n)
	return func(_ Window, records []Kept[T]) []Kept[T] { return keep(window.Window{}, records) }
}

// KeepNewest keeps the records whose event time is at most d before that of the
// newest.
func KeepNewest[T any](d time.Duration) Evictor[T] {
	keep := window.KeepNewest[T](d.Milliseconds())
	return func(_ Window, records []Kept[T]) []Kept[T] { return keep(window.Window{}, records) }
}

// EvictedStream is a keyed stream cut into windows that keep their records.
type EvictedStream[K comparable, T, S any] struct {
	w TriggeredStream[K, T, S]
	e Evictor[T]
}

// Apply makes a result of the records of each key and window that the evictor has
// left, if any, in the order in which they came. result must not keep the slice.
func (w EvictedStream[K, T, S]) Apply[R any](name string, result func(w Window, key K, records []T) R) DataStream[R] {
	in := w.w.w
	c := window.EvictingConfig[K, T, S, R]{
		Assigner: in.a, Key: in.k.key, Trigger: w.w.t.runtime(), Purging: w.w.purging,
		AllowedLateness: in.lateness.Milliseconds(), Late: in.lateTag(),
	}
	c.Result = spanned(result)
	if w.e != nil {
		c.Evict = func(span window.Window, all []Kept[T]) []Kept[T] { return w.e(spanOf(span), all) }
	}
	return triggered(w.w, name, c.Triggered(), func() operator.Operator { return window.NewEvicting(c) })
}

// triggered adds the operator of windows with a trigger.
func triggered[K comparable, T, S, A, R any](w TriggeredStream[K, T, S], name string, c window.TriggeredConfig[K, T, A, S, R], build func() operator.Operator) DataStream[R] {
	out, n := attachKeyed[K, T, R](w.w.k, "Window", name, build)
	w.w.mark(n)
	n.plan = append(n.plan, func() error {
		if w.t.wrong != nil {
			return w.t.wrong
		}
		if err := w.w.check(); err != nil {
			return err
		}
		if err := window.CheckTriggered(c); err != nil {
			return err
		}
		return n.declareState()
	})
	return out
}
