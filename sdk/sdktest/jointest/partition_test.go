package jointest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/sdk"
	"github.com/millrace/millrace/sdk/sdktest"
)

// The job's own function says which subtask gets a record.
func TestPartitionBy(t *testing.T) {
	var mu sync.Mutex
	got := map[int][]int64{}
	build := func(partition func(v int64, n int) int) func(env *sdk.Env) error {
		return func(env *sdk.Env) error {
			env.Parallelism(3)
			env.Restart(sdk.NoRestart())
			sdk.From(env, sdk.Generate(30, func(i int64) int64 { return i })).Named("numbers").
				PartitionBy(partition).
				Process(func(op *sdk.Op) sdk.Fn[int64, int64] {
					return func(c *sdk.Context[int64], v int64) error {
						mu.Lock()
						defer mu.Unlock()
						got[op.Subtask()] = append(got[op.Subtask()], v)
						c.Emit(v)
						return nil
					}
				}).Named("places").
				To(sdk.Func(func(int64) error { return nil }))
			return nil
		}
	}
	sdktest.Run(t, build(func(v int64, n int) int { return int(v) * n / 30 }))
	for i := range 3 {
		slices.Sort(got[i])
	}
	want := map[int][]int64{0: {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, 1: {10, 11, 12, 13, 14, 15, 16, 17, 18, 19}, 2: {20, 21, 22, 23, 24, 25, 26, 27, 28, 29}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, wrong := range []int{-1, 3} {
		err := sdktest.RunError(t, build(func(v int64, n int) int { return wrong }))
		for _, part := range []string{"numbers", "places", fmt.Sprint("subtask ", wrong, " of 3"), "0 to 2"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("index %d: %v does not say %q", wrong, err, part)
			}
		}
	}
}
