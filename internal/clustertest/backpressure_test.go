//go:build linux

package clustertest

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// TestASlowSinkDoesNotHoldUpCheckpoints puts a sink behind a job that could give it
// a thousand times what it takes: the job stands still for most of the time, and
// its checkpoints complete all the same, also after a rescale.
func TestASlowSinkDoesNotHoldUpCheckpoints(t *testing.T) {
	t.Parallel()
	_, r, _ := startUp(t, filepath.Join(t.TempDir(), "data"))
	id := submitted(t, mustRun(t, "run", "--rest", r.address(), "-p", "2", "-D", "execution.checkpointing.interval=200ms",
		binary("accounts"), "--keys", "20000", "--every", "1", "--sink-rate", "500"))
	r.awaitRunning(t, id, 0)
	for i, parallelism := range []int{2, 1} {
		if i > 0 {
			rescale(t, r, id, parallelism)
		}
		began := r.completed(t, id)
		eventually(t, "ten checkpoints", func() (bool, string) {
			n := r.completed(t, id)
			return n >= began+10, fmt.Sprint(n - began)
		})
		eventually(t, "the source waits for the sink", func() (bool, string) {
			ms, err := metric(t, r, id, "backPressuredTimeMsPerSecond")
			return ms > 500, fmt.Sprint(ms, err)
		})
		quick(t, r, id)
	}
	undisturbed(t, r, id, 1)
	mustRun(t, "cancel", "--rest", r.address(), id)
}

// quick fails the test if a recent checkpoint has failed, or took long.
func quick(t *testing.T, r rest, id string) {
	t.Helper()
	var all struct {
		History []struct {
			Status string `json:"status"`
			Took   int64  `json:"end_to_end_duration"`
		} `json:"history"`
	}
	if err := r.get(t.Context(), "/jobs/"+id+"/checkpoints", &all); err != nil {
		t.Fatal(err)
	}
	var took []int64
	for _, c := range all.History {
		switch c.Status {
		case "COMPLETED":
			took = append(took, c.Took)
		case "FAILED":
			t.Error("a checkpoint has failed")
		}
	}
	slices.Sort(took)
	t.Logf("%v ms", took)
	// The machine may stand still once, beside other tests.
	if most := 2 * time.Second.Milliseconds(); len(took) < 5 || took[len(took)-2] > most {
		t.Errorf("checkpoints took %v ms, want all but one within %d", took, most)
	}
}
