package jointest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/checkpoint/inspect"
	"github.com/millrace/millrace/job"
	"github.com/millrace/millrace/local"
	"github.com/millrace/millrace/runtime/graph"
	"github.com/millrace/millrace/sdk"
	"github.com/millrace/millrace/sdk/sdktest"
)

// samely runs a job in several ways, uninterrupted, with failures, rescaled, and
// with state on the disk, and fails the test unless each commits the same rows
// (in whatever order), which it returns sorted. part makes the job of its
// source: the numbers below n, of which each comes with its own event time, a
// millisecond after the one before.
func samely(t *testing.T, n int64, part func(in sdk.DataStream[int64]) sdk.DataStream[string]) []string {
	t.Helper()
	return samelyBy(t, n, func(rows []string) []string { return rows }, part)
}

// samelyBy compares what reduce makes of the committed rows.
func samelyBy(t *testing.T, n int64, reduce func(rows []string) []string, part func(in sdk.DataStream[int64]) sdk.DataStream[string]) []string {
	t.Helper()
	return samelyAfter(t, n, 0, reduce, part)
}

// samelyAfter is samelyBy with a silence by the clock before the second half of the
// numbers: they begin so long after the job did, which goes on meanwhile.
func samelyAfter(t *testing.T, n int64, silence time.Duration, reduce func(rows []string) []string, part func(in sdk.DataStream[int64]) sdk.DataStream[string]) []string {
	t.Helper()
	var want []string
	for _, way := range []struct {
		name                 string
		parallelism, crashes int
		rescale              []int
		tiered               bool
	}{
		{name: "one subtask", parallelism: 1},
		{name: "three subtasks, two failures", parallelism: 3, crashes: 2},
		{name: "rescaled", parallelism: 2, rescale: []int{3, 1}},
		{name: "rescaled, failed, tiered", parallelism: 2, crashes: 2, rescale: []int{4}, tiered: true},
	} {
		got := reduce(runOnce(t, n, silence, way.parallelism, way.crashes, way.rescale, way.tiered, part))
		slices.Sort(got)
		if want == nil {
			want = got
			if len(want) == 0 {
				t.Fatal("the job has no results: nothing to compare")
			}
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			if len(diff) > 2000 {
				diff = diff[:2000]
			}
			t.Errorf("%s: %d rows, want %d (-want +got):\n%s", way.name, len(got), len(want), diff)
		}
	}
	return want
}

func runOnce(t *testing.T, n int64, silence time.Duration, parallelism, crashes int, rescale []int, tiered bool, part func(in sdk.DataStream[int64]) sdk.DataStream[string]) []string {
	t.Helper()
	out := sdktest.Collect[string]()
	var began time.Time
	var failures atomic.Int32
	plan := func() (*graph.Graph, error) {
		return sdk.Plan(func(env *sdk.Env) error {
			env.Name("same")
			env.Parallelism(parallelism)
			env.CheckpointEvery(10 * time.Millisecond)
			env.Restart(sdk.RestartAfter(time.Millisecond, 10))
			if tiered {
				env.TieredState(1 << 20)
			}
			in := sdk.From(env, paced{sdk.Generate(n, func(i int64) int64 { return i }), n / 8, began.Add(silence)}).Named("numbers").
				WithTimestamps(sdk.BoundedOutOfOrderness(40*time.Millisecond, func(v int64) time.Time { return time.UnixMilli(v) })).
				TryMap(func(v int64) (int64, error) {
					if f := failures.Load(); int(f) < crashes && v > n*int64(f+1)/int64(crashes+1) && failures.CompareAndSwap(f, f+1) {
						return 0, errors.New("broken on purpose")
					}
					return v, nil
				})
			part(in).To(out).Named("out")
			return nil
		}, nil, true)
	}
	var err error
	bucket := blob.NewMemory()
	synctest.Test(t, func(t *testing.T) {
		began = time.Now()
		asks := make(chan local.Rescale, 1)
		var ask func()
		ask = func() {
			if len(rescale) == 0 {
				return
			}
			p := rescale[0]
			rescale = rescale[1:]
			time.AfterFunc(60*time.Millisecond, func() {
				asks <- local.Rescale{Parallelism: p, Done: func(_ job.Result, err error) {
					if err != nil {
						t.Logf("rescale to %d: %v", p, err)
					}
					verify(t, bucket)
					ask()
				}}
			})
		}
		running := false
		err = local.Run(context.Background(), local.Config{Graph: plan, Bucket: bucket, Parallelism: parallelism, Rescale: asks, Watch: func(o job.Observation) {
			if _, ok := o.(job.AttemptRunning); ok && !running {
				running = true
				ask()
			}
		}})
	})
	if err != nil {
		t.Fatalf("the job failed: %v", err)
	}
	if int(failures.Load()) != crashes {
		t.Fatalf("%d failures, want %d", failures.Load(), crashes)
	}
	return out.Values()
}

