package operator

import (
	"time"

	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/state"
)

// Timers are the timers of a keyed process operator in one domain of time;
// *timer.Timers[K] is one.
type Timers[K comparable] interface {
	// Rebuild is called once state has been loaded.
	Rebuild()
	// Next is the time of the earliest timer, false for none.
	Next() (int64, bool)
	// Advance fires the timers up to and including to, at most max of them;
	// more says that some are left.
	Advance(to int64, max int, fire func(at int64, hash uint64, key K) error) (more bool, err error)
}

// KeyedTimers is what the user code of a keyed process operator has besides its
// functions for records. All of it is optional.
type KeyedTimers[K comparable, U any] struct {
	// OnEventTime and OnProcessingTime are called for timers that fire: the
	// current key is the timer's, and Call.Time the time it was set for.
	OnEventTime      func(c *Call, emit func(U)) error
	OnProcessingTime func(c *Call, emit func(U)) error
	EventTimers      Timers[K]
	ProcessingTimers Timers[K]
	Close            func() error
}

// timersAStep bounds the timers that fire before the task turns to its mailbox.
const timersAStep = 1024

// keyedCalls is what keyed process operators have in common, however many inputs
// they have: the current key, its timers, the outputs. It does not know what
// comes in.
type keyedCalls[K comparable, U any] struct {
	emitter[U]
	timers KeyedTimers[K, U]
	cur    state.Current[K]
	call   Call
	to     func(U) // emitter.sink, made once
	// watermark is the input's, reached the output's: behind it while timers
	// are still to fire.
	watermark, reached int64

	// alarmAt is when the clock will wake the operator, 0 for not at all.
	alarmAt   int64
	stopAlarm func() bool
}

func (p *keyedCalls[K, U]) init(declared []Side) {
	p.watermark, p.reached, p.call.watermark = batch.NoTime, batch.NoTime, batch.NoTime
	p.call.sides = newSides(declared, func() *Context { return p.ctx })
}

func (p *keyedCalls[K, U]) Output(tag string) any {
	if tag == "" {
		return &p.out
	}
	return p.call.sides.output(tag)
}

func (p *keyedCalls[K, U]) begin(ctx *Context) {
	p.ctx, p.call.ctx, p.to = ctx, ctx, p.sink()
	p.call.sides.open()
	ctx.Enter()
}

// Restore implements Restorer: timers come back with the keyed state.
func (p *keyedCalls[K, U]) Restore([]*Entry) error {
	if p.timers.EventTimers != nil {
		p.timers.EventTimers.Rebuild()
	}
	if p.timers.ProcessingTimers != nil {
		p.timers.ProcessingTimers.Rebuild()
		p.setAlarm()
	}
	return nil
}

func (p *keyedCalls[K, U]) finish() error {
	if err := p.flush(); err != nil {
		return err
	}
	return p.call.sides.flush()
}

// Watermark implements Operator.
func (p *keyedCalls[K, U]) Watermark(t int64) (int64, error) {
	p.watermark, p.call.watermark = t, t
	if p.timers.EventTimers == nil {
		if !p.last() {
			p.reached = t
			p.ctx.State.Passed(t)
		}
		return p.reached, nil
	}
	_, err := p.fireEvent()
	return p.reached, err
}

// last says that a batch run is at its end: timers in processing time that are
// still set are called now, after those in event time.
func (p *keyedCalls[K, U]) last() bool {
	return p.watermark == batch.EndOfTime && p.ctx.Batch && p.timers.ProcessingTimers != nil
}

// Work implements Worker: timers that are due.
func (p *keyedCalls[K, U]) Work() (more bool, watermark int64, err error) {
	if p.timers.ProcessingTimers != nil && !p.last() {
		more, err := p.fireProcessing()
		if err != nil || more {
			return more, p.reached, err
		}
	}
	if p.timers.EventTimers != nil && p.reached < p.watermark {
		if more, err = p.fireEvent(); err != nil || more {
			return more, p.reached, err
		}
	}
	if p.last() && p.reached < p.watermark {
		more, err = p.fireLast()
	}
	return more, p.reached, err
}

func (p *keyedCalls[K, U]) fireEvent() (more bool, err error) {
	p.ctx.Enter()
	p.ctx.State.Tick()
	more, err = p.timers.EventTimers.Advance(p.watermark, timersAStep, func(at int64, hash uint64, key K) error {
		p.ctx.State.SetEventTime(max(at, p.reached))
		return p.fire(at, hash, key, p.timers.OnEventTime)
	})
	if err != nil {
		return more, err
	}
	if !more && !p.last() {
		p.reached = p.watermark
		p.ctx.State.Passed(p.reached)
	}
	p.setAlarm()
	return more, p.finish()
}

// fireLast calls all timers in processing time. Of those that are set meanwhile
// only the ones in event time are called: else a timer that sets itself would go
// on for ever.
func (p *keyedCalls[K, U]) fireLast() (more bool, err error) {
	p.ctx.Enter()
	p.call.ended = true
	more, err = p.timers.ProcessingTimers.Advance(batch.EndOfTime, timersAStep, func(at int64, hash uint64, key K) error {
		return p.fire(at, hash, key, p.timers.OnProcessingTime)
	})
	if err != nil {
		return more, err
	}
	if p.timers.EventTimers != nil {
		_, set := p.timers.EventTimers.Next()
		more = more || set
	}
	if !more {
		p.reached = p.watermark
	}
	return more, p.finish()
}

func (p *keyedCalls[K, U]) fireProcessing() (more bool, err error) {
	p.alarmAt = 0
	p.ctx.Enter()
	p.ctx.State.Tick()
	p.ctx.State.SetEventTime(p.reached)
	now := p.ctx.Clock.Now().UnixMilli()
	more, err = p.timers.ProcessingTimers.Advance(now, timersAStep, func(at int64, hash uint64, key K) error {
		return p.fire(at, hash, key, p.timers.OnProcessingTime)
	})
	if err != nil {
		return more, err
	}
	p.setAlarm()
	return more, p.finish()
}

func (p *keyedCalls[K, U]) fire(at int64, hash uint64, key K, f func(*Call, func(U)) error) error {
	if f == nil {
		return nil
	}
	p.cur.Set(hash, key)
	p.time, p.call.time = at, at
	return f(&p.call, p.to)
}

// setAlarm makes the clock wake the task when the first timer in processing
// time is due.
func (p *keyedCalls[K, U]) setAlarm() {
	if p.timers.ProcessingTimers == nil {
		return
	}
	at, ok := p.timers.ProcessingTimers.Next()
	if !ok || at == p.alarmAt {
		return
	}
	if p.stopAlarm != nil {
		p.stopAlarm()
	}
	p.alarmAt = at
	wait := time.Duration(at-p.ctx.Clock.Now().UnixMilli()) * time.Millisecond
	p.stopAlarm = p.ctx.Clock.AfterFunc(max(wait, 0), p.ctx.Wake)
}

func (p *keyedCalls[K, U]) Close() error {
	if p.stopAlarm != nil {
		p.stopAlarm()
	}
	if p.timers.Close != nil {
		return p.timers.Close()
	}
	return nil
}
