package window

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/millrace/millrace/checkpoint/snapshot"
	"github.com/millrace/millrace/internal/clock"
	pb "github.com/millrace/millrace/proto/millrace/v1"
	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/keygroup"
	"github.com/millrace/millrace/runtime/operator"
	"github.com/millrace/millrace/runtime/state"
)

const groups = 64

// rig runs a window operator as one or more subtasks by hand. Records are
// (key, value), results strings.
type rig struct {
	t       testing.TB
	cfg     Config[string, pair, int64, string]
	clock   *clock.Virtual
	subs    []*sub
	results []string
	late    []string
	hash    func(*string) uint64
	// folder is the sender's, if the rig folds before its exchange.
	folder operator.Operator
	// make makes the operator of a subtask: New, if nil.
	make func() operator.Operator
}

type pair struct {
	Key   string
	Value int64
}

type sub struct {
	r       *rig
	op      operator.Operator
	store   *state.Store
	groups  keygroup.Range
	mail    []func() error
	in      batch.Batch[pair]
	rows    batch.Batch[Partial[string, pair, int64]]
	metrics operator.Metrics
}

func newRig(t testing.TB, a Assigner, change func(*Config[string, pair, int64, string])) *rig {
	t.Helper()
	hash, err := keygroup.HasherOf[string]()
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, clock: clock.NewVirtual(time.UnixMilli(0)), hash: hash}
	r.cfg = Config[string, pair, int64, string]{
		Assigner: a,
		Key:      func(p pair) string { return p.Key },
		Aggregate: Aggregate[pair, int64]{
			New:   func() int64 { return 0 },
			Add:   func(acc *int64, p pair) { *acc += p.Value },
			Merge: func(a, b *int64) { *a += *b },
		},
		Result: func(w Window, key string, acc int64) string {
			return fmt.Sprintf("%s [%d,%d) %d", key, w.Start, w.End, acc)
		},
		Late: "late",
	}
	if change != nil {
		change(&r.cfg)
	}
	r.start(1, nil)
	return r
}

// triggered makes a rig of windows with a trigger.
func triggered[S any](t testing.TB, a Assigner, tr Trigger[pair, S], change func(*TriggeredConfig[string, pair, int64, S, string])) *rig {
	t.Helper()
	r := newRig(t, Tumbling(time.Second), nil)
	c := TriggeredConfig[string, pair, int64, S, string]{Config: r.cfg, Trigger: tr}
	c.Assigner = a
	if change != nil {
		change(&c)
	}
	r.make = func() operator.Operator { return NewTriggered(c) }
	r.start(1, nil)
	return r
}

// saved is a checkpoint of all subtasks.
type saved struct {
	runs    []snapshot.Run
	entries []*pb.OperatorEntry
	states  []*pb.StateDecl
}

// start begins anew with n subtasks, from a checkpoint.
func (r *rig) start(n int, from *saved) {
	r.t.Helper()
	for _, s := range r.subs {
		if err := s.op.Close(); err != nil {
			r.t.Fatal(err)
		}
	}
	r.subs = nil
	if r.cfg.Folded {
		r.folder = NewFolder(r.cfg)
		r.check(r.folder.Open(&operator.Context{Clock: r.clock, Metrics: &operator.Metrics{}}))
		r.folder.Output("").(*operator.Output[Partial[string, pair, int64]]).Attach((*rows)(r))
	}
	for i := range n {
		kg := keygroup.RangeOf(i, n, groups)
		s := &sub{r: r, op: r.operator(), store: state.NewStore(kg), groups: kg}
		ctx := &operator.Context{
			KeyGroups: kg, State: s.store, Clock: r.clock, Log: slog.Default(), Metrics: &s.metrics,
			Mail: func(f func() error) { s.mail = append(s.mail, f) },
		}
		r.check(s.op.Open(ctx))
		s.op.Output("").(*operator.Output[string]).Attach((*results)(r))
		if r.cfg.Late != "" {
			s.op.Output("late").(*operator.Output[pair]).Attach((*lates)(r))
		}
		var entries []*pb.OperatorEntry
		if from != nil {
			var readers []*snapshot.Reader
			for j, run := range from.runs {
				rd, err := snapshot.Open(fmt.Sprint("run ", j), run.Bytes, kg.First, kg.Last)
				r.check(err)
				readers = append(readers, rd)
			}
			r.check(s.store.Load(readers, state.Restore{Declared: from.states}))
			entries = from.entries
		}
		r.check(s.op.(operator.Restorer).Restore(entries))
		r.subs = append(r.subs, s)
	}
}

