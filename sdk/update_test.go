package sdk_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/sdk"
	"github.com/millrace/millrace/sdk/sdktest"
)

type bid struct {
	Auction, Category, Price, Number int64
}

func bids(n int64) []bid {
	all := make([]bid, n)
	for i := range all {
		x := uint64(i+1) * 0x9e3779b97f4a7c15 >> 20
		all[i] = bid{Auction: int64(x % 37), Category: int64(x % 37 % 5), Price: int64(x>>8) % 1000, Number: int64(i)}
	}
	return all
}

// table adds up changes as text.
type table struct {
	t    testing.TB
	rows map[string]int
}

func (c *table) add(op sdk.Change, row string) {
	if c.rows == nil {
		c.rows = map[string]int{}
	}
	if op == sdk.Insert {
		c.rows[row]++
		return
	}
	if c.rows[row]--; c.rows[row] < 0 {
		c.t.Errorf("%s goes and is not there", row)
	}
	if c.rows[row] == 0 {
		delete(c.rows, row)
	}
}

// addAll adds changes that are text, "+row" or "-row", in whatever order.
func (c *table) addAll(changes []string) {
	for _, sign := range []byte{'+', '-'} {
		for _, change := range changes {
			if change[0] == sign {
				c.add(map[byte]sdk.Change{'+': sdk.Insert, '-': sdk.Delete}[sign], change[1:])
			}
		}
	}
}

// TestMeanOfMaxima is the highest price of each auction, and the mean of those
// in each category: updates of updates.
func TestMeanOfMaxima(t *testing.T) {
	in := bids(3000)
	h := sdktest.Operator(t, func(s sdk.DataStream[bid]) sdk.DataStream[string] {
		return s.KeyBy(func(b bid) int64 { return b.Auction }).AsUpdates().
			Max("max", func(b bid) int64 { return b.Price }, func(a, price int64) bid { return bid{Auction: a, Category: a % 5, Price: price} }).
			KeyBy(func(b bid) int64 { return b.Category }).
			Aggregate("mean", sdk.MeanOf(func(b bid) int64 { return b.Price }), func(c int64, m sdk.Mean[int64]) string {
				return fmt.Sprintf("%d: %d of %d", c, m.Truncated(), m.Count)
			}).
			Changes(func(op sdk.Change, row string) string { return op.String() + row })
	})
	got := table{t: t}
	highest := map[int64]int64{}
	for i := 0; i < len(in); i += 97 {
		part := in[i:min(i+97, len(in))]
		h.Push(h.Now(), part...)
		for _, b := range part {
			highest[b.Auction] = max(highest[b.Auction], b.Price)
		}
		want := table{t: t}
		sum, count := map[int64]int64{}, map[int64]int64{}
		for a, p := range highest {
			sum[a%5] += p
			count[a%5]++
		}
		for c, n := range count {
			want.add(sdk.Insert, fmt.Sprintf("%d: %d of %d", c, sum[c]/n, n))
		}
		got.addAll(h.Output())
		if fmt.Sprint(got.rows) != fmt.Sprint(want.rows) {
			t.Fatalf("after %d bids:\n got %v\nwant %v", i+len(part), got.rows, want.rows)
		}
	}
}

func TestUpdatesAreRefused(t *testing.T) {
	running := func(env *sdk.Env) sdk.Updates[int64] {
		return sdk.From(env, sdk.Slice(bids(3)...)).KeyBy(func(b bid) int64 { return b.Auction }).AsUpdates().
			Aggregate("counts", sdk.Count[bid](), func(_, n int64) int64 { return n })
	}
	for name, c := range map[string]struct {
		build func(env *sdk.Env)
		want  []string
	}{
		"append-only sink": {func(env *sdk.Env) {
			running(env).To(sdk.Func(func(int64) error { return nil })).Named("out")
		}, []string{`operator "out"`, "a retraction into an append-only sink", "Changes"}},
		"no subtract": {func(env *sdk.Env) {
			running(env).KeyBy(func(n int64) int64 { return n }).
				Aggregate("all", sdk.Max(func(n int64) int64 { return n }), func(_ int64, m sdk.Extreme[int64]) int64 { return m.Value }).
				To(sdk.FuncUpdates(func(sdk.Change, int64) error { return nil }))
		}, []string{`operator "all"`, "no Subtract", "Max, Min or TopN"}},
		"distinct values that cannot go": {func(env *sdk.Env) {
			agg := sdk.Distincts[int64, int64, int]{New: func() int { return 0 }, Values: func(v int64, each func(int64, uint64)) { each(v, 1) }, Came: func(*int, int64, uint64) {}}
			running(env).KeyBy(func(n int64) int64 { return n }).AggregateDistinct("d", agg, func(_ int64, n int) int { return n }).
				To(sdk.FuncUpdates(func(sdk.Change, int) error { return nil }))
		}, []string{`operator "d"`, "Went"}},
		"no rows": {func(env *sdk.Env) {
			running(env).KeyBy(func(n int64) int64 { return n }).TopN("top", 0, func(a, b int64) bool { return a < b }).
				To(sdk.FuncUpdates(func(sdk.Change, int64) error { return nil }))
		}, []string{`operator "top"`, "at least 1"}},
		"no name": {func(env *sdk.Env) {
			running(env).KeyBy(func(n int64) int64 { return n }).Distinct("").
				To(sdk.FuncUpdates(func(sdk.Change, int64) error { return nil }))
		}, []string{"keeps state and has no name"}},
	} {
		_, err := sdk.Plan(func(env *sdk.Env) error { c.build(env); return nil }, nil, true)
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v does not say %q", name, err, want)
			}
		}
	}
	// What only comes may go anywhere.
	_, err := sdk.Plan(func(env *sdk.Env) error {
		sdk.From(env, sdk.Slice(1)).AsUpdates().Map(func(n int) int { return n }).To(sdk.Func(func(int) error { return nil }))
		return nil
	}, nil, true)
	if err != nil {
		t.Error(err)
	}
}

func TestABatchRunEnds(t *testing.T) {
	// A timer in processing time sets itself for ever; a batch run calls it once.
	out := sdktest.Collect[int64]()
	sdktest.Run(t, func(env *sdk.Env) error {
		env.Batch()
		sdk.From(env, sdk.Slice[int64](1, 2, 1)).KeyBy(func(v int64) int64 { return v }).
			Process("timers", func(op *sdk.KeyedOp[int64]) sdk.KeyedFn[int64, int64, int64] {
				n := op.Value[int64]("n")
				return sdk.KeyedFn[int64, int64, int64]{
					Each: func(c *sdk.KeyedContext[int64, int64], v int64) error {
						n.Set(n.Get() + 1)
						c.SetProcessingTimer(c.Now().Add(time.Hour))
						return nil
					},
					OnProcessingTimer: func(c *sdk.KeyedContext[int64, int64]) error {
						c.Emit(10*c.Key() + n.Get())
						c.SetProcessingTimer(c.Now().Add(time.Hour))
						return nil
					},
				}
			}).To(out)
		return nil
	})
	got := out.Values()
	slices.Sort(got)
	if diff := cmp.Diff([]int64{12, 21}, got); diff != "" {
		t.Error(diff)
	}
	_, err := sdk.Plan(func(env *sdk.Env) error {
		sdk.From(env, sdk.Generate(-1, func(i int64) int64 { return i })).Named("endless").To(sdk.Func(func(int64) error { return nil }))
		return nil
	}, []string{"--batch"}, true)
	if err == nil || !strings.Contains(err.Error(), `operator "endless": it never ends`) {
		t.Errorf("an endless source: %v", err)
	}
}
