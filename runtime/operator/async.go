package operator

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/codec"
)

// Awaiter is an operator that waits for results of calls that run elsewhere.
type Awaiter interface {
	// Full says that the operator takes no input until a result has come: its
	// task then takes barriers and mail only.
	Full() bool
	// Awaits returns what can be received from once a result may have come, so
	// that there is Work; nil if the operator waits for nothing.
	Awaits() <-chan struct{}
}

// AsyncConfig is how an async operator makes its calls. All of it is set.
type AsyncConfig[T any] struct {
	// Ordered results leave in the order of their records, others as they
	// come, though never past a watermark.
	Ordered bool
	// Capacity is how many calls run at a time, and how many records wait for
	// their turn to leave before input is held back.
	Capacity int
	// Timeout bounds one attempt, 0 does not.
	Timeout time.Duration
	// Attempts is how often a record is tried; from the second on after a delay
	// that begins at Backoff and doubles up to MaxBackoff.
	Attempts            int
	Backoff, MaxBackoff time.Duration
	// Failed takes a record whose last attempt has failed; without it that
	// fails the job.
	Failed func(c *Call, v T, err error)
}

// ErrAsyncTimeout is the failure of an attempt that took too long.
var ErrAsyncTimeout = errors.New("the call timed out")

// NewAsync returns an operator that calls f for each record, for several at a
// time, each on a goroutine of its own, and emits what f returns at the time of the
// record.
//
// A barrier does not wait for calls: records that have not left are part of the
// snapshot, and are called for again after a restore. Results come back to the task
// by Wake and Work, so nothing here but the inbox is shared.
func NewAsync[T, U any](f func(ctx context.Context, v T) (U, error), cfg AsyncConfig[T], declared ...Side) Operator {
	a := &async[T, U]{f: f, cfg: cfg, reached: batch.NoTime}
	a.inbox.room = make(chan struct{}, 1)
	a.call.watermark = batch.NoTime
	a.call.sides = newSides(declared, func() *Context { return a.ctx })
	return a
}

type async[T, U any] struct {
	emitter[U]
	f     func(context.Context, T) (U, error)
	cfg   AsyncConfig[T]
	call  Call
	codec codec.Codec[T]

	queue   asyncQueue[T, U]
	next    *asyncItem[T, U] // the first that has not been called for
	running int
	reached int64

	inbox  asyncInbox[T, U]
	taken  []asyncArrival[T, U] // reused
	base   context.Context
	cancel context.CancelFunc
	calls  sync.WaitGroup
}

func (a *async[T, U]) Input(i int) any { return sole[T](i, a) }

func (a *async[T, U]) Output(tag string) any {
	if tag == "" {
		return &a.out
	}
	return a.call.sides.output(tag)
}

func (a *async[T, U]) Open(ctx *Context) (err error) {
	a.ctx, a.call.ctx = ctx, ctx
	a.call.sides.open()
	a.inbox.wake = ctx.Wake
	a.base, a.cancel = context.WithCancel(ctx.Attempt)
	a.codec, err = codec.Derive[T]()
	return err
}

// Push implements Stage. A batch is taken whole, however full the operator is:
// its task brings no other while it is Full.
func (a *async[T, U]) Push(b *batch.Batch[T]) error {
	a.ctx.Enter()
	a.ctx.Metrics.RecordsIn += uint64(len(b.Values))
	for i := range b.Values {
		a.add(b.Values[i], b.Times[i])
	}
	a.begin()
	return a.leave()
}

func (a *async[T, U]) add(v T, at int64) {
	item := a.queue.push(&asyncItem[T, U]{value: v, time: at})
	if a.next == nil {
		a.next = item
	}
}

// begin makes the calls that there is room for.
func (a *async[T, U]) begin() {
	for a.next != nil && a.running < a.cfg.Capacity {
		item := a.next
		for a.next = item.next; a.next != nil && a.next.mark; {
			a.next = a.next.next
		}
		a.running++
		a.try(item)
	}
}

// try makes one attempt. It may outlive its timeout, if f does not heed its
// context; what it returns then is of no use to anybody.
func (a *async[T, U]) try(item *asyncItem[T, U]) {
	item.attempt++
	item.phase = asyncCalled
	ctx, cancel := a.base, context.CancelFunc(func() {})
	if a.cfg.Timeout > 0 {
		ctx, cancel = context.WithTimeout(a.base, a.cfg.Timeout)
		attempt := item.attempt
		item.alarm = a.ctx.Clock.AfterFunc(a.cfg.Timeout, func() {
			cancel()
			a.inbox.put(asyncArrival[T, U]{item: item, attempt: attempt, err: fmt.Errorf("%w after %v", ErrAsyncTimeout, a.cfg.Timeout)})
		})
	}
	a.calls.Add(1)
	go func(v T, attempt int) {
		defer a.calls.Done()
		defer cancel()
		r := asyncArrival[T, U]{item: item, attempt: attempt}
		r.result, r.err = a.guarded(ctx, v)
		a.inbox.put(r)
	}(item.value, item.attempt)
}

