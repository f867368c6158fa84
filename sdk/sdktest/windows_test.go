package sdktest_test

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/sdk"
	"github.com/millrace/millrace/sdk/sdktest"
)

// windowed is a job with windows of most kinds over the same visits, folded before
// the exchange or not; it fails once if it is to.
func windowed(t *testing.T, parallelism int, unfolded, tiered, fail bool) []string {
	t.Helper()
	var broken atomic.Bool
	broken.Store(!fail)
	out := sdktest.Collect[string]()
	sdktest.Run(t, func(env *sdk.Env) error {
		env.Parallelism(parallelism)
		env.CheckpointEvery(20 * time.Millisecond)
		if tiered {
			env.TieredState(1 << 20)
		}
		in := sdk.From(env, sdk.Generate(3000, func(i int64) int64 { return i })).Named("numbers").
			WithTimestamps(sdk.BoundedOutOfOrderness(time.Second, func(i int64) time.Time {
				return minute(0).Add(time.Duration(i*10-i*7919%900) * time.Millisecond)
			})).
			Filter(func(i int64) bool {
				if i == 2000 && broken.CompareAndSwap(false, true) {
					panic("broken once")
				}
				return true
			})
		keyed := in.KeyBy(func(i int64) int64 { return i * i % 23 })
		count := sdk.Count[int64]()
		line := func(name string) func(w sdk.Window, key, n int64) string {
			return func(w sdk.Window, key, n int64) string {
				return fmt.Sprint(name, " ", key, " ", w.Start.Sub(minute(0)), " ", w.End.Sub(minute(0)), " ", n)
			}
		}
		sliding := keyed.Window(sdk.Sliding(5*time.Second, 500*time.Millisecond))
		cumulating := keyed.Window(sdk.Cumulating(6*time.Second, 2*time.Second))
		all := in.WindowAll(sdk.Tumbling(3 * time.Second))
		if unfolded {
			sliding, cumulating = sliding.Unfolded(), cumulating.Unfolded()
		}
		sliding.Aggregate("sliding", count, line("sliding")).
			Union(
				cumulating.Aggregate("cumulating", count, line("cumulating")),
				sliding.Top("top", 2, count, func(n int64) int64 { return n }, line("top")),
				all.Aggregate("all", sdk.Sum(func(i int64) int64 { return i }), func(w sdk.Window, sum int64) string { return line("all")(w, 0, sum) }),
			).
			To(out)
		return nil
	})
	if !broken.Load() {
		t.Fatal("the job did not fail: the test shows nothing")
	}
	got := out.Values()
	slices.Sort(got)
	return got
}

// TestWindowsAreTheSameHoweverTheyRun compares folded and unfolded windows, at
// several parallelisms, on both backends and through a failure.
func TestWindowsAreTheSameHoweverTheyRun(t *testing.T) {
	want := windowed(t, 1, true, false, false)
	if len(want) < 1000 {
		t.Fatalf("%d results are too few to compare", len(want))
	}
	for _, c := range []struct {
		parallelism            int
		unfolded, tiered, fail bool
	}{{1, false, false, false}, {2, false, false, true}, {3, false, true, false}, {2, true, false, true}} {
		got := windowed(t, c.parallelism, c.unfolded, c.tiered, c.fail)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%+v (-unfolded +this):\n%s", c, diff)
		}
	}
}
