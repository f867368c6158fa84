package update

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"

	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/keygroup"
	"github.com/millrace/millrace/runtime/operator"
	"github.com/millrace/millrace/runtime/state"
)

// bid is the row of the tests. Name is there to be a string.
type bid struct {
	Key, Price, Number int64
	Name               string
}

func keyOf(b bid) int64 { return b.Key }

// table adds up changes, rows as text.
type table map[string]int

func (t table) add(op batch.Op, row string) error {
	if op == batch.Insert {
		t[row]++
		return nil
	}
	t[row]--
	switch n := t[row]; {
	case n < 0:
		return fmt.Errorf("%s goes and is not there", row)
	case n == 0:
		delete(t, row)
	}
	return nil
}

// results is a stage that adds up what an operator emits.
type results[R any] struct {
	table   table
	changes int
}

func (r *results[R]) Push(b *batch.Batch[R]) error {
	for i, v := range b.Values {
		if err := r.table.add(b.OpOf(i), fmt.Sprint(v)); err != nil {
			return err
		}
	}
	r.changes += b.Len()
	return nil
}

// rig drives one operator of keys.
type rig[R any] struct {
	op  operator.Operator
	ctx *operator.Context
	out *results[R]
}

func newRig[R any](t testing.TB, op operator.Operator, inBatch bool) *rig[R] {
	t.Helper()
	r := &rig[R]{op: op, out: &results[R]{table: table{}}}
	groups := keygroup.RangeOf(0, 1, keygroup.Default)
	r.ctx = &operator.Context{Name: "op", UID: "op", Parallelism: 1, KeyGroups: groups, State: state.NewStore(groups),
		Log: slog.New(slog.DiscardHandler), Metrics: &operator.Metrics{}, Batch: inBatch}
	if err := op.Open(r.ctx); err != nil {
		t.Fatal(err)
	}
	op.Output("").(*operator.Output[R]).Attach(r.out)
	return r
}

func (r *rig[R]) push(t testing.TB, b *batch.Batch[bid]) {
	t.Helper()
	b.Hashes = b.Hashes[:0]
	for i := range b.Values {
		b.Hashes = append(b.Hashes, hashOf(&b.Values[i].Key))
	}
	if err := r.op.Input(0).(operator.Stage[bid]).Push(b); err != nil {
		t.Fatal(err)
	}
}

// step is the first step of a batch run's end.
func (r *rig[R]) step(t testing.TB) {
	t.Helper()
	if _, err := r.op.Watermark(batch.EndOfTime); err != nil {
		t.Fatal(err)
	}
	if more, _, err := r.op.(operator.Worker).Work(); err != nil || !more {
		t.Fatalf("the end is one step: %v, %v", more, err)
	}
}

// end lets a batch run emit its result.
func (r *rig[R]) end(t testing.TB) {
	t.Helper()
	at, err := r.op.Watermark(batch.EndOfTime)
	for more := at != batch.EndOfTime; more && err == nil; {
		more, at, err = r.op.(operator.Worker).Work()
	}
	if err != nil || at != batch.EndOfTime {
		t.Fatalf("the end: %v, %v", at, err)
	}
}

var hashOf = func() func(*int64) uint64 {
	h, err := keygroup.HasherOf[int64]()
	if err != nil {
		panic(err)
	}
	return h
}()

// feed makes random rows, and takes some of them back.
type feed struct {
	rng     *rand.Rand
	keys    int64
	deletes bool
	next    int64
	live    []bid
}

func (f *feed) batch(rows int) *batch.Batch[bid] {
	b := &batch.Batch[bid]{}
	for range rows {
		if f.deletes && len(f.live) > 0 && f.rng.IntN(5) < 2 {
			i := f.rng.IntN(len(f.live))
			b.AppendOp(batch.Delete, f.live[i], f.next)
			f.live[i] = f.live[len(f.live)-1]
			f.live = f.live[:len(f.live)-1]
			continue
		}
		v := bid{Key: f.rng.Int64N(f.keys), Price: f.rng.Int64N(30), Number: f.next}
		v.Name = fmt.Sprint("name-", v.Price%4)
		if f.deletes && f.rng.IntN(6) == 0 && len(f.live) > 0 {
			v = f.live[f.rng.IntN(len(f.live))] // once more
		}
		f.next++
		f.live = append(f.live, v)
		b.AppendOp(batch.Insert, v, f.next)
	}
	return b
}
