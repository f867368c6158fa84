package operator

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/clock"
	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/keygroup"
	"github.com/millrace/millrace/runtime/state"
)

// row is a record that came out.
type row[T any] struct {
	V T
	T int64
}

// collect is a stage that keeps copies of what it gets.
type collect[T any] struct {
	rows []row[T]
	fail error
	// seen is called for each batch, before it is kept.
	seen func(*batch.Batch[T])
}

func (c *collect[T]) Push(b *batch.Batch[T]) error {
	if c.seen != nil {
		c.seen(b)
	}
	for i := range b.Values {
		c.rows = append(c.rows, row[T]{b.Values[i], b.Times[i]})
	}
	return c.fail
}

// rig is what a task would be to an operator.
type rig struct {
	ctx     *Context
	clock   *clock.Virtual
	wakes   int
	held    int
	first   int
	entered []*Context
	cancel  context.CancelFunc
}

func newRig(t testing.TB) *rig {
	r := &rig{clock: clock.NewVirtual(time.UnixMilli(1_000_000))}
	attempt, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	t.Cleanup(cancel)
	groups := keygroup.RangeOf(0, 1, keygroup.Default)
	r.ctx = &Context{
		JobName: "job", Name: "op", UID: "op", Parallelism: 1, KeyGroups: groups, State: state.NewStore(groups),
		Clock: r.clock, Log: slog.New(slog.DiscardHandler), Attempt: attempt,
		Wake: func() { r.wakes++ }, Held: func() { r.held++ }, FirstOutput: func() { r.first++ },
		Fail: func(err error) { t.Errorf("fail: %v", err) }, Metrics: &Metrics{},
	}
	r.ctx.OnEnter(func(c *Context) { r.entered = append(r.entered, c) })
	return r
}

func (r *rig) open(t testing.TB, op Operator) {
	t.Helper()
	if err := op.Open(r.ctx); err != nil {
		t.Fatal(err)
	}
	if rs, ok := op.(Restorer); ok {
		if err := rs.Restore(nil); err != nil {
			t.Fatal(err)
		}
	}
}

// attach makes c a receiver of an output.
func attach[T any](op Operator, tag string, c *collect[T]) *collect[T] {
	op.Output(tag).(*Output[T]).Attach(c)
	return c
}

func stage[T any](op Operator) Stage[T] { return op.Input(0).(Stage[T]) }

// batchOf makes a batch whose times are 100, 101, ...
func batchOf[T any](values ...T) *batch.Batch[T] {
	b := &batch.Batch[T]{}
	for i, v := range values {
		b.Append(v, 100+int64(i))
	}
	return b
}