// guarded is the door of f.
func (a *async[T, U]) guarded(ctx context.Context, v T) (u U, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the call panicked: %v\n%s", r, debug.Stack())
		}
	}()
	return a.f(ctx, v)
}

// Work implements Worker: it takes what has come, and emits what may leave.
func (a *async[T, U]) Work() (more bool, watermark int64, err error) {
	a.ctx.Enter()
	a.taken = a.inbox.take(a.taken[:0])
	for i := range a.taken {
		if err := a.arrived(&a.taken[i]); err != nil {
			return false, a.reached, err
		}
	}
	clear(a.taken)
	a.begin()
	err = a.leave()
	return false, a.reached, err
}

func (a *async[T, U]) arrived(r *asyncArrival[T, U]) error {
	item := r.item
	if r.attempt != item.attempt || item.phase == asyncDone || r.again != (item.phase == asyncWaits) {
		return nil // of an attempt that was given up
	}
	if r.again {
		a.try(item)
		return nil
	}
	if item.alarm != nil {
		item.alarm()
		item.alarm = nil
	}
	if r.err != nil && item.attempt < a.cfg.Attempts {
		item.phase = asyncWaits
		again := asyncArrival[T, U]{item: item, attempt: item.attempt, again: true}
		item.alarm = a.ctx.Clock.AfterFunc(a.cfg.backoff(item.attempt), func() { a.inbox.put(again) })
		return nil
	}
	a.running--
	item.phase, item.result, item.err = asyncDone, r.result, r.err
	if r.err != nil && a.cfg.Failed == nil {
		return fmt.Errorf("attempt %d of %d: %w", item.attempt, a.cfg.Attempts, r.err)
	}
	if !a.cfg.Ordered && a.queue.inFront(item) {
		a.emit(item)
	}
	return nil
}

// backoff is the delay after an attempt.
func (c *AsyncConfig[T]) backoff(attempt int) time.Duration {
	d := c.Backoff
	for ; attempt > 1 && d < c.MaxBackoff; attempt-- {
		d *= 2
	}
	return min(d, c.MaxBackoff)
}

// leave emits what has its turn, and hands it on.
func (a *async[T, U]) leave() error {
	for item := a.queue.head; item != nil; item = a.queue.head {
		switch {
		case item.mark:
			a.reached = item.time
			a.call.watermark = item.time
			a.queue.pass(item)
			if !a.cfg.Ordered {
				a.queue.eachInFront(func(item *asyncItem[T, U]) {
					if item.phase == asyncDone {
						a.emit(item)
					}
				})
			}
			// What left before the mark is with those behind before the mark is.
			continue
		case item.phase == asyncDone:
			a.emit(item)
			continue
		}
		break
	}
	if err := a.flush(); err != nil {
		return err
	}
	return a.call.sides.flush()
}

func (a *async[T, U]) emit(item *asyncItem[T, U]) {
	a.queue.remove(item)
	if item.err == nil {
		a.emitAt(item.result, item.time)
		return
	}
	a.call.time = item.time
	a.cfg.Failed(&a.call, item.value, item.err)
}

// Watermark implements Operator: it waits behind the records before it.
func (a *async[T, U]) Watermark(t int64) (int64, error) {
	if a.queue.head == nil {
		a.reached, a.call.watermark = t, t
		return t, nil
	}
	a.queue.mark(t)
	return a.reached, nil
}

// Full implements Awaiter.
func (a *async[T, U]) Full() bool { return a.queue.items >= a.cfg.Capacity }

// Awaits implements Awaiter.
func (a *async[T, U]) Awaits() <-chan struct{} {
	if a.queue.items == 0 {
		return nil
	}
	return a.inbox.room
}

// Close ends the calls. It waits for those that heed their context, and a while
// for the others.
func (a *async[T, U]) Close() error {
	if a.cancel == nil {
		return nil
	}
	a.cancel()
	for item := a.queue.head; item != nil; item = item.next {
		if item.alarm != nil {
			item.alarm()
		}
	}
	ended, late := make(chan struct{}), make(chan struct{})
	go func() {
		a.calls.Wait()
		close(ended)
	}()
	stop := a.ctx.Clock.AfterFunc(asyncPatience, func() { close(late) })
	defer stop()
	select {
	case <-ended:
	case <-late:
		a.ctx.Log.Warn("calls do not heed their context and are left behind", "operator", a.ctx.Name, "subtask", a.ctx.Subtask)
	}
	return nil
}

// asyncPatience is how long Close waits for calls.
const asyncPatience = 2 * time.Second
