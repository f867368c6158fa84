package sdk

import (
	"errors"

	"github.com/millrace/millrace/runtime/operator"
	"github.com/millrace/millrace/runtime/state"
)

// Connected is two keyed streams that one operator reads: records of a key come
// to the same subtask from both, and share its state and timers.
//
// There is no order between records of the two sides. Event time is that of the
// side that is behind.
type Connected[K comparable, L, R any] struct {
	left  KeyedStream[K, L]
	right KeyedStream[K, R]
}

// Connect puts another stream with keys of the same type beside this one. Both may
// be the same stream.
func (k KeyedStream[K, T]) Connect[R any](other KeyedStream[K, R]) Connected[K, T, R] {
	return Connected[K, T, R]{k, other}
}

// CoFn is the function of one subtask of Connected.Process. Left is called for
// each record of the stream that Connect was called on, Right for those of its
// argument; the timers are as in KeyedFn. An error, or a panic, fails the job,
// which then restarts.
type CoFn[K comparable, L, R, U any] struct {
	Left              func(c *KeyedContext[K, U], v L) error
	Right             func(c *KeyedContext[K, U], v R) error
	OnTimer           func(c *KeyedContext[K, U]) error
	OnProcessingTimer func(c *KeyedContext[K, U]) error
}

// Process gives full control over the records of a key from both sides, with state
// and timers that they share.
//
// build makes the function of a subtask, as in KeyedStream.Process:
//
//	orders.Connect(payments).Process("paid", func(op *sdk.KeyedOp[string]) sdk.CoFn[string, Order, Payment, Paid] {
//		open := op.Value[Order]("open")
//		return sdk.CoFn[string, Order, Payment, Paid]{
//			Left: func(c *sdk.KeyedContext[string, Paid], o Order) error {
//				open.Set(o)
//				return nil
//			},
//			Right: func(c *sdk.KeyedContext[string, Paid], p Payment) error {
//				if o, ok := open.Lookup(); ok {
//					c.Emit(Paid{o, p})
//					open.Clear()
//				}
//				return nil
//			},
//		}
//	})
func (c Connected[K, L, R]) Process[U any](name string, build func(op *KeyedOp[K]) CoFn[K, L, R, U]) DataStream[U] {
	var sides []operator.Side
	var uses timersUsed
	out, n := c.attach[U]("Keyed Co-Process", name, func() operator.Operator {
		return newKeyedCoProcessing(c, build, uses, sides)
	})
	n.plan = append(n.plan, func() error {
		if build == nil {
			return errors.New("its function is nil")
		}
		op := planKeyedOp[K](n)
		f := build(op)
		sides = op.declare(n)
		uses = timersUsed{event: f.OnTimer != nil, processing: f.OnProcessingTimer != nil}
		n.eventTime = uses.event
		if f.Left == nil || f.Right == nil {
			return errors.New("its CoFn needs both Left and Right")
		}
		if err := op.declareState(n); err != nil {
			return err
		}
		if len(n.States) == 0 {
			n.warn("it declares no state: DataStream.Connect does without KeyBy")
		}
		return nil
	})
	return out
}

// attach adds an operator that keeps state for each key of both sides.
func (c Connected[K, L, R]) attach[U any](kind, name string, build func() operator.Operator) (DataStream[U], *node) {
	n := c.left.s.env.add(kind)
	n.keyed = true
	if name != "" {
		n.rename(name)
	}
	n.New = build
	c.left.into(n, 0)
	c.right.into(n, 1)
	return outputOf[U](n), n
}

func newKeyedCoProcessing[K comparable, L, R, U any](in Connected[K, L, R], build func(*KeyedOp[K]) CoFn[K, L, R, U], uses timersUsed, sides []operator.Side) operator.Operator {
	return operator.NewKeyedCoProcess(in.left.key, in.right.key, func(ctx *operator.Context, cur *state.Current[K]) (g operator.KeyedCoFunction[K, L, R, U], err error) {
		c := &KeyedContext[K, U]{cur: cur}
		op := &KeyedOp[K]{Op: Op{ctx: ctx}, store: ctx.State, cur: cur}
		f := build(op)
		g.Left, g.Right = onRecord(c, f.Left), onRecord(c, f.Right)
		g.KeyedTimers, err = openKeyed(op, c, uses, f.OnTimer, f.OnProcessingTimer)
		return g, err
	}, sides...)
}

// ConnectedStreams is two streams that one operator reads; Connected is its
// pendant for keyed streams.
type ConnectedStreams[L, R any] struct {
	left  DataStream[L]
	right DataStream[R]
}

// Connect puts another stream beside this one, for an operator that reads both.
// Each comes to its subtasks as it would to an operator of its own: after
// Broadcast, for one, all records come to all subtasks.
func (s DataStream[T]) Connect[R any](other DataStream[R]) ConnectedStreams[T, R] {
	return ConnectedStreams[T, R]{s, other}
}

// StreamCoFn is the function of one subtask of ConnectedStreams.Process. It may
// keep variables of its own, which are not part of checkpoints: what must survive
// belongs in the state of Connected.Process.
type StreamCoFn[L, R, U any] struct {
	Left  func(c *Context[U], v L) error
	Right func(c *Context[U], v R) error
}

// Process gives full control over the records of both streams. build makes the
// function of a subtask, as in DataStream.Process.
func (c ConnectedStreams[L, R]) Process[U any](build func(op *Op) StreamCoFn[L, R, U]) DataStream[U] {
	n := c.left.env.add("Co-Process")
	c.left.into(n, 0)
	c.right.into(n, 1)
	var sides []operator.Side
	n.New = func() operator.Operator {
		p := &coProcessing[L, R, U]{build: build}
		p.Operator = operator.NewCoProcess(p.left, p.right, sides...)
		return p
	}
	n.plan = append(n.plan, func() error {
		if build == nil {
			return errors.New("its function is nil")
		}
		op := &Op{}
		f := build(op)
		if f.Left == nil || f.Right == nil {
			return errors.New("its StreamCoFn needs both Left and Right")
		}
		sides = op.declare(n)
		return nil
	})
	return outputOf[U](n)
}

// coProcessing is a co-process operator that asks for its function when it opens.
type coProcessing[L, R, U any] struct {
	operator.Operator
	build func(*Op) StreamCoFn[L, R, U]
	op    Op
	f     StreamCoFn[L, R, U]
	c     Context[U]
}

func (p *coProcessing[L, R, U]) left(call *operator.Call, v L, emit func(U)) error {
	p.c.call, p.c.emit = call, emit
	return p.f.Left(&p.c, v)
}

func (p *coProcessing[L, R, U]) right(call *operator.Call, v R, emit func(U)) error {
	p.c.call, p.c.emit = call, emit
	return p.f.Right(&p.c, v)
}

func (p *coProcessing[L, R, U]) Open(ctx *operator.Context) error {
	if err := p.Operator.Open(ctx); err != nil {
		return err
	}
	ctx.Enter()
	p.op.ctx = ctx
	p.f = p.build(&p.op)
	return p.op.open()
}

func (p *coProcessing[L, R, U]) Close() error { return p.op.close(p.Operator.Close) }
