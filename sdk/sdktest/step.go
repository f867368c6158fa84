package sdktest

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/millrace/millrace/checkpoint/snapshot"
	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/exchange"
	"github.com/millrace/millrace/runtime/graph"
	"github.com/millrace/millrace/runtime/keygroup"
	"github.com/millrace/millrace/runtime/operator"
	"github.com/millrace/millrace/runtime/state"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// step is one operator of a harness.
type step struct {
	node  *graph.Node
	op    operator.Operator
	store *state.Store
	mail  []func() error
	// told is the watermark that the operator was told of, reached that of
	// its output.
	told, reached int64
}

// work does what is due: mail, the operator's own work, event time.
func (s *step) work(mark int64) (more bool, err error) {
	for len(s.mail) > 0 {
		f := s.mail[0]
		s.mail = s.mail[1:]
		if err := f(); err != nil {
			return false, err
		}
	}
	before := s.reached
	if mark > s.told {
		s.told = mark
		if s.reached, err = s.op.Watermark(mark); err != nil {
			return false, err
		}
	}
	if w, ok := s.op.(operator.Worker); ok {
		for pending := true; pending; {
			if pending, s.reached, err = w.Work(); err != nil {
				return false, err
			}
		}
	}
	if f, ok := s.op.(operator.Flusher); ok { // it has run out of input
		if err := f.Flush(); err != nil {
			return false, err
		}
	}
	if w, ok := s.op.(operator.Watermarked); ok {
		s.reached = max(s.reached, w.CurrentWatermark())
	}
	return s.reached > before, nil
}

// Snapshot is the state of a harness's operators at one point.
type Snapshot struct {
	mark  int64
	steps map[string]saved
}

type saved struct {
	run     []byte
	states  []*pb.StateDecl
	entries []*operator.Entry
}

// keyGroups is what Env.MaxParallelism is without it; a harness has one subtask.
func keyGroups(n *graph.Node) keygroup.Range {
	if n.MaxParallelism > 0 {
		return keygroup.RangeOf(0, 1, n.MaxParallelism)
	}
	return keygroup.RangeOf(0, 1, keygroup.Default)
}

// Snapshot takes a checkpoint of all operators, as it would be in the bucket.
func (h *Harness[T, U]) Snapshot() *Snapshot {
	h.t.Helper()
	h.snapshot++
	all := &Snapshot{mark: h.mark, steps: map[string]saved{}}
	for _, s := range h.steps {
		one, err := s.save(h.snapshot)
		h.check(fmt.Sprintf("snapshot operator %q", s.node.Name), err)
		all.steps[s.node.UID] = one
	}
	return all
}

func (s *step) save(id uint64) (saved, error) {
	one := saved{states: s.store.Declared()}
	if f, ok := s.op.(operator.Flusher); ok {
		if err := f.Flush(); err != nil {
			return one, err
		}
	}
	if o, ok := s.op.(operator.Snapshotter); ok {
		snap := &operator.Snapshot{CheckpointID: id}
		if err := o.Snapshot(snap); err != nil {
			return one, err
		}
		one.entries = snap.Entries
		for _, f := range snap.Deferred {
			more, err := f()
			if err != nil {
				return one, err
			}
			one.entries = append(one.entries, more...)
		}
	}
	frozen := s.store.Freeze(true)
	defer frozen.Release()
	w := snapshot.NewWriter(keyGroups(s.node).N)
	if err := frozen.Write(w); err != nil {
		return one, err
	}
	run, err := w.Finish()
	one.run = run.Bytes
	return one, err
}

// Restore throws the operators away and starts new ones from a snapshot, as
// after a failure. What they had emitted before stays emitted.
func (h *Harness[T, U]) Restore(from *Snapshot) {
	h.t.Helper()
	h.close()
	h.mark = from.mark
	h.start(from)
	for _, attach := range h.sides {
		attach()
	}
	h.drive()
}

// start makes, wires and opens the operators.
func (h *Harness[T, U]) start(from *Snapshot) {
	h.t.Helper()
	h.feed = &feed[T]{}
	h.steps, h.byNode = nil, map[*graph.Node]*step{}
	for _, n := range h.nodes {
		s := &step{node: n, op: n.New(), store: state.NewStore(keyGroups(n)), told: batch.NoTime, reached: batch.NoTime}
		s.store.UseClock(h.clock.Now)
		h.steps, h.byNode[n] = append(h.steps, s), s
		for _, e := range n.Inputs {
			h.check("wire", h.wire(e, exchange.In{Operator: s.op, Name: n.Name, Port: e.Port}))
		}
	}
	for _, e := range h.ends {
		out, ok := h.source(e).Operator.Output(e.Tag).(*operator.Output[U])
		if !ok || out == nil {
			h.t.Fatalf("operator %q has no output %q of %T", e.From.Name, e.Tag, *new(U))
		}
		out.Attach(&h.out)
	}
	for _, s := range h.steps {
		h.check(fmt.Sprintf("open operator %q", s.node.Name), h.open(s, from))
	}
}

func (h *Harness[T, U]) source(e *graph.Edge) exchange.Out {
	if e.From == h.input {
		return exchange.Out{Operator: h.feed, Name: e.From.Name}
	}
	return exchange.Out{Operator: h.byNode[e.From].op, Name: e.From.Name, Tag: e.Tag}
}

// wire joins two operators directly, with the key function in between.
func (h *Harness[T, U]) wire(e *graph.Edge, to exchange.In) error {
	if e.Ship != pb.Ship_SHIP_HASH {
		return e.Type.Connect(h.source(e), to)
	}
	keyed, ok := e.Type.(interface {
		ConnectKeyed(from exchange.Out, to exchange.In, key any) error
	})
	if !ok {
		return fmt.Errorf("the edge to %s was not made by package sdk", to.Name)
	}
	return keyed.ConnectKeyed(h.source(e), to, e.Key)
}

func (h *Harness[T, U]) open(s *step, from *Snapshot) error {
	attempt, end := context.WithCancel(context.Background())
	h.t.Cleanup(end)
	ctx := &operator.Context{
		JobID: "test", JobName: "test", Epoch: 1, Lineage: "test", Name: s.node.Name, UID: s.node.UID, Parallelism: 1,
		KeyGroups: keyGroups(s.node), State: s.store, Clock: h.clock, Log: slog.New(slog.DiscardHandler), Attempt: attempt,
		Mail:        func(f func() error) { s.mail = append(s.mail, f); h.ring() },
		Wake:        h.ring,
		Held:        func() {},
		Fail:        func(err error) { h.t.Errorf("operator %q: %v", s.node.Name, err) },
		FirstOutput: func() {},
		Metrics:     &operator.Metrics{},
	}
	if err := s.op.Open(ctx); err != nil {
		return err
	}
	var one saved
	if from != nil {
		one = from.steps[s.node.UID]
		groups := keyGroups(s.node)
		r, err := snapshot.Open("the snapshot of "+s.node.Name, one.run, groups.First, groups.Last)
		if err != nil {
			return err
		}
		if err := s.store.Load([]*snapshot.Reader{r}, state.Restore{Declared: one.states}); err != nil {
			return err
		}
	}
	if r, ok := s.op.(operator.Restorer); ok {
		if err := r.Restore(one.entries); err != nil {
			return err
		}
	}
	return nil
}

// ring is called by operators, or by the clock on their behalf: then whatever is
// due is done at that time.
func (h *Harness[T, U]) ring() {
	h.again = true
	if h.advancing {
		h.drive()
	}
}