func (r *rig) operator() operator.Operator {
	if r.make != nil {
		return r.make()
	}
	return New(r.cfg)
}

func (r *rig) check(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// save takes a full checkpoint of every subtask.
func (r *rig) save() *saved { return r.saveAt(operator.Snapshot{}) }

func (r *rig) saveAt(barrier operator.Snapshot) *saved {
	r.t.Helper()
	c := &saved{}
	if r.folder != nil {
		r.check(r.folder.(operator.Flusher).Flush())
	}
	for _, s := range r.subs {
		snap := &barrier
		snap.Entries = nil
		r.check(s.op.(operator.Snapshotter).Snapshot(snap))
		f := s.store.Freeze(true)
		w := snapshot.NewWriter(groups)
		w.Own(s.groups.First, s.groups.Last)
		r.check(f.Write(w))
		f.Release()
		run, err := w.Finish()
		r.check(err)
		c.runs = append(c.runs, run)
		c.entries = append(c.entries, snap.Entries...)
		c.states = s.store.Declared()
	}
	return c
}

// push sends one record to its owner.
func (r *rig) push(key string, value, at int64) {
	r.t.Helper()
	if r.folder != nil {
		var b batch.Batch[pair]
		b.Append(pair{key, value}, at)
		r.check(r.folder.Input(0).(operator.Stage[pair]).Push(&b))
		return
	}
	hash := r.hash(&key)
	s := r.subs[keygroup.Owner(keygroup.Of(hash, groups), len(r.subs), groups)]
	s.in.AppendKeyed(pair{key, value}, at, hash)
	r.check(s.op.Input(0).(operator.Stage[pair]).Push(&s.in))
	s.in.Reset()
}

// watermark raises event time; between steps of firing it calls each, which
// may replace the subtasks and then returns true.
func (r *rig) watermark(t int64, each func() bool) {
	r.t.Helper()
	if r.folder != nil {
		_, err := r.folder.Watermark(t)
		r.check(err)
	}
again:
	for _, s := range r.subs {
		reached, err := s.op.Watermark(t)
		r.check(err)
		for more := reached < t; more; {
			if each != nil && each() {
				goto again
			}
			more, reached, err = s.op.(operator.Worker).Work()
			r.check(err)
		}
		if reached != t {
			r.t.Fatalf("watermark %d: output reached %d", t, reached)
		}
	}
}

// advance moves the clock and runs the mail that it brings.
func (r *rig) advance(d time.Duration) {
	r.t.Helper()
	r.clock.Advance(d)
	for _, s := range r.subs {
		for len(s.mail) > 0 {
			f := s.mail[0]
			s.mail = s.mail[1:]
			r.check(f())
		}
	}
}

// dropped counts what was late.
func (r *rig) dropped() (n uint64) {
	for _, s := range r.subs {
		n += s.metrics.LateDropped
	}
	return n
}

type rows rig

func (r *rows) Push(b *batch.Batch[Partial[string, pair, int64]]) error {
	for i, p := range b.Values {
		hash := r.hash(&p.Key)
		s := r.subs[keygroup.Owner(keygroup.Of(hash, groups), len(r.subs), groups)]
		s.rows.AppendKeyed(p, b.Times[i], hash)
		if err := s.op.Input(0).(operator.Stage[Partial[string, pair, int64]]).Push(&s.rows); err != nil {
			return err
		}
		s.rows.Reset()
	}
	return nil
}

type results rig

func (r *results) Push(b *batch.Batch[string]) error {
	r.results = append(r.results, b.Values...)
	return nil
}

type lates rig

func (r *lates) Push(b *batch.Batch[pair]) error {
	for i, p := range b.Values {
		r.late = append(r.late, fmt.Sprintf("%s %d @%d", p.Key, p.Value, b.Times[i]))
	}
	return nil
}
