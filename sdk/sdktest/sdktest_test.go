package sdktest_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/sdk"
	"github.com/millrace/millrace/sdk/sdktest"
)

type visit struct {
	User string
	N    int
}

func user(v visit) string { return v.User }

func minute(n int) time.Time { return time.Date(2001, 1, 1, 0, n, 0, 0, time.UTC) }

// idle counts visits and reports a user an hour of event time after the last
// one, and each user every ten minutes of processing time.
func idle(in sdk.DataStream[visit]) sdk.DataStream[string] {
	return in.KeyBy(user).Process("idle", func(op *sdk.KeyedOp[string]) sdk.KeyedFn[string, visit, string] {
		count, last, all := op.Value[int]("count"), op.Value[int64]("last"), op.List[int]("all")
		return sdk.KeyedFn[string, visit, string]{
			Each: func(c *sdk.KeyedContext[string, string], v visit) error {
				if old, ok := last.Lookup(); ok {
					c.DeleteTimer(time.UnixMilli(old).Add(time.Hour))
				}
				count.Set(count.Get() + 1)
				all.Append(v.N)
				last.Set(c.Time().UnixMilli())
				c.SetTimer(c.Time().Add(time.Hour))
				c.SetProcessingTimer(c.Now().Add(10 * time.Minute))
				return nil
			},
			OnTimer: func(c *sdk.KeyedContext[string, string]) error {
				c.Emit(fmt.Sprint(c.Key(), " idle after ", count.Get(), slices.Collect(all.All())))
				count.Clear()
				all.Clear()
				return nil
			},
			OnProcessingTimer: func(c *sdk.KeyedContext[string, string]) error {
				c.Emit(fmt.Sprint(c.Key(), " seen until ", c.Now().Format("15:04")))
				return nil
			},
		}
	})
}

func want[T any](t *testing.T, got []T, want ...T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
}

func TestStateAndTimersByHand(t *testing.T) {
	h := sdktest.Operator(t, idle)
	h.Push(minute(0), visit{"ann", 1}, visit{"bob", 2})
	h.Push(minute(30), visit{"ann", 3})
	h.Watermark(minute(59))
	want(t, h.Output())
	h.Watermark(minute(60))
	want(t, h.Output(), "bob idle after 1 [2]")
	h.Advance(9 * time.Minute)
	want(t, h.Output())
	h.Advance(5 * time.Minute)
	got := h.Output()
	slices.Sort(got)
	want(t, got, "ann seen until 00:10", "bob seen until 00:10")
	h.End()
	if got := h.TimedOutput(); len(got) != 1 || got[0].Value != "ann idle after 2 [1 3]" || !got[0].At.Equal(minute(90)) {
		t.Errorf("timed output %v", got)
	}
}

// TestASnapshotIsRestoredAsIfNothingHappened breaks the operators at every step
// and compares with a run that was not broken.
func TestASnapshotIsRestoredAsIfNothingHappened(t *testing.T) {
	steps := []func(h *sdktest.Harness[visit, string]){
		func(h *sdktest.Harness[visit, string]) { h.Push(minute(0), visit{"ann", 1}, visit{"bob", 2}) },
		func(h *sdktest.Harness[visit, string]) { h.Watermark(minute(20)) },
		func(h *sdktest.Harness[visit, string]) { h.Push(minute(30), visit{"ann", 3}) },
		func(h *sdktest.Harness[visit, string]) { h.Advance(10 * time.Minute) },
		func(h *sdktest.Harness[visit, string]) { h.Watermark(minute(70)) },
		func(h *sdktest.Harness[visit, string]) { h.Push(minute(75), visit{"bob", 4}) },
		func(h *sdktest.Harness[visit, string]) { h.End() },
	}
	play := func(breakAt int) []string {
		h := sdktest.Operator(t, idle)
		for i, step := range steps {
			if i == breakAt {
				saved := h.Snapshot()
				before := h.Output()
				step(h) // what the failure undoes
				h.Output()
				h.Restore(saved)
				want(t, h.Output())
				step(h)
				after := h.Output()
				for _, rest := range steps[i+1:] {
					rest(h)
				}
				return append(append(before, after...), h.Output()...)
			}
			step(h)
		}
		return h.Output()
	}
	whole := play(-1)
	slices.Sort(whole)
	if len(whole) < 4 {
		t.Fatalf("the run gave %v, too little to compare", whole)
	}
	for i := range steps {
		if i == 3 {
			continue // the clock does not go back: timers that were due meanwhile fire at once
		}
		got := play(i)
		slices.Sort(got)
		if diff := cmp.Diff(whole, got); diff != "" {
			t.Errorf("broken at step %d (-want +got):\n%s", i, diff)
		}
	}
}

