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

// KeyedFunction is the user code of one subtask of a keyed process operator.
// Only Process must be set.
type KeyedFunction[K comparable, T, U any] struct {
	// Process is called for each record, its key being the current one.
	Process func(c *Call, v T, emit func(U)) error
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

// NewKeyedProcess returns an operator on a keyed edge. Each subtask calls open
// once to declare state and timers, which work on cur, the current key; what it
// returns is then called for each record and each timer.
func NewKeyedProcess[K comparable, T, U any](
	key func(T) K,
	open func(ctx *Context, cur *state.Current[K]) (KeyedFunction[K, T, U], error),
	declared ...Side,
) Operator {
	p := &keyedProcess[K, T, U]{key: key, open: open, watermark: batch.NoTime, reached: batch.NoTime}
	p.call.sides = newSides(declared, func() *Context { return p.ctx })
	p.call.watermark = batch.NoTime
	return p
}

type keyedProcess[K comparable, T, U any] struct {
	emitter[U]
	key  func(T) K
	open func(*Context, *state.Current[K]) (KeyedFunction[K, T, U], error)
	f    KeyedFunction[K, T, U]
	cur  state.Current[K]
	call Call
	to   func(U) // emitter.sink, made once
	// watermark is the input's, reached the output's: behind it while timers
	// are still to fire.
	watermark, reached int64

	// alarmAt is when the clock will wake the operator, 0 for not at all.
	alarmAt   int64
	stopAlarm func() bool
}

func (p *keyedProcess[K, T, U]) Input(i int) any { return sole[T](i, p) }

func (p *keyedProcess[K, T, U]) Output(tag string) any {
	if tag == "" {
		return &p.out
	}
	return p.call.sides.output(tag)
}

func (p *keyedProcess[K, T, U]) Open(ctx *Context) error {
	p.ctx, p.call.ctx, p.to = ctx, ctx, p.sink()
	p.call.sides.open()
	ctx.Enter()
	f, err := p.open(ctx, &p.cur)
	p.f = f
	return err
}

// Restore implements Restorer: timers come back with the keyed state.
func (p *keyedProcess[K, T, U]) Restore([]*Entry) error {
	if p.f.EventTimers != nil {
		p.f.EventTimers.Rebuild()
	}
	if p.f.ProcessingTimers != nil {
		p.f.ProcessingTimers.Rebuild()
		p.setAlarm()
	}
	return nil
}

func (p *keyedProcess[K, T, U]) Push(b *batch.Batch[T]) error {
	p.ctx.Enter()
	p.ctx.Metrics.RecordsIn += uint64(len(b.Values))
	f, key, to := p.f.Process, p.key, p.to
	for i := range b.Values {
		if i%state.Stride == 0 {
			p.ctx.State.Ahead(b.Hashes, i)
		}
		p.cur.Set(b.Hashes[i], key(b.Values[i]))
		p.time, p.call.time = b.Times[i], b.Times[i]
		if err := f(&p.call, b.Values[i], to); err != nil {
			return err
		}
	}
	p.setAlarm()
	return p.finish()
}

func (p *keyedProcess[K, T, U]) finish() error {
	if err := p.flush(); err != nil {
		return err
	}
	return p.call.sides.flush()
}

// Watermark implements Operator.
func (p *keyedProcess[K, T, U]) Watermark(t int64) (int64, error) {
	p.watermark, p.call.watermark = t, t
	if p.f.EventTimers == nil {
		p.reached = t
		return t, nil
	}
	_, err := p.fireEvent()
	return p.reached, err
}

// Work implements Worker: timers that are due.
func (p *keyedProcess[K, T, U]) Work() (more bool, watermark int64, err error) {
	if p.f.ProcessingTimers != nil {
		more, err := p.fireProcessing()
		if err != nil || more {
			return more, p.reached, err
		}
	}
	if p.f.EventTimers != nil && p.reached < p.watermark {
		more, err = p.fireEvent()
	}
	return more, p.reached, err
}

func (p *keyedProcess[K, T, U]) fireEvent() (more bool, err error) {
	p.ctx.Enter()
	more, err = p.f.EventTimers.Advance(p.watermark, timersAStep, func(at int64, hash uint64, key K) error {
		return p.fire(at, hash, key, p.f.OnEventTime)
	})
	if err != nil {
		return more, err
	}
	if !more {
		p.reached = p.watermark
	}
	p.setAlarm()
	return more, p.finish()
}

func (p *keyedProcess[K, T, U]) fireProcessing() (more bool, err error) {
	p.alarmAt = 0
	p.ctx.Enter()
	now := p.ctx.Clock.Now().UnixMilli()
	more, err = p.f.ProcessingTimers.Advance(now, timersAStep, func(at int64, hash uint64, key K) error {
		return p.fire(at, hash, key, p.f.OnProcessingTime)
	})
	if err != nil {
		return more, err
	}
	p.setAlarm()
	return more, p.finish()
}

func (p *keyedProcess[K, T, U]) fire(at int64, hash uint64, key K, f func(*Call, func(U)) error) error {
	if f == nil {
		return nil
	}
	p.cur.Set(hash, key)
	p.time, p.call.time = at, at
	return f(&p.call, p.to)
}

// setAlarm makes the clock wake the task when the first timer in processing
// time is due.
func (p *keyedProcess[K, T, U]) setAlarm() {
	if p.f.ProcessingTimers == nil {
		return
	}
	at, ok := p.f.ProcessingTimers.Next()
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

func (p *keyedProcess[K, T, U]) Close() error {
	if p.stopAlarm != nil {
		p.stopAlarm()
	}
	if p.f.Close != nil {
		return p.f.Close()
	}
	return nil
}

// ReduceState is the name of the state of NewReduce.
const ReduceState = "reduce"

// NewReduce returns an operator on a keyed edge that emits, for each record,
// the reduction of all records of its key so far. The first of a key is its
// own reduction.
func NewReduce[K comparable, T any](key func(T) K, f func(sofar, v T) T) Operator {
	return &reducer[K, T]{key: key, f: f}
}

type reducer[K comparable, T any] struct {
	plain
	key   func(T) K
	f     func(T, T) T
	table *state.Table[K, T]
	out   Output[T]
	buf   batch.Batch[T]
}

func (r *reducer[K, T]) Input(i int) any       { return sole[T](i, r) }
func (r *reducer[K, T]) Output(tag string) any { return only(tag, &r.out) }

func (r *reducer[K, T]) Open(ctx *Context) error {
	r.ctx = ctx
	var err error
	r.table, err = state.NewTable[K, T](ctx.State, ReduceState)
	ctx.State.Describe(ReduceState, "value")
	return err
}

func (r *reducer[K, T]) Push(b *batch.Batch[T]) error {
	r.ctx.Enter()
	r.ctx.Metrics.RecordsIn += uint64(len(b.Values))
	vals := r.buf.Values[:0]
	for i := range b.Values {
		if i%state.Stride == 0 {
			r.table.Ahead(b.Hashes, i)
		}
		sofar, fresh := r.table.Upsert(b.Hashes[i], r.key(b.Values[i]))
		if fresh {
			r.table.Set(sofar, b.Values[i])
		} else {
			r.table.Set(sofar, r.f(*sofar, b.Values[i]))
		}
		vals = append(vals, *sofar)
	}
	r.buf.Values, r.buf.Times = vals, b.Times
	r.ctx.Metrics.RecordsOut += uint64(len(vals))
	err := r.out.Push(&r.buf)
	r.buf.Times = nil
	return err
}
