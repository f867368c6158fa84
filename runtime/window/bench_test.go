package window

import (
	"log/slog"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/clock"
	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/keygroup"
	"github.com/millrace/millrace/runtime/operator"
	"github.com/millrace/millrace/runtime/state"
)

type bid struct {
	Auction uint64
	Price   int64
}

type discard[T any] struct{ n int }

func (d *discard[T]) Push(b *batch.Batch[T]) error {
	d.n += b.Len()
	return nil
}

// BenchmarkUpdate is the cost of a record in a window of 10,000 keys, at 10,000
// records a second of event time. What a record costs must not grow with
// size ÷ slide; the number of results does, so firing is reported beside it.
func BenchmarkUpdate(b *testing.B) {
	for _, c := range []struct {
		name     string
		assigner Assigner
		subtract bool
	}{
		{"tumbling-10s", Tumbling(10 * time.Second), false},
		{"sliding-10s-by-2s/merge", Sliding(10*time.Second, 2*time.Second), false},
		{"sliding-10s-by-2s/subtract", Sliding(10*time.Second, 2*time.Second), true},
		{"sliding-10s-by-10ms/merge", Sliding(10*time.Second, 10*time.Millisecond), false},
		{"sliding-10s-by-10ms/subtract", Sliding(10*time.Second, 10*time.Millisecond), true},
	} {
		b.Run(c.name, func(b *testing.B) { benchmarkUpdate(b, c.assigner, c.subtract) })
	}
}

func benchmarkUpdate(b *testing.B, a Assigner, subtract bool) {
	const keys = 10000
	cfg := Config[uint64, bid, int64, int64]{
		Assigner: a,
		Key:      func(v bid) uint64 { return v.Auction },
		Aggregate: Aggregate[bid, int64]{
			New: func() int64 { return 0 }, Add: func(acc *int64, _ bid) { *acc++ }, Merge: func(a, b *int64) { *a += *b },
		},
		Result: func(_ Window, _ uint64, n int64) int64 { return n },
	}
	if subtract {
		cfg.Aggregate.Subtract = func(a, b *int64) { *a -= *b }
	}
	hash, err := keygroup.HasherOf[uint64]()
	if err != nil {
		b.Fatal(err)
	}
	op := New(cfg).(*Sliced[uint64, bid, int64, int64])
	kg := keygroup.RangeOf(0, 1, keygroup.Default)
	if err := op.Open(&operator.Context{KeyGroups: kg, State: state.NewStore(kg), Clock: clock.System, Log: slog.Default(), Metrics: &operator.Metrics{}}); err != nil {
		b.Fatal(err)
	}
	var out discard[int64]
	op.main.Attach(&out)
	in := &batch.Batch[bid]{}
	keyOf := make([]uint64, 1)
	// 10,000 records a second of event time: 100 a slide of 10 ms.
	const perMilli = 10
	n, firing := 0, time.Duration(0)
	next := uint64(0)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N / batch.Rows {
		in.Reset()
		for range batch.Rows {
			keyOf[0] = next * 0x9e3779b97f4a7c15 >> 32 % keys
			next++
			in.AppendKeyed(bid{keyOf[0], int64(n)}, int64(n/perMilli), hash(&keyOf[0]))
			n++
		}
		if err := op.Push(in); err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		for more, t := true, int64(n/perMilli-1); more; {
			reached, err := op.Watermark(t)
			if err != nil {
				b.Fatal(err)
			}
			more = reached < t
		}
		firing += time.Since(began)
	}
	b.StopTimer()
	if n > 0 {
		b.ReportMetric(float64(b.Elapsed()-firing)/float64(n), "update-ns/record")
		b.ReportMetric(float64(firing)/float64(max(1, out.n)), "firing-ns/result")
		b.ReportMetric(float64(out.n)/float64(n), "results/record")
	}
}
