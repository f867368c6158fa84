package operator

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/keygroup"
	"github.com/millrace/millrace/runtime/state"
	"github.com/millrace/millrace/runtime/timer"
)

// keyed makes a batch of a keyed edge, whose key is the value modulo 10.
func keyed(t testing.TB, values ...int) *batch.Batch[int] {
	hash, err := keygroup.HasherOf[int]()
	if err != nil {
		t.Fatal(err)
	}
	b := &batch.Batch[int]{}
	for _, v := range values {
		k := digit(v)
		b.AppendKeyed(v, int64(v), hash(&k))
	}
	return b
}

func digit(v int) int { return v % 10 }

func TestReduceIsARunningOnePerKey(t *testing.T) {
	op := NewReduce(digit, func(a, b int) int { return a + b })
	newRig(t).open(t, op)
	out := attach(op, "", &collect[int]{})
	if err := stage[int](op).Push(keyed(t, 1, 2, 11, 21, 12)); err != nil {
		t.Fatal(err)
	}
	want := []row[int]{{1, 1}, {2, 2}, {12, 11}, {33, 21}, {14, 12}}
	if diff := cmp.Diff(want, out.rows); diff != "" {
		t.Error(diff)
	}
}

// fired is what the timer test's operator emits.
type fired struct {
	Key  int
	What string
	Sum  int
}

// sums adds up each key; a timer 100 ms after each record, in event time or in
// processing time, emits the sum so far.
func sums(processing bool) Operator {
	return NewKeyedProcess(digit,
		func(ctx *Context, cur *state.Current[int]) (KeyedFunction[int, int, fired], error) {
			sum, err := state.NewValue[int, int](ctx.State, cur, "sum")
			if err != nil {
				return KeyedFunction[int, int, fired]{}, err
			}
			timers, err := timer.New[int](ctx.State, "timers")
			f := KeyedFunction[int, int, fired]{
				Process: func(c *Call, v int, _ func(fired)) error {
					sum.Set(sum.Get() + v)
					at := c.Time() + 100
					if processing {
						at = ctx.Clock.Now().UnixMilli() + 100
					}
					timers.Register(at, cur.Hash(), cur.Key())
					return nil
				},
			}
			tell := func(what string) func(*Call, func(fired)) error {
				return func(_ *Call, emit func(fired)) error {
					emit(fired{cur.Key(), what, sum.Get()})
					return nil
				}
			}
			if processing {
				f.ProcessingTimers, f.OnProcessingTime = timers, tell("processing")
			} else {
				f.EventTimers, f.OnEventTime = timers, tell("event")
			}
			return f, err
		})
}

func TestEventTimers(t *testing.T) {
	op := sums(false)
	newRig(t).open(t, op)
	out := attach(op, "", &collect[fired]{})
	if err := stage[int](op).Push(keyed(t, 1, 12, 21)); err != nil {
		t.Fatal(err)
	}
	if w, err := op.Watermark(111); w != 111 || err != nil {
		t.Fatal(w, err)
	}
	want := []row[fired]{{fired{1, "event", 22}, 101}}
	if diff := cmp.Diff(want, out.rows); diff != "" {
		t.Error(diff)
	}
	if _, err := op.Watermark(batch.EndOfTime); err != nil {
		t.Fatal(err)
	}
	want = append(want, row[fired]{fired{2, "event", 12}, 112}, row[fired]{fired{1, "event", 22}, 121})
	if diff := cmp.Diff(want, out.rows); diff != "" {
		t.Error(diff)
	}
}

// More timers than fit in a step hold the output's watermark back until all
// have fired.
func TestTimersYield(t *testing.T) {
	op := sums(false)
	newRig(t).open(t, op)
	out := attach(op, "", &collect[fired]{})
	const n = 2*timersAStep + 1
	for v := range n {
		if err := stage[int](op).Push(keyed(t, v)); err != nil {
			t.Fatal(err)
		}
	}
	if w, _ := op.Watermark(n + 100); w != batch.NoTime || len(out.rows) != timersAStep {
		t.Errorf("after a step: watermark %d, %d fired", w, len(out.rows))
	}
	if w := drain(t, op.(Worker)); w != n+100 || len(out.rows) != n {
		t.Errorf("at the end: watermark %d, %d fired", w, len(out.rows))
	}
}

func TestProcessingTimers(t *testing.T) {
	op, r := sums(true), newRig(t)
	r.open(t, op)
	out := attach(op, "", &collect[fired]{})
	for round := 1; round <= 3; round++ {
		if err := stage[int](op).Push(keyed(t, 1)); err != nil {
			t.Fatal(err)
		}
		drain(t, op.(Worker))
		wakes := r.wakes
		r.clock.Advance(99 * time.Millisecond)
		if r.wakes != wakes || len(out.rows) != round-1 {
			t.Fatalf("round %d: woken early", round)
		}
		r.clock.Advance(time.Millisecond)
		if r.wakes != wakes+1 {
			t.Fatalf("round %d: the clock did not wake the task", round)
		}
		drain(t, op.(Worker))
		if len(out.rows) != round {
			t.Fatalf("round %d: %d fired", round, len(out.rows))
		}
	}
	if err := op.Close(); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkReduce(b *testing.B) {
	op := NewReduce(func(v int) int { return v }, func(a, v int) int { return a + v })
	r := newRig(b)
	r.ctx.OnEnter(nil)
	r.open(b, op)
	op.Output("").(*Output[int]).Attach(&discard[int]{})
	hash, err := keygroup.HasherOf[int]()
	if err != nil {
		b.Fatal(err)
	}
	const keys = 1 << 20
	var batches []*batch.Batch[int]
	for at := 0; at < keys; at += batch.Rows {
		in := &batch.Batch[int]{}
		for i := range batch.Rows {
			k := (at + i) * 7919 % keys
			in.AppendKeyed(k, 0, hash(&k))
		}
		batches = append(batches, in)
	}
	first := stage[int](op)
	for _, in := range batches {
		if err := first.Push(in); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if err := first.Push(batches[n%len(batches)]); err != nil {
			b.Fatal(err)
		}
		n++
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/batch.Rows, "ns/record")
}
