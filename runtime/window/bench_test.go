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
	op := openBench(b, New(cfg)).(*Sliced[uint64, bid, int64, int64])
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

// openBench opens an operator that owns all key groups.
func openBench(b *testing.B, op operator.Operator) operator.Operator {
	b.Helper()
	kg := keygroup.RangeOf(0, 1, keygroup.Default)
	if err := op.Open(&operator.Context{KeyGroups: kg, State: state.NewStore(kg), Clock: clock.System, Log: slog.Default(), Metrics: &operator.Metrics{}}); err != nil {
		b.Fatal(err)
	}
	return op
}

// BenchmarkGreatest is the cost of a record, firing and all, where each window has
// one result, the key with the most records: keys move on as auctions do, and half
// of the records are of a hot one. Watermarks come 5 ms of a fast job apart.
func BenchmarkGreatest(b *testing.B) {
	for _, c := range []struct {
		name     string
		slide    time.Duration
		subtract bool
	}{{"by-2s", 2 * time.Second, true}, {"by-10ms", 10 * time.Millisecond, true}, {"by-2s/merge", 2 * time.Second, false}, {"by-10ms/merge", 10 * time.Millisecond, false}} {
		b.Run(c.name, func(b *testing.B) {
			cfg := Config[uint64, bid, int64, int64]{
				Assigner: Sliding(10*time.Second, c.slide),
				Key:      func(v bid) uint64 { return v.Auction },
				Aggregate: Aggregate[bid, int64]{
					New: func() int64 { return 0 }, Add: func(acc *int64, _ bid) { *acc++ }, Merge: func(a, b *int64) { *a += *b },
				},
				Result: func(_ Window, _ uint64, n int64) int64 { return n },
				Rank:   Greatest[uint64](1, func(n int64) int64 { return n }),
			}
			if c.subtract {
				cfg.Aggregate.Subtract = func(a, b *int64) { *a -= *b }
			}
			auction := func(n uint64) uint64 {
				last, h := n*3/50, n*0x9e3779b97f4a7c15>>20
				if h&1 == 0 {
					return last / 100 * 100
				}
				return last + 10 - min(last, h>>1%110)
			}
			results := runWindows(b, cfg, auction, 10)
			b.ReportMetric(float64(results)/float64(b.N), "results/record")
		})
	}
}

// runWindows pushes b.N records, perMilli of them a millisecond of event time, with
// a watermark each 16,384, and says how many results came.
func runWindows(b *testing.B, cfg Config[uint64, bid, int64, int64], key func(n uint64) uint64, perMilli int) int {
	b.Helper()
	hash, err := keygroup.HasherOf[uint64]()
	if err != nil {
		b.Fatal(err)
	}
	op := openBench(b, New(cfg)).(*Sliced[uint64, bid, int64, int64])
	var out discard[int64]
	op.main.Attach(&out)
	in := &batch.Batch[bid]{}
	of := make([]uint64, 1)
	n := 0
	b.ReportAllocs()
	b.ResetTimer()
	for i := range max(1, b.N/batch.Rows) {
		in.Reset()
		for range batch.Rows {
			of[0] = key(uint64(n))
			in.AppendKeyed(bid{of[0], int64(n)}, int64(n/perMilli), hash(&of[0]))
			n++
		}
		if err := op.Push(in); err != nil {
			b.Fatal(err)
		}
		if i%32 != 31 {
			continue
		}
		for more, t := true, int64(n/perMilli-1); more; {
			reached, err := op.Watermark(t)
			if err != nil {
				b.Fatal(err)
			}
			more = reached < t
		}
	}
	return out.n
}

// BenchmarkManyResults is 10,000 keys, of which every window of 10 s by 10 ms emits
// all, at a million records a second: a result for each record.
func BenchmarkManyResults(b *testing.B) {
	cfg := Config[uint64, bid, int64, int64]{
		Assigner: Sliding(10*time.Second, 10*time.Millisecond),
		Key:      func(v bid) uint64 { return v.Auction },
		Aggregate: Aggregate[bid, int64]{
			New: func() int64 { return 0 }, Add: func(acc *int64, _ bid) { *acc++ }, Merge: func(a, b *int64) { *a += *b },
			Subtract: func(a, b *int64) { *a -= *b },
		},
		Result: func(_ Window, _ uint64, n int64) int64 { return n },
	}
	results := runWindows(b, cfg, func(n uint64) uint64 { return n * 0x9e3779b97f4a7c15 >> 20 % 10000 }, 1000)
	b.ReportMetric(float64(results)/float64(b.N), "results/record")
}
