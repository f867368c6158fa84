package window

import "math"

// Action is what becomes of a window of a key after a record or a timer.
type Action uint8

const (
	// Continue goes on.
	Continue Action = iota
	// Fire emits the result so far.
	Fire
	// Purge drops the records so far, and what the trigger keeps.
	Purge
	// FirePurge does both.
	FirePurge
)

// Trigger decides when a window of a key fires. S is what it keeps for each: the
// zero value to begin with, and state as the accumulator is.
type Trigger[T, S any] struct {
	// Each is called for each record, after it was added.
	Each func(c *TriggerContext, s *S, v T) Action
	// OnTimer and OnClock are called for the timers in event and processing
	// time. A timer is gone when its call comes.
	OnTimer func(c *TriggerContext, s *S) Action
	OnClock func(c *TriggerContext, s *S) Action
	// Merge folds what is kept for a later window into that of an earlier one,
	// where sessions join.
	Merge func(into, from *S)
	// Only says that windows do not fire at their ends by themselves.
	Only bool
}

// never is the time of a timer that is not set.
const never = math.MaxInt64

// TriggerContext is what a trigger knows and can do; it is valid during a call.
// Times are Unix milliseconds.
type TriggerContext struct {
	window         Window
	time           int64
	watermark, now int64
	// timer and clock are the window's timers, one in each domain.
	timer, clock int64
}

// Window is the span of the window.
func (c *TriggerContext) Window() Window { return c.window }

// Time is that of the record or the timer.
func (c *TriggerContext) Time() int64 { return c.time }

// Watermark is how far event time has come, Now processing time.
func (c *TriggerContext) Watermark() int64 { return c.watermark }

// Now is the processing time.
func (c *TriggerContext) Now() int64 { return c.now }

// SetTimer sets the window's timer in event time, in place of the one before: for
// Trigger.OnTimer once the watermark has reached t.
func (c *TriggerContext) SetTimer(t int64) { c.timer = t }

// SetClock is SetTimer in processing time, for Trigger.OnClock.
func (c *TriggerContext) SetClock(t int64) { c.clock = t }

// Timer is the time of the timer in event time, if it is set.
func (c *TriggerContext) Timer() (int64, bool) { return c.timer, c.timer != never }

// Clock is Timer in processing time.
func (c *TriggerContext) Clock() (int64, bool) { return c.clock, c.clock != never }

// OnCount fires with each nth record.
func OnCount[T any](n int64) Trigger[T, int64] {
	return Trigger[T, int64]{
		Each: func(_ *TriggerContext, s *int64, _ T) Action {
			if *s++; *s < n {
				return Continue
			}
			*s = 0
			return Fire
		},
		Merge: func(into, from *int64) { *into += *from },
	}
}

// Reference is the record that OnDelta compares with.
type Reference[T any] struct {
	Any    bool
	Record T
}

// OnDelta fires with a record that is far from the one with which it fired last,
// or from the first.
func OnDelta[T any](far func(last, v T) bool) Trigger[T, Reference[T]] {
	return Trigger[T, Reference[T]]{
		Each: func(_ *TriggerContext, s *Reference[T], v T) Action {
			if s.Any && !far(s.Record, v) {
				return Continue
			}
			first := !s.Any
			if s.Any, s.Record = true, v; first {
				return Continue
			}
			return Fire
		},
		Merge: func(into, from *Reference[T]) {
			if from.Any {
				*into = *from
			}
		},
	}
}

// Every fires at the multiples of an interval, in milliseconds, of event time or
// of the clock, if a record has come since.
func Every[T any](interval int64, clock bool) Trigger[T, struct{}] {
	next := func(t int64) int64 {
		m := t % interval
		if m < 0 {
			m += interval
		}
		return t - m + interval
	}
	each := func(c *TriggerContext, _ *struct{}, _ T) Action {
		if _, set := c.Timer(); !set {
			c.SetTimer(next(max(c.time, c.watermark+1)) - 1)
		}
		return Continue
	}
	if clock {
		each = func(c *TriggerContext, _ *struct{}, _ T) Action {
			if _, set := c.Clock(); !set {
				c.SetClock(next(c.now))
			}
			return Continue
		}
	}
	fire := func(*TriggerContext, *struct{}) Action { return Fire }
	return Trigger[T, struct{}]{Each: each, OnTimer: fire, OnClock: fire, Merge: func(_, _ *struct{}) {}}
}
