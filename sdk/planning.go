package sdk

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/millrace/millrace/internal/clock"
	"github.com/millrace/millrace/runtime/exchange"
	"github.com/millrace/millrace/runtime/keygroup"
	"github.com/millrace/millrace/runtime/operator"
	"github.com/millrace/millrace/runtime/state"
)

// planUID marks the context of an operator that is opened in plan mode, to
// declare its state and for nothing else.
const planUID = "\x00plan"

// planning returns its argument if it is a plan's context, else nil.
func planning(ctx *operator.Context) *operator.Context {
	if ctx.UID == planUID {
		return ctx
	}
	return nil
}

// declareState opens one instance of the operator on a store of its own, and
// takes the state that it declares into the graph. A type that cannot be kept is
// refused here.
func (n *node) declareState() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("it panics when it is opened: %v", p)
		}
	}()
	attempt, end := context.WithCancel(context.Background())
	defer end()
	groups := keygroup.RangeOf(0, 1, n.groups())
	ctx := &operator.Context{
		Name: n.Name, UID: planUID, Parallelism: 1, KeyGroups: groups,
		State: state.NewStore(groups), Clock: clock.System, Log: slog.New(slog.DiscardHandler),
		Attempt: attempt, Mail: func(func() error) {}, Wake: func() {}, Held: func() {},
		Fail: func(error) {}, FirstOutput: func() {}, Metrics: &operator.Metrics{}, Batch: n.env.g.Config.Batch,
	}
	ctx.State.UseClock(clock.System.Now)
	op := n.New()
	defer op.Close()
	if err := op.Open(ctx); err != nil {
		return err
	}
	n.States = ctx.State.Declared()
	n.eventTime = n.eventTime || ctx.State.Aging()
	return nil
}

// typeOf derives the type of an edge.
func typeOf[T any]() (exchange.Type, error) {
	t, err := exchange.TypeOf[T]()
	if err != nil {
		return nil, err
	}
	return edgeType[T]{t}, nil
}

// edgeType is an edge's type that can also join two operators without an
// exchange between them, as sdktest does.
type edgeType[T any] struct{ exchange.Type }

// ConnectKeyed is Connect with the key function of a hash edge in between.
func (t edgeType[T]) ConnectKeyed(from exchange.Out, to exchange.In, key any) error {
	if err := t.Check(from, to); err != nil {
		return err
	}
	if err := t.CheckKey(from.Name, to.Name, key); err != nil {
		return err
	}
	from.Operator.Output(from.Tag).(*operator.Output[T]).Attach(&keyedEdge[T]{
		key: key.(func(*Batch[T])), to: to.Operator.Input(to.Port).(operator.Stage[T]),
	})
	return nil
}

// keyedEdge fills the hash column of a copy of each batch.
type keyedEdge[T any] struct {
	key func(*Batch[T])
	to  operator.Stage[T]
	buf Batch[T]
}

func (k *keyedEdge[T]) Push(b *Batch[T]) error {
	k.buf.Values = append(k.buf.Values[:0], b.Values...)
	k.buf.Times = append(k.buf.Times[:0], b.Times...)
	k.buf.Ops = append(k.buf.Ops[:0], b.Ops...)
	k.key(&k.buf)
	return k.to.Push(&k.buf)
}
