package sdktest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/clock"
	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/graph"
	"github.com/millrace/millrace/runtime/operator"
	"github.com/millrace/millrace/sdk"
)

// Harness drives a part of a job by hand; see Operator. Its methods are for the
// goroutine of the test.
type Harness[T, U any] struct {
	t     testing.TB
	nodes []*graph.Node
	input *graph.Node
	ends  []*graph.Edge
	clock *clock.Virtual

	feed     *feed[T]
	steps    []*step
	byNode   map[*graph.Node]*step
	out      Outputs[U]
	sides    []func()
	mark     int64
	snapshot uint64
	// driving is set inside drive, again when another round is due, advancing
	// while the clock moves.
	driving, again, advancing bool
}

// Operator prepares the operators that part makes between its input and its
// result, one subtask each. The clock of processing time begins at 2000-01-01
// UTC.
func Operator[T, U any](t testing.TB, part func(in sdk.DataStream[T]) sdk.DataStream[U]) *Harness[T, U] {
	t.Helper()
	g, err := sdk.Plan(func(env *sdk.Env) error {
		env.Name("test")
		in := sdk.From(env, inputs[T]{}).Named("input")
		// Not on the source itself: WithTimestamps makes an operator.
		part(in.Rebalance()).To(sdk.FuncBatch(func([]U) error { return nil })).Named("output")
		return nil
	}, nil, true)
	if err != nil {
		t.Fatalf("plan the operator: %v", err)
	}
	h := &Harness[T, U]{t: t, clock: clock.NewVirtual(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)), mark: batch.NoTime}
	for _, n := range g.Nodes {
		switch n.Name {
		case "input":
			h.input = n
		case "output":
			h.ends = n.Inputs
		default:
			h.nodes = append(h.nodes, n)
		}
	}
	h.start(nil)
	t.Cleanup(h.close)
	return h
}

// Push hands in records of one event time and lets the operators work.
func (h *Harness[T, U]) Push(at time.Time, values ...T) {
	h.t.Helper()
	for part := range slices.Chunk(values, batch.Rows) {
		var b batch.Batch[T]
		for _, v := range part {
			b.Append(v, at.UnixMilli())
		}
		h.check("push", h.feed.out.Push(&b))
	}
	h.drive()
}

// Watermark moves event time: no record at or before at is to come. It never
// moves back.
func (h *Harness[T, U]) Watermark(at time.Time) {
	h.t.Helper()
	h.mark = max(h.mark, at.UnixMilli())
	h.drive()
}

// End moves event time to its end, as when the input has ended.
func (h *Harness[T, U]) End() {
	h.t.Helper()
	h.mark = batch.EndOfTime
	h.drive()
}

// Advance moves the clock of processing time by d; what falls due meanwhile runs
// at its own time.
func (h *Harness[T, U]) Advance(d time.Duration) {
	h.t.Helper()
	h.advancing = true
	h.clock.Advance(d)
	h.advancing = false
	h.drive()
}

// Now is the processing time.
func (h *Harness[T, U]) Now() time.Time { return h.clock.Now() }

// Output returns the results since it was last called.
func (h *Harness[T, U]) Output() []U { return h.out.Take() }

// TimedOutput is Output with event times.
func (h *Harness[T, U]) TimedOutput() []Timed[U] { return h.out.take() }

// Side returns what the last operator emits to a side output from now on.
func (h *Harness[T, U]) Side[S any](tag sdk.Tag[S]) *Outputs[S] {
	h.t.Helper()
	side := &Outputs[S]{}
	attach := func() {
		out, ok := h.byNode[h.ends[0].From].op.Output(tag.Name).(*operator.Output[S])
		if !ok || out == nil {
			h.t.Fatalf("operator %q has no side output %q of %T", h.ends[0].From.Name, tag.Name, *new(S))
		}
		out.Attach(side)
	}
	attach()
	h.sides = append(h.sides, attach)
	return side
}

// Timed is a record with its event time.
type Timed[U any] struct {
	Value U
	At    time.Time
}

// Outputs are records that an operator emitted.
type Outputs[U any] struct{ all []Timed[U] }

// Push implements the runtime's Stage.
func (o *Outputs[U]) Push(b *batch.Batch[U]) error {
	for i, v := range b.Values {
		o.all = append(o.all, Timed[U]{v, time.UnixMilli(b.Times[i]).UTC()})
	}
	return nil
}

// Take returns the records since it was last called.
func (o *Outputs[U]) Take() []U {
	var values []U
	for _, r := range o.take() {
		values = append(values, r.Value)
	}
	return values
}

func (o *Outputs[U]) take() []Timed[U] {
	all := o.all
	o.all = nil
	return all
}

func (h *Harness[T, U]) check(what string, err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatalf("%s: %v", what, err)
	}
}

func (h *Harness[T, U]) close() {
	var errs []error
	for _, s := range h.steps {
		errs = append(errs, s.op.Close())
	}
	if err := errors.Join(errs...); err != nil {
		h.t.Errorf("close: %v", err)
	}
}

// drive lets every operator do what it has to do, in the order of the graph,
// until none has more. Operators reach it again through the clock.
func (h *Harness[T, U]) drive() {
	h.t.Helper()
	if h.again = true; h.driving {
		return
	}
	h.driving = true
	defer func() { h.driving = false }()
	for h.again {
		h.again = false
		for _, s := range h.steps {
			more, err := s.work(h.markOf(s.node))
			h.check(fmt.Sprintf("operator %q", s.node.Name), err)
			h.again = h.again || more
		}
	}
}

// markOf is the watermark at an operator's input.
func (h *Harness[T, U]) markOf(n *graph.Node) int64 {
	least := slices.MinFunc(n.Inputs, func(a, b *graph.Edge) int { return cmp.Compare(h.markBehind(a), h.markBehind(b)) })
	return h.markBehind(least)
}

func (h *Harness[T, U]) markBehind(e *graph.Edge) int64 {
	if e.From == h.input {
		return h.mark
	}
	return h.byNode[e.From].reached
}

// inputs stands for the source: the harness puts records in its place.
type inputs[T any] struct{}

func (inputs[T]) Timed() bool { return true }

func (inputs[T]) Bounded() bool { return true }

func (inputs[T]) Splits(context.Context, sdk.SourceEnv, []sdk.Split) ([]sdk.Split, error) {
	return nil, nil
}

func (inputs[T]) Open(context.Context, sdk.SourceEnv, sdk.Split, []byte) (sdk.Reader[T], error) {
	return nil, errors.New("a harness has no readers")
}

// feed is the operator that the records come from.
type feed[T any] struct{ out operator.Output[T] }

func (f *feed[T]) Input(int) any                    { return nil }
func (f *feed[T]) Output(string) any                { return &f.out }
func (f *feed[T]) Open(*operator.Context) error     { return nil }
func (f *feed[T]) Watermark(t int64) (int64, error) { return t, nil }
func (f *feed[T]) Close() error                     { return nil }
