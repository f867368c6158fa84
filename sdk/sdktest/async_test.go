package sdktest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/sdk"
	"github.com/millrace/millrace/sdk/sdktest"
)

func second(n int64) time.Time { return time.Unix(n, 0) }

// slow doubles a number after a while that depends on it, less than 100 ms.
func slow(ctx context.Context, n int64) (int64, error) {
	select {
	case <-time.After(time.Duration(n*n%97) * time.Millisecond):
		return 2 * n, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// TestAsyncMapGivesWhatMapGives: in order or not, through failures, once each, and
// nothing is late behind it.
func TestAsyncMapGivesWhatMapGives(t *testing.T) {
	const n = 2000
	for _, ordered := range []bool{true, false} {
		var broken atomic.Int32
		all, counts := sdktest.Collect[int64](), sdktest.Collect[int64]()
		sdktest.Run(t, func(env *sdk.Env) error {
			opts := []sdk.AsyncOption{sdk.AsyncCapacity(20)}
			if !ordered {
				opts = append(opts, sdk.AsyncUnordered())
			}
			env.Restart(sdk.RestartAfter(time.Second, 0))
			doubled := sdk.From(env, sdk.Generate(n, func(i int64) int64 { return i }, sdk.GenerateSplits(1))).
				WithTimestamps(sdk.Monotonous(second)).
				AsyncMap("double", slow, opts...)
			doubled.Map(func(v int64) int64 {
				if v == n && broken.Add(1) <= 2 {
					panic("not yet")
				}
				return v
			}).To(all).Named("all").Parallel(1)
			doubled.KeyBy(func(int64) bool { return true }).Window(sdk.Tumbling(100*time.Second)).
				Aggregate("counts", sdk.Count[int64](), func(_ sdk.Window, _ bool, n int64) int64 { return n }).To(counts).Named("counts out")
			return nil
		})
		got := all.Values()
		if !ordered {
			slices.Sort(got)
		}
		for i, v := range got {
			if v != 2*int64(i) {
				t.Fatalf("ordered %v: result %d is %d", ordered, i, v)
			}
		}
		if len(got) != n || broken.Load() < 3 {
			t.Errorf("ordered %v: %d results after %d failures", ordered, len(got), broken.Load()-1)
		}
		if got := counts.Values(); len(got) != n/100 || slices.Min(got) != 100 {
			t.Errorf("ordered %v: windows behind it have %v", ordered, got)
		}
	}
}

// Checkpoints do not wait while it is full: after a failure only the calls under way
// are made again.
func TestAsyncMapIsFullAndCheckpointsGoOn(t *testing.T) {
	const n = 20
	var calls, running, most, broken atomic.Int32
	out := sdktest.Collect[int64]()
	_ = sdktest.RunError(t, func(env *sdk.Env) error {
		env.Restart(sdk.RestartAtRate(1, 24*time.Hour, time.Second))
		sdk.From(env, sdk.Generate(-1, func(i int64) int64 { return i }, sdk.GenerateSplits(1))).Rebalance().
			AsyncMap("look-up", func(ctx context.Context, v int64) (int64, error) {
				calls.Add(1)
				if now := running.Add(1); now > most.Load() {
					most.Store(now)
				}
				defer running.Add(-1)
				select {
				case <-time.After(10 * time.Second):
					return v, nil
				case <-ctx.Done():
					return 0, ctx.Err()
				}
			}, sdk.AsyncCapacity(2)).Parallel(1).
			Map(func(v int64) int64 {
				if v == n && broken.Add(1) == 1 || v == 2*n {
					panic("half of them, and all")
				}
				return v
			}).To(out).Named("out").Parallel(1)
		return nil
	})
	got := out.Values()
	for i, v := range got {
		if v != int64(i) {
			t.Fatalf("results %v", got)
		}
	}
	// Each failure costs the calls under way and those since the last checkpoint.
	if c := calls.Load(); len(got) < 2*n-4 || c < 2*n || c > 2*n+12 || broken.Load() == 0 {
		t.Errorf("%d calls for %d results and a few failures", c, len(got))
	}
	if m := most.Load(); m != 2 {
		t.Errorf("%d calls at a time, want 2", m)
	}
}

func TestAsyncMapRetriesAndGivesUp(t *testing.T) {
	var calls [100]atomic.Int32
	failed := sdk.NewTag[string]("failed")
	out, bad := sdktest.Collect[int64](), sdktest.Collect[string]()
	f := func(ctx context.Context, v int64) (int64, error) {
		attempt := calls[v].Add(1)
		switch {
		case v%10 == 0 && attempt == 1:
			time.Sleep(2 * time.Second) // heeds nothing
		case v%10 == 1 && attempt < 3:
			panic("no luck")
		case v%10 == 2:
			return 0, errors.New("never")
		case v%10 == 3 && attempt < 3:
			<-ctx.Done()
			return 0, ctx.Err()
		}
		return v, nil
	}
	sdktest.Run(t, func(env *sdk.Env) error {
		s := sdk.From(env, sdk.Generate(100, func(i int64) int64 { return i })).
			AsyncMap("flaky", f, sdk.AsyncTimeout(time.Second), sdk.AsyncRetry(3, 100*time.Millisecond, time.Second),
				sdk.AsyncFailed(failed, func(v int64, err error) string { return fmt.Sprint(v, " ", err) }))
		s.To(out).Named("out").Parallel(1)
		s.Side(failed).To(bad).Named("bad").Parallel(1)
		return nil
	})
	got, lost := out.Values(), bad.Values()
	slices.Sort(got)
	slices.Sort(lost)
	if len(got) != 90 || len(lost) != 10 || !slices.Contains(lost, "2 never") {
		t.Errorf("%d results, and failed are %q", len(got), lost)
	}
	for v := range calls {
		want := map[int]int32{0: 2, 1: 3, 2: 3, 3: 3}[v%10]
		if got := calls[v].Load(); got != max(want, 1) {
			t.Errorf("%d attempts for %d, want %d", got, v, max(want, 1))
		}
	}
	err := sdktest.RunError(t, func(env *sdk.Env) error {
		env.Restart(sdk.NoRestart())
		sdk.From(env, sdk.Slice(1)).AsyncMap("hopeless", func(context.Context, int) (int, error) { panic("oh dear") }, sdk.AsyncRetry(2, 0, 0)).
			To(sdktest.Collect[int]())
		return nil
	})
	for _, part := range []string{"attempt 2 of 2", "oh dear"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error lacks %q: %v", part, err)
		}
	}
}

func TestAsyncMapIsRefused(t *testing.T) {
	id := func(_ context.Context, v int) (int, error) { return v, nil }
	for part, build := range map[string]func(sdk.DataStream[int]) sdk.DataStream[int]{
		"its name":             func(s sdk.DataStream[int]) sdk.DataStream[int] { return s.AsyncMap("", id) },
		"its function is nil":  func(s sdk.DataStream[int]) sdk.DataStream[int] { return s.AsyncMap[int]("x", nil) },
		"AsyncCapacity(0)":     func(s sdk.DataStream[int]) sdk.DataStream[int] { return s.AsyncMap("x", id, sdk.AsyncCapacity(0)) },
		"AsyncTimeout(-1ns)":   func(s sdk.DataStream[int]) sdk.DataStream[int] { return s.AsyncMap("x", id, sdk.AsyncTimeout(-1)) },
		"at least one attempt": func(s sdk.DataStream[int]) sdk.DataStream[int] { return s.AsyncMap("x", id, sdk.AsyncRetry(0, 0, 0)) },
		"func(int, error)": func(s sdk.DataStream[int]) sdk.DataStream[int] {
			return s.AsyncMap("x", id, sdk.AsyncFailed(sdk.NewTag[string]("f"), func(string, error) string { return "" }))
		},
	} {
		_, err := sdk.Plan(func(env *sdk.Env) error {
			build(sdk.From(env, sdk.Slice(1))).To(sdk.Func(func(int) error { return nil }))
			return nil
		}, nil, true)
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%q: %v", part, err)
		}
	}
}
