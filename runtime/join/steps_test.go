package join

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/checkpoint/snapshot"
	"github.com/millrace/millrace/internal/clock"
	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/keygroup"
	"github.com/millrace/millrace/runtime/operator"
	"github.com/millrace/millrace/runtime/state"
	"github.com/millrace/millrace/runtime/window"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// subtask is one of a join, driven as its task would.
type subtask struct {
	op    operator.Operator
	store *state.Store
	out   texts
}

type texts []string

func (o *texts) Push(b *batch.Batch[string]) error {
	for i, v := range b.Values {
		*o = append(*o, fmt.Sprint(v, " @", b.Times[i]))
	}
	return nil
}

func begin(t *testing.T, op operator.Operator, groups keygroup.Range, from *taken) *subtask {
	t.Helper()
	s := &subtask{op: op, store: state.NewStore(groups)}
	op.Output("").(*operator.Output[string]).Attach(&s.out)
	err := op.Open(&operator.Context{
		Name: "join", UID: "join", Parallelism: groups.N, KeyGroups: groups, State: s.store,
		Clock: clock.NewVirtual(time.UnixMilli(0)), Log: slog.New(slog.DiscardHandler), Attempt: context.Background(),
		Wake: func() {}, Metrics: &operator.Metrics{},
	})
	if err != nil {
		t.Fatal(err)
	}
	var entries []*operator.Entry
	if from != nil {
		r, err := snapshot.Open("test", from.run, 0, keygroup.Default-1)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.store.Load([]*snapshot.Reader{r}, state.Restore{Declared: from.states}); err != nil {
			t.Fatal(err)
		}
		entries = from.entries
	}
	if r, ok := op.(operator.Restorer); ok {
		if err := r.Restore(entries); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// push hands in records of one side, of the keys from first to last.
func (s *subtask) push(t *testing.T, port int, at int64, first, last int64) {
	t.Helper()
	hash, err := keygroup.HasherOf[int64]()
	if err != nil {
		t.Fatal(err)
	}
	for chunk := range slices.Chunk(numbers(first, last), batch.Rows) {
		var b batch.Batch[int64]
		for _, k := range chunk {
			b.AppendKeyed(k, at, hash(&k))
		}
		if err := s.op.Input(port).(operator.Stage[int64]).Push(&b); err != nil {
			t.Fatal(err)
		}
	}
}

func numbers(first, last int64) (all []int64) {
	for k := first; k <= last; k++ {
		all = append(all, k)
	}
	return all
}

// watermark moves event time, and does a number of steps of the work, or all of it
// if negative. It says whether that was all.
func (s *subtask) watermark(t *testing.T, at int64, steps int) (done bool) {
	t.Helper()
	reached, err := s.op.Watermark(at)
	if err != nil {
		t.Fatal(err)
	}
	done = reached >= at
	for n := 0; !done && n != steps; n++ {
		more, _, err := s.op.(operator.Worker).Work()
		if err != nil {
			t.Fatal(err)
		}
		done = !more
	}
	return done
}

// taken is a checkpoint.
type taken struct {
	run     []byte
	states  []*pb.StateDecl
	entries []*operator.Entry
}

func (s *subtask) checkpoint(t *testing.T) *taken {
	t.Helper()
	c := &taken{states: s.store.Declared()}
	f := s.store.Freeze(true)
	defer f.Release()
	if o, ok := s.op.(operator.Snapshotter); ok {
		snap := &operator.Snapshot{CheckpointID: 1}
		if err := o.Snapshot(snap); err != nil {
			t.Fatal(err)
		}
		c.entries = snap.Entries
	}
	w := snapshot.NewWriter(keygroup.Default)
	if err := f.Write(w); err != nil {
		t.Fatal(err)
	}
	run, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	c.run = run.Bytes
	return c
}

// Who reads a checkpoint without the job's types hashes keys to check their
// groups, and has to know which are more than the stream's key.
func TestStatesSayHowTheirKeysAreMade(t *testing.T) {
	id := func(v int64) int64 { return v }
	pair := func(*int64, *int64) string { return "" }
	for _, op := range []operator.Operator{
		NewKeyed(KeyedConfig[int64, int64, int64, string]{Left: id, Right: id, Pair: pair, TTL: 1}),
		NewInterval(IntervalConfig[int64, int64, int64, string]{Left: id, Right: id, Pair: pair}),
		NewTemporal(TemporalConfig[int64, int64, int64, string]{Left: id, Right: id, Pair: pair}),
		NewWindow(WindowConfig[int64, int64, int64, string]{Assigner: window.Session(time.Second), Left: id, Right: id, Each: Pairs[int64](Outer{}, pair)}),
	} {
		made := 0
		for _, d := range begin(t, op, keygroup.RangeOf(0, 1, keygroup.Default), nil).store.Declared() {
			composed := d.GetKeySchema() != "int64"
			if composed {
				made++
			}
			if composed != (d.GetKind() == "list") {
				t.Errorf("%T: state %q with keys %s is a %s", op, d.GetName(), d.GetKeySchema(), d.GetKind())
			}
		}
		if made == 0 {
			t.Errorf("%T has no state whose keys are more than the stream's", op)
		}
	}
}

// A barrier may fall between the steps in which windows fire or unmatched rows come
// out: of all there is, nothing is missing and nothing comes twice, whatever the
// parallelism of the restore.
func TestABarrierMayFallBetweenSteps(t *testing.T) {
	id := func(v int64) int64 { return v }
	pair := func(l, r *int64) string {
		switch {
		case l == nil:
			return fmt.Sprint("- ", *r)
		case r == nil:
			return fmt.Sprint(*l, " -")
		}
		return fmt.Sprint(*l, " ", *r)
	}
	both := Outer{Left: true, Right: true}
	const n = 3 * rowsAStep
	windows := func(a window.Assigner) func() operator.Operator {
		return func() operator.Operator {
			return NewWindow(WindowConfig[int64, int64, int64, string]{Assigner: a, Left: id, Right: id, Each: Pairs[int64](both, pair)})
		}
	}
	ms := time.Millisecond
	for name, c := range map[string]struct {
		make func() operator.Operator
		mark int64
	}{
		"interval": {func() operator.Operator {
			return NewInterval(IntervalConfig[int64, int64, int64, string]{Left: id, Right: id, Pair: pair, Outer: both, Lower: -10, Upper: 10})
		}, 200},
		"keyed": {func() operator.Operator {
			return NewKeyed(KeyedConfig[int64, int64, int64, string]{Left: id, Right: id, Pair: pair, Outer: both})
		}, batch.EndOfTime},
		"tumbling": {windows(window.Tumbling(50 * ms)), 200},
		"sliding":  {windows(window.Sliding(50*ms, 10*ms)), 141},
		"sessions": {windows(window.Session(20 * ms)), 200},
		"temporal": {func() operator.Operator {
			return NewTemporal(TemporalConfig[int64, int64, int64, string]{Left: id, Right: id, Pair: pair, Outer: true})
		}, 200},
	} {
		feed := func() *subtask {
			s := begin(t, c.make(), keygroup.RangeOf(0, 1, keygroup.Default), nil)
			s.push(t, 0, 101, 0, n)
			s.push(t, 1, 101, n/2, n+n/4)
			s.push(t, 1, 111, n/3, n/2+9)
			s.push(t, 0, 121, n, n+9)
			return s
		}
		whole := feed()
		whole.watermark(t, c.mark, -1)
		want := whole.out
		if name != "temporal" {
			whole.watermark(t, batch.EndOfTime, -1)
			want = whole.out
		}
		slices.Sort(want)
		if len(want) < n {
			t.Fatalf("%s: %d rows, too little to compare", name, len(want))
		}
		for _, parallelism := range []int{1, 3} {
			between := 0
			for steps := 0; ; steps = 2*steps + 1 {
				s := feed()
				done := s.watermark(t, c.mark, steps)
				saved := s.checkpoint(t)
				got := s.out
				for i := range parallelism {
					next := begin(t, c.make(), keygroup.RangeOf(i, parallelism, keygroup.Default), saved)
					next.watermark(t, c.mark, -1)
					if name != "temporal" {
						next.watermark(t, batch.EndOfTime, -1)
					}
					got = append(got, next.out...)
				}
				slices.Sort(got)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Fatalf("%s, %d steps, restored to %d: %d rows, want %d (-want +got):\n%.1500s", name, steps, parallelism, len(got), len(want), diff)
				}
				if done {
					break
				}
				between++
			}
			if between < 2 {
				t.Errorf("%s: a barrier fell between %d steps only", name, between)
			}
		}
	}
}
