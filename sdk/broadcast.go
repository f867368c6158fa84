package sdk

import (
	"errors"
	"fmt"
	"iter"

	"github.com/millrace/millrace/runtime/operator"
	"github.com/millrace/millrace/runtime/state"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// BroadcastState is a map of which every subtask of an operator has a copy: rules,
// settings, a small table, beside the records that they are for. Only the function
// for broadcast records can change it, for its context is asked for; all functions
// can read it. It is held in memory, in every subtask, and in each checkpoint as a
// whole.
//
// Every subtask gets the same broadcast records, each sender's in order. Where
// several subtasks send them (the broadcast stream has a parallelism above 1), what
// the function makes of them must not depend on the order among senders: else copies
// differ, and which of them a restore gives to all is chance.
//
// Methods are for the goroutine of the subtask, inside the calls of its functions.
type BroadcastState[MK comparable, MV any] struct {
	m *operator.Broadcast[MK, MV]
}

// Get returns the value of a key and whether there is one.
func (b *BroadcastState[MK, MV]) Get(k MK) (MV, bool) { return b.m.Get(k) }

// Len is the number of entries.
func (b *BroadcastState[MK, MV]) Len() int { return b.m.Len() }

// All yields the entries, in the order in which their keys first came. Entries may
// be deleted meanwhile.
func (b *BroadcastState[MK, MV]) All() iter.Seq2[MK, MV] { return b.m.All() }

// Put sets the value of a key. What the value points to must not change any more.
func (b *BroadcastState[MK, MV]) Put[U any](_ *BroadcastContext[U], k MK, v MV) { b.m.Put(k, v) }

// Delete removes a key and says whether it was there.
func (b *BroadcastState[MK, MV]) Delete[U any](_ *BroadcastContext[U], k MK) bool {
	return b.m.Delete(k)
}

// BroadcastContext is what the function for broadcast records may do. It is valid
// during the call, on its goroutine.
type BroadcastContext[U any] struct{ Context[U] }

// broadcastOp is where broadcast state is declared.
type broadcastOp struct {
	states []operator.BroadcastState
	errs   []error
}

// Broadcast declares a broadcast state. Names are unique among the operator's
// states and find the state again after a restore.
func (o *broadcastOp) Broadcast[MK comparable, MV any](name string) *BroadcastState[MK, MV] {
	m, err := operator.NewBroadcast[MK, MV](name)
	if err == nil {
		err = checkName(name)
	}
	if err != nil {
		o.errs = append(o.errs, fmt.Errorf("broadcast state %q: %w", name, err))
	} else {
		o.states = append(o.states, m)
	}
	return &BroadcastState[MK, MV]{m}
}

// declareState takes the state that was declared in plan mode into the graph.
func (o *broadcastOp) declareState(n *node) error {
	if err := errors.Join(o.errs...); err != nil {
		return err
	}
	if len(o.states) == 0 {
		return errors.New("it declares no broadcast state: Connect does without")
	}
	if err := n.declareState(); err != nil {
		return err
	}
	for _, s := range o.states {
		d := s.Declaration()
		for _, other := range n.States {
			if other.GetName() == d.GetName() {
				return fmt.Errorf("state %q is declared twice: names are unique in an operator", d.GetName())
			}
		}
		n.States = append(n.States, d)
	}
	return nil
}

// BroadcastOp is where a BroadcastFn declares its state, and what Op has.
type BroadcastOp struct {
	Op
	broadcastOp
}

// BroadcastFn is the function of one subtask of a stream beside a broadcast one.
// Each is called for each record of the stream, OnBroadcast for each broadcast one.
type BroadcastFn[T, R, U any] struct {
	Each        func(c *Context[U], v T) error
	OnBroadcast func(c *BroadcastContext[U], v R) error
}

// WithBroadcast is a stream beside a broadcast one.
type WithBroadcast[T, R any] struct {
	s     DataStream[T]
	rules DataStream[R]
}

// ConnectBroadcast puts beside the stream another one, all of whose records come to
// every subtask, to keep in a BroadcastState. Both need timestamps if what follows
// is in event time.
func (s DataStream[T]) ConnectBroadcast[R any](rules DataStream[R]) WithBroadcast[T, R] {
	return WithBroadcast[T, R]{s, rules}
}

// Process gives full control over the records of both streams. build makes the
// function of a subtask, as in DataStream.Process:
//
//	visits.ConnectBroadcast(blocks).Process("blocked", func(op *sdk.BroadcastOp) sdk.BroadcastFn[Visit, Block, Visit] {
//		blocked := op.Broadcast[string, bool]("blocked")
//		return sdk.BroadcastFn[Visit, Block, Visit]{
//			Each: func(c *sdk.Context[Visit], v Visit) error {
//				if ok, _ := blocked.Get(v.User); !ok {
//					c.Emit(v)
//				}
//				return nil
//			},
//			OnBroadcast: func(c *sdk.BroadcastContext[Visit], b Block) error {
//				blocked.Put(c, b.User, true)
//				return nil
//			},
//		}
//	})
func (w WithBroadcast[T, R]) Process[U any](name string, build func(op *BroadcastOp) BroadcastFn[T, R, U]) DataStream[U] {
	n := w.s.env.add("Broadcast Process")
	n.keyed = true
	if name != "" {
		n.rename(name)
	}
	w.s.into(n, 0)
	connect[R](n, 1, w.rules.from, pb.Ship_SHIP_BROADCAST, nil)
	var sides []operator.Side
	n.New = func() operator.Operator {
		return operator.NewBroadcastProcess(func(ctx *operator.Context) (left func(*operator.Call, T, func(U)) error, right func(*operator.Call, R, func(U)) error, _ []operator.BroadcastState, end func() error, err error) {
			op := &BroadcastOp{Op: Op{ctx: ctx}}
			f := build(op)
			c := &BroadcastContext[U]{}
			left = func(call *operator.Call, v T, emit func(U)) error {
				c.call, c.emit = call, emit
				return f.Each(&c.Context, v)
			}
			right = onBroadcast(c, f.OnBroadcast)
			end = func() error { return op.close(func() error { return nil }) }
			if err = errors.Join(op.errs...); err == nil && ctx != planning(ctx) {
				err = op.open()
			}
			return left, right, op.states, end, err
		}, sides...)
	}
	n.plan = append(n.plan, func() error {
		if build == nil {
			return errors.New("its function is nil")
		}
		op := &BroadcastOp{}
		f := build(op)
		if f.Each == nil || f.OnBroadcast == nil {
			return errors.New("its BroadcastFn needs both Each and OnBroadcast")
		}
		sides = op.declare(n)
		return op.declareState(n)
	})
	return outputOf[U](n)
}

func onBroadcast[R, U any](c *BroadcastContext[U], f func(*BroadcastContext[U], R) error) func(*operator.Call, R, func(U)) error {
	return func(call *operator.Call, v R, emit func(U)) error {
		c.call, c.emit = call, emit
		return f(c, v)
	}
}

// KeyedBroadcastOp is where a KeyedBroadcastFn declares its state, and what KeyedOp
// has.
type KeyedBroadcastOp[K comparable] struct {
	KeyedOp[K]
	broadcastOp
}

// KeyedBroadcastFn is the function of one subtask of a keyed stream beside a
// broadcast one. Each and the timers are as in KeyedFn; OnBroadcast, which is called
// for each broadcast record, has no key and must not use keyed state.
type KeyedBroadcastFn[K comparable, T, R, U any] struct {
	Each              func(c *KeyedContext[K, U], v T) error
	OnBroadcast       func(c *BroadcastContext[U], v R) error
	OnTimer           func(c *KeyedContext[K, U]) error
	OnProcessingTimer func(c *KeyedContext[K, U]) error
}

// KeyedWithBroadcast is a keyed stream beside a broadcast one.
type KeyedWithBroadcast[K comparable, T, R any] struct {
	k     KeyedStream[K, T]
	rules DataStream[R]
}

// ConnectBroadcast is DataStream.ConnectBroadcast for a keyed stream.
func (k KeyedStream[K, T]) ConnectBroadcast[R any](rules DataStream[R]) KeyedWithBroadcast[K, T, R] {
	return KeyedWithBroadcast[K, T, R]{k, rules}
}

// Process is WithBroadcast.Process with state and timers for each key as well.
func (w KeyedWithBroadcast[K, T, R]) Process[U any](name string, build func(op *KeyedBroadcastOp[K]) KeyedBroadcastFn[K, T, R, U]) DataStream[U] {
	var sides []operator.Side
	var uses timersUsed
	out, n := attachKeyed[K, T, U](w.k, "Keyed Broadcast Process", name, func() operator.Operator {
		return newKeyedBroadcasting(w.k.key, build, uses, sides)
	})
	connect[R](n, 1, w.rules.from, pb.Ship_SHIP_BROADCAST, nil)
	n.plan = append(n.plan, func() error {
		if build == nil {
			return errors.New("its function is nil")
		}
		op := &KeyedBroadcastOp[K]{KeyedOp: *planKeyedOp[K](n)}
		f := build(op)
		sides = op.declare(n)
		uses = timersUsed{event: f.OnTimer != nil, processing: f.OnProcessingTimer != nil}
		n.eventTime = uses.event
		if f.Each == nil || f.OnBroadcast == nil {
			return errors.New("its KeyedBroadcastFn needs both Each and OnBroadcast")
		}
		if err := errors.Join(op.KeyedOp.errs...); err != nil {
			return err
		}
		return op.broadcastOp.declareState(n)
	})
	return out
}

func newKeyedBroadcasting[K comparable, T, R, U any](key func(T) K, build func(*KeyedBroadcastOp[K]) KeyedBroadcastFn[K, T, R, U], uses timersUsed, sides []operator.Side) operator.Operator {
	return operator.NewKeyedBroadcastProcess(key, func(ctx *operator.Context, cur *state.Current[K]) (g operator.KeyedCoFunction[K, T, R, U], _ []operator.BroadcastState, err error) {
		c := &KeyedContext[K, U]{cur: cur}
		op := &KeyedBroadcastOp[K]{KeyedOp: KeyedOp[K]{Op: Op{ctx: ctx}, store: ctx.State, cur: cur}}
		f := build(op)
		if err := errors.Join(op.broadcastOp.errs...); err != nil {
			return g, nil, err
		}
		g.Left, g.Right = onRecord(c, f.Each), onBroadcast(&BroadcastContext[U]{}, f.OnBroadcast)
		g.KeyedTimers, err = openKeyed(&op.KeyedOp, c, uses, f.OnTimer, f.OnProcessingTimer)
		return g, op.states, err
	}, sides...)
}