func TestWindowsWithLateRecordsByHand(t *testing.T) {
	late := sdk.NewTag[visit]("late")
	h := sdktest.Operator(t, func(in sdk.DataStream[visit]) sdk.DataStream[string] {
		return in.Filter(func(v visit) bool { return v.N > 0 }).KeyBy(user).
			Window(sdk.Tumbling(time.Hour)).AllowedLateness(time.Hour).Late(late).
			Aggregate("sums", sdk.Sum(func(v visit) int { return v.N }), func(w sdk.Window, user string, sum int) string {
				return fmt.Sprint(user, w.Start.Hour(), "h ", sum)
			})
	})
	side := h.Side(late)
	h.Push(minute(10), visit{"ann", 1}, visit{"ann", 2}, visit{"ann", -5})
	h.Watermark(minute(60))
	want(t, h.Output(), "ann0h 3")
	h.Push(minute(20), visit{"ann", 4})
	want(t, h.Output(), "ann0h 7")
	h.Restore(h.Snapshot())
	h.Watermark(minute(121))
	h.Push(minute(20), visit{"ann", 8})
	h.End()
	want(t, h.Output())
	want(t, side.Take(), visit{"ann", 8})
}

func TestARunCommitsEachRecordOnceThroughFailures(t *testing.T) {
	var broken atomic.Int32
	out := sdktest.Collect[int64]()
	began := time.Now()
	sdktest.Run(t, func(env *sdk.Env) error {
		env.Parallelism(2)
		env.Restart(sdk.RestartAfter(time.Hour, 5)) // of virtual time
		env.CheckpointEvery(10 * time.Millisecond)
		sdk.From(env, sdk.Generate(20000, func(i int64) int64 { return i })).
			TryMap(func(n int64) (int64, error) {
				if n == 15000 && broken.Add(1) <= 2 {
					return 0, errors.New("broken on purpose")
				}
				return n, nil
			}).
			KeyBy(func(n int64) int64 { return n % 10 }).
			Process("pass", func(op *sdk.KeyedOp[int64]) sdk.KeyedFn[int64, int64, int64] {
				op.Value[int64]("unused")
				return sdk.KeyedFn[int64, int64, int64]{Each: func(c *sdk.KeyedContext[int64, int64], n int64) error {
					c.Emit(n)
					return nil
				}}
			}).
			To(out)
		return nil
	})
	got := out.Values()
	slices.Sort(got)
	for i, n := range got {
		if int64(i) != n {
			t.Fatalf("record %d is %d: something is missing or came twice", i, n)
		}
	}
	if len(got) != 20000 || broken.Load() != 3 {
		t.Errorf("%d records after %d failures, want 20000 after 2", len(got), broken.Load()-1)
	}
	if took := time.Since(began); took > 10*time.Minute {
		t.Errorf("two hours of virtual time took %v", took)
	}
}

func TestARunThatFailsNamesTheOperator(t *testing.T) {
	err := sdktest.RunError(t, func(env *sdk.Env) error {
		env.Restart(sdk.NoRestart())
		sdk.From(env, sdk.Slice(1)).Map(func(int) int { panic("no luck") }).Named("luck").To(sdk.Func(func(int) error { return nil }))
		return nil
	})
	if !strings.Contains(err.Error(), "no luck") {
		t.Errorf("error %v", err)
	}
	err = sdktest.RunError(t, func(env *sdk.Env) error {
		n := env.Int("n", 1, "")
		return fmt.Errorf("n is %d", n)
	}, "--n=7")
	if err.Error() != "n is 7" {
		t.Errorf("error %v", err)
	}
}

// TestWhatDoesNotDecodeIsLeftOutOrKept: and event time goes on past it.
func TestWhatDoesNotDecodeIsLeftOutOrKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "numbers")
	if err := os.WriteFile(path, []byte("1\n2\nthree\n3600\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	dead := sdk.NewTag[sdk.Record]("dead")
	for name, policy := range map[string]sdk.FromOption{"skip": sdk.SkipUndecodable(), "dead letters": sdk.DeadLetters(dead)} {
		out, letters := sdktest.Collect[int64](), sdktest.Collect[sdk.Record]()
		sdktest.Run(t, func(env *sdk.Env) error {
			in := sdk.From(env, sdk.Files(path, sdk.JSON[int64]()), policy).Named("numbers").
				WithTimestamps(sdk.Monotonous(func(n int64) time.Time { return time.Unix(n, 0) }))
			in.KeyBy(func(int64) bool { return true }).Window(sdk.Tumbling(time.Hour)).
				Aggregate("sums", sdk.Sum(func(n int64) int64 { return n }), func(_ sdk.Window, _ bool, sum int64) int64 { return sum }).
				To(out).Named("sums out")
			if name == "dead letters" {
				in.Side(dead).To(letters).Named("letters")
			}
			return nil
		})
		want(t, out.Values(), 3, 3600)
		got := letters.Values()
		if name == "skip" && len(got) == 0 {
			continue
		}
		if len(got) != 1 || string(got[0].Data) != "three" || !strings.Contains(got[0].Where, path+", line at byte 4") {
			t.Errorf("%s: letters %+v", name, got)
		}
	}
	err := sdktest.RunError(t, func(env *sdk.Env) error {
		env.Restart(sdk.NoRestart())
		sdk.From(env, sdk.Files(path, sdk.JSON[int64]())).To(sdktest.Collect[int64]())
		return nil
	})
	if !strings.Contains(err.Error(), "byte 4") || !strings.Contains(err.Error(), "SkipUndecodable") {
		t.Errorf("without a policy: %v", err)
	}
}
