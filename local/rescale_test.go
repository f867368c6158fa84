package local_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/job"
	"github.com/millrace/millrace/local"
	"github.com/millrace/millrace/sdk"
)

// counted is how often a key came.
type counted struct{ Key, N int64 }

// steps checks that each key counts up by one: nothing is lost, nothing comes
// twice, and no order is broken.
type steps struct {
	mu    sync.Mutex
	last  map[int64]int64
	wrong string
}

func (s *steps) add(t counted) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.N != s.last[t.Key]+1 && s.wrong == "" {
		s.wrong = fmt.Sprintf("key %d: %d after %d", t.Key, t.N, s.last[t.Key])
	}
	s.last[t.Key] = t.N
	return nil
}

// A job counts on while its parallelism goes up and down. Without a failure even
// a sink that is not transactional sees everything once.
func TestRescaledJobCountsOn(t *testing.T) {
	out := steps{last: map[int64]int64{}}
	drain, asks := make(chan struct{}), make(chan local.Rescale, 1)
	plan := []int{4, 1, 3, 2}
	var answers []string
	ask := func() {}
	ask = func() {
		if len(answers) == len(plan) {
			asks <- local.Rescale{Vertices: map[string]int{"nobody": 2}, Done: func(_ job.Result, err error) {
				answers = append(answers, "refused "+job.ErrorOf(err.(*job.Error).Proto()).Code)
				close(drain)
			}}
			return
		}
		n := plan[len(answers)]
		asks <- local.Rescale{Parallelism: n, Done: func(r job.Result, err error) {
			most := uint32(0)
			for _, p := range r.Parallelism {
				most = max(most, p)
			}
			answers = append(answers, fmt.Sprintf("%d: %d %v", n, most, err))
			ask()
		}}
	}
	var failed []job.Observation
	running := false
	err := local.Run(within(t), local.Config{
		Drain: drain, Rescale: asks,
		Graph: graphOf(func(env *sdk.Env) error {
			sdk.From(env, sdk.Generate(-1, number, sdk.GenerateSplits(4))).
				Map(func(v int64) counted { return counted{v % 97, 1} }).Named("ones").
				KeyBy(func(t counted) int64 { return t.Key }).
				Reduce("count", func(a, b counted) counted { return counted{a.Key, a.N + b.N} }).
				To(sdk.Func(out.add)).Named("out")
			return nil
		}),
		Watch: func(o job.Observation) {
			switch o.(type) {
			case job.AttemptRunning:
				if !running {
					running = true
					ask()
				}
			case job.AttemptFailed:
				failed = append(failed, o)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"4: 4 <nil>", "1: 1 <nil>", "3: 3 <nil>", "2: 2 <nil>", "refused vertex-not-found"}
	if diff := cmp.Diff(want, answers); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
	if len(failed) > 0 {
		t.Errorf("failures: %v", failed)
	}
	if len(out.last) != 97 || out.wrong != "" {
		t.Errorf("%d keys of 97 were counted; wrong: %s", len(out.last), out.wrong)
	}
}
