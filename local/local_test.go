package local_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/checkpoint/inspect"
	"github.com/millrace/millrace/checkpoint/manifest"
	"github.com/millrace/millrace/job"
	"github.com/millrace/millrace/local"
	"github.com/millrace/millrace/runtime/graph"
	"github.com/millrace/millrace/sdk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// seen collects what a sink was given.
type seen struct {
	mu     sync.Mutex
	values []int64
}

func (s *seen) add(v int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values = append(s.values, v)
	return nil
}

func graphOf(build func(*sdk.Env) error) func() (*graph.Graph, error) {
	return func() (*graph.Graph, error) { return sdk.Plan(build, nil, true) }
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func number(i int64) int64 { return i }

func TestBoundedJobRunsToItsEnd(t *testing.T) {
	for _, parallelism := range []int{1, 4} {
		var out seen
		var states []string
		err := local.Run(within(t), local.Config{
			Parallelism: parallelism,
			Graph: graphOf(func(env *sdk.Env) error {
				sdk.From(env, sdk.Generate(1000, number)).
					KeyBy(func(v int64) int64 { return v % 7 }).
					Reduce("sum", func(a, b int64) int64 { return a + b }).
					To(sdk.Func(out.add)).Named("out")
				return nil
			}),
			Watch: func(o job.Observation) {
				if s, ok := o.(job.StateChanged); ok {
					states = append(states, s.To.String())
				}
			},
		})
		if err != nil {
			t.Fatalf("parallelism %d: %v", parallelism, err)
		}
		if len(out.values) != 1000 {
			t.Errorf("parallelism %d: %d results, want 1000", parallelism, len(out.values))
		}
		// The largest sums are the final ones, one for each key.
		slices.Sort(out.values)
		var total int64
		for k := range int64(7) {
			for v := k; v < 1000; v += 7 {
				total += v
			}
		}
		if total != 999*1000/2 {
			t.Fatal("the test cannot add")
		}
		if last := out.values[len(out.values)-1]; last < total/7-1000 || last > total/7+1000 {
			t.Errorf("parallelism %d: largest sum %d of %d", parallelism, last, total)
		}
		if want := []string{"INITIALIZING", "RUNNING", "FINISHED"}; !slices.Equal(states, want) {
			t.Errorf("states %v, want %v", states, want)
		}
	}
}

func TestFailureNamesTheOperator(t *testing.T) {
	boom := errors.New("boom")
	err := local.Run(within(t), local.Config{Graph: graphOf(func(env *sdk.Env) error {
		env.Restart(sdk.NoRestart())
		sdk.From(env, sdk.Generate(10, number)).To(sdk.Func(func(int64) error { return boom })).Named("bad")
		return nil
	})})
	var e *job.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v", err)
	}
	if e.Operator != "bad" {
		t.Errorf("error of operator %q: %v", e.Operator, e)
	}
}

func TestFailedAttemptIsRestarted(t *testing.T) {
	var failures atomic.Int32
	var out seen
	err := local.Run(within(t), local.Config{Graph: graphOf(func(env *sdk.Env) error {
		sdk.From(env, sdk.Generate(100, number)).Map(func(v int64) int64 {
			if v == 50 && failures.Add(1) == 1 {
				panic("once")
			}
			return v
		}).Named("fails").To(sdk.Func(out.add)).Named("out")
		return nil
	})})
	if err != nil {
		t.Fatal(err)
	}
	got := map[int64]bool{}
	for _, v := range out.values {
		got[v] = true
	}
	if len(got) != 100 || failures.Load() < 2 {
		t.Errorf("%d of 100 values after %d calls", len(got), failures.Load())
	}
}

// unbounded counts up until it is told to stop.
func unbounded(env *sdk.Env) sdk.DataStream[int64] {
	return sdk.From(env, sdk.Generate(-1, number, sdk.GenerateSplits(1)))
}

func TestContextCancelsTheJob(t *testing.T) {
	ctx, cancel := context.WithCancelCause(within(t))
	why := errors.New("had enough")
	err := local.Run(ctx, local.Config{Graph: graphOf(func(env *sdk.Env) error {
		unbounded(env).To(sdk.Func(func(v int64) error {
			if v == 10_000 {
				cancel(why)
			}
			return nil
		})).Named("out")
		return nil
	})})
	if !errors.Is(err, local.ErrCanceled) || !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
}

// A drain leaves a savepoint that verifies and that another run starts from.
func TestDrainThenStartFromItsSavepoint(t *testing.T) {
	b := blob.NewMemory()
	var runs []*seen
	run := func(restore string) error {
		out := &seen{}
		runs = append(runs, out)
		drain := make(chan struct{})
		var once sync.Once
		return local.Run(within(t), local.Config{
			Bucket: b, Drain: drain, Restore: restore, JobID: fmt.Sprintf("job%d", len(runs)),
			Graph: graphOf(func(env *sdk.Env) error {
				unbounded(env).To(sdk.Func(func(v int64) error {
					if len(out.values) > 5000 {
						once.Do(func() { close(drain) })
					}
					return out.add(v)
				})).Named("out")
				return nil
			}),
		})
	}
	if err := run(""); err != nil {
		t.Fatal(err)
	}
	key := ""
	if err := b.List(context.Background(), "", func(i blob.Info) error {
		key = i.Key
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	rep, err := inspect.Verify(context.Background(), b, key, nil)
	if err != nil || len(rep.Problems) > 0 {
		t.Fatalf("savepoint %s: %v %+v", key, err, rep)
	}
	m, err := manifest.Read(context.Background(), b, key)
	if err != nil || !m.GetSavepoint() || !m.GetDrained() {
		t.Errorf("manifest %v, %v", m, err)
	}
	if err := run(key); err != nil {
		t.Fatal(err)
	}
	first, second := runs[0].values, runs[1].values
	if len(second) == 0 || second[0] != int64(len(first)) {
		t.Errorf("the second run began at %v, the first ended after %d", second[:min(3, len(second))], len(first))
	}
	if err := local.Run(within(t), local.Config{Bucket: b, Restore: "savepoints/none/manifest", Graph: graphOf(func(env *sdk.Env) error {
		unbounded(env).To(sdk.Func(func(int64) error { return nil })).Named("out")
		return nil
	})}); err == nil {
		t.Error("a savepoint that is not there was restored")
	}
}