// verify reads the last checkpoint in a bucket as people do who have not the types
// of the job: every key is in the group that its hash says.
func verify(t *testing.T, b blob.Bucket) {
	last, key := [2]int{}, ""
	err := b.List(context.Background(), "", func(i blob.Info) error {
		var at [2]int
		_, name, ok := strings.Cut(i.Key, "/checkpoints/")
		if !ok {
			return nil
		}
		if _, err := fmt.Sscanf(name, "%d-%d", &at[0], &at[1]); err != nil {
			return err
		}
		if slices.Compare(at[:], last[:]) > 0 {
			last, key = at, i.Key
		}
		return nil
	})
	if err != nil || key == "" {
		t.Fatalf("no checkpoint: %v", err)
	}
	rep, err := inspect.Verify(context.Background(), b, key, nil)
	if err != nil {
		t.Fatalf("checkpoint %s: %v", key, err)
	}
	for _, p := range rep.Problems[:min(len(rep.Problems), 3)] {
		t.Errorf("checkpoint %s: %s", key, p.Detail)
	}
}

// paced gives some records a millisecond of virtual time, so that checkpoints
// and rescales come between them. Those of a split after the first half do not come
// before the time of the second.
type paced struct {
	sdk.Source[int64]
	half   int64
	second time.Time
}

func (p paced) Open(ctx context.Context, env sdk.SourceEnv, split sdk.Split, position []byte) (sdk.Reader[int64], error) {
	r, err := p.Source.Open(ctx, env, split, position)
	return &pacedReader{Reader: r, half: p.half, second: p.second, wake: env.Wake}, err
}

type pacedReader struct {
	sdk.Reader[int64]
	half         int64
	wake         func()
	next, second time.Time
}

func (r *pacedReader) Poll(b *sdk.Batch[int64], most int) (sdk.ReadStatus, error) {
	now := time.Now()
	if now.Before(r.next) {
		return sdk.ReadWaiting, nil
	}
	most = min(most, 3)
	wait := time.Millisecond
	if left := r.half - int64(binary.BigEndian.Uint64(r.Position())); left > 0 {
		most = min(most, int(left))
	} else if now.Before(r.second) {
		wait, most = r.second.Sub(now), 0
	}
	r.next = now.Add(wait)
	time.AfterFunc(wait, r.wake)
	if most == 0 {
		return sdk.ReadWaiting, nil
	}
	status, err := r.Reader.Poll(b, most)
	if status == sdk.ReadMore {
		status = sdk.ReadWaiting
	}
	return status, err
}

// Both sides of a connected stream work on one state, wherever it lives and
// through whatever happens.
func TestConnectedStreamsAreTheSameThroughFailures(t *testing.T) {
	rows := samely(t, 3000, func(in sdk.DataStream[int64]) sdk.DataStream[string] {
		key := func(v int64) int64 { return v % 50 }
		left := in.Filter(func(v int64) bool { return v%3 != 0 }).KeyBy(key)
		right := in.Filter(func(v int64) bool { return v%3 == 0 }).KeyBy(key)
		return left.Connect(right).Process("both", func(op *sdk.KeyedOp[int64]) sdk.CoFn[int64, int64, int64, string] {
			sum, n := op.Value[int64]("sum"), op.Value[int64]("n")
			type context = *sdk.KeyedContext[int64, string]
			return sdk.CoFn[int64, int64, int64, string]{
				Left: func(c context, v int64) error {
					sum.Set(sum.Get() + v)
					c.SetTimer(time.UnixMilli(1 << 20)) // the end
					return nil
				},
				Right: func(c context, v int64) error {
					n.Set(n.Get() + 1)
					return nil
				},
				OnTimer: func(c context) error {
					c.Emit(fmt.Sprint(c.Key(), " ", sum.Get(), " ", n.Get()))
					return nil
				},
			}
		})
	})
	if len(rows) != 50 {
		t.Errorf("%d rows, want one for each of 50 keys", len(rows))
	}
	if want := "0 60000 20"; !slices.Contains(rows, want) {
		t.Errorf("no row %q in %q", want, rows)
	}
}
