package join

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/clock"
	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/keygroup"
	"github.com/millrace/millrace/runtime/operator"
	"github.com/millrace/millrace/runtime/state"
	"github.com/millrace/millrace/runtime/window"
)

type bid struct{ Auction, Price int64 }

type sale struct{ Auction, Price, Reserve int64 }

func auctionOf(b bid) int64 { return b.Auction }

func pair(l, r *bid) sale { return sale{l.Auction, l.Price, r.Price} }

// opened makes an operator run on a store of its own.
func opened(t testing.TB, op operator.Operator) operator.Operator {
	t.Helper()
	groups := keygroup.RangeOf(0, 1, keygroup.Default)
	ctx := &operator.Context{
		Name: "join", UID: "join", Parallelism: 1, KeyGroups: groups, State: state.NewStore(groups),
		Clock: clock.NewVirtual(time.UnixMilli(0)), Log: slog.New(slog.DiscardHandler), Attempt: context.Background(),
		Wake: func() {}, Metrics: &operator.Metrics{},
	}
	if err := op.Open(ctx); err != nil {
		t.Fatal(err)
	}
	if r, ok := op.(operator.Restorer); ok {
		if err := r.Restore(nil); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = op.Close() })
	return op
}

// counter is where results go.
type counter struct{ n int }

func (c *counter) Push(b *batch.Batch[sale]) error {
	c.n += b.Len()
	return nil
}

// bench pushes batches of both sides in turns: record i has event time i/64 ms, and
// the key that key says. It counts records.
func bench(b *testing.B, op operator.Operator, key func(i int64, right bool) int64) {
	opened(b, op)
	out := &counter{}
	op.Output("").(*operator.Output[sale]).Attach(out)
	sides := [2]operator.Stage[bid]{op.Input(0).(operator.Stage[bid]), op.Input(1).(operator.Stage[bid])}
	hash, err := keygroup.HasherOf[int64]()
	if err != nil {
		b.Fatal(err)
	}
	var in batch.Batch[bid]
	i, k := int64(0), int64(0)
	turn := func() {
		in.Reset()
		right := i/batch.Rows%2 == 1
		for range batch.Rows {
			k = key(i, right)
			in.AppendKeyed(bid{k, i}, i/64, hash(&k))
			i++
		}
		side := 0
		if right {
			side = 1
		}
		if err := sides[side].Push(&in); err != nil {
			b.Fatal(err)
		}
		if _, err := op.Watermark(i/64 - 20); err != nil {
			b.Fatal(err)
		}
	}
	for range 2000 {
		turn()
	}
	from := out.n
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; n += batch.Rows {
		turn()
	}
	b.ReportMetric(float64(out.n-from)/float64(b.N), "results/op")
}

// An interval of 200 ms, about 13 000 rows of each side kept; every eighth record
// or so meets one.
func BenchmarkInterval(b *testing.B) {
	op := NewInterval(IntervalConfig[int64, bid, bid, sale]{Left: auctionOf, Right: auctionOf, Pair: pair, Lower: -200, Upper: 0})
	bench(b, op, func(i int64, _ bool) int64 { return i * 0x9e3779b1 >> 8 & 0xffff })
}

// Auctions stay, bids of the last 64 000 come by: most meet one, and nobody keeps
// them but for a later auction of the same number.
func BenchmarkKeyed(b *testing.B) {
	op := NewKeyed(KeyedConfig[int64, bid, bid, sale]{Left: auctionOf, Right: auctionOf, Pair: pair})
	bench(b, op, func(i int64, right bool) int64 {
		if right {
			return i
		}
		return i - i*0x9e3779b1>>8&0xffff
	})
}

// A sliding window of 100 ms each 10 ms.
func BenchmarkWindow(b *testing.B) {
	op := NewWindow(WindowConfig[int64, bid, bid, sale]{
		Assigner: window.Sliding(100*time.Millisecond, 10*time.Millisecond), Left: auctionOf, Right: auctionOf, Each: Pairs[int64](Outer{}, pair),
	})
	bench(b, op, func(i int64, _ bool) int64 { return i * 0x9e3779b1 >> 8 & 0xffff })
}

func BenchmarkTemporal(b *testing.B) {
	op := NewTemporal(TemporalConfig[int64, bid, bid, sale]{Left: auctionOf, Right: auctionOf, Pair: pair})
	bench(b, op, func(i int64, _ bool) int64 { return i * 0x9e3779b1 >> 8 & 0x3fff })
}

func BenchmarkLookup(b *testing.B) {
	op := opened(b, NewLookup(LookupConfig[int64, bid, bid, sale]{
		Key: auctionOf, Pair: pair, Cache: 1 << 14,
		Find: func(_ context.Context, k int64) (bid, bool, error) { return bid{k, k}, true, nil },
	}))
	in := batch.Batch[bid]{}
	for i := range int64(batch.Rows) {
		in.Append(bid{i * 31, i}, i)
	}
	b.ReportAllocs()
	for n := 0; n < b.N; n += batch.Rows {
		if err := op.Input(0).(operator.Stage[bid]).Push(&in); err != nil {
			b.Fatal(err)
		}
	}
}
