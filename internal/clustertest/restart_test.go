//go:build linux

package clustertest

import (
	"fmt"
	"path/filepath"
	"testing"
)

// TestUpGoesOnWithItsJobs ends `millrace up` with SIGKILL and with SIGTERM and
// starts it again on the same folder, with other ports.
func TestUpGoesOnWithItsJobs(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	up, r, at := startUp(t, data)
	mustRun(t, "stream", "create", "flights", "--kinesis", up.ready["kinesis"])
	id := submit(t, r, 2, "delays")
	input := newFeeder(at, "flights")
	feed(t, input, 0, 0.3)

	workers := up.workers()
	up.kill()
	gone(t, workers)
	up, r, at = startUp(t, data)
	input.at, input.stream.at = at, at
	feed(t, input, 0.3, 0.6) // while the job recovers
	r.awaitRunning(t, id, 0)

	workers = up.workers()
	if code := up.terminate(); code != 0 {
		t.Errorf("up ended with exit code %d after SIGTERM, want 0\n%s", code, up.out)
	}
	gone(t, workers)
	_, r, at = startUp(t, data)
	input.at, input.stream.at = at, at
	d := r.awaitRunning(t, id, 0)
	if d.Name != "flights" {
		t.Errorf("the job is named %q now", d.Name)
	}
	feed(t, input, 0.6, 1)
	drain(t, r, id)
	checkOutput(t, at, "delays")
}

// TestASavepointGoesOnElsewhere starts from savepoints at other parallelisms:
// one of a job that was cancelled then, one of a job that was stopped in the
// middle of its input.
func TestASavepointGoesOnElsewhere(t *testing.T) {
	t.Parallel()
	up, r, at := startUp(t, filepath.Join(t.TempDir(), "data"))
	mustRun(t, "stream", "create", "flights", "--kinesis", up.ready["kinesis"])
	input := newFeeder(at, "flights")

	first := submit(t, r, 2, "delays")
	feed(t, input, 0, 0.3)
	// What is committed between savepoint and cancellation comes again from the
	// savepoint. So nothing may be on its way.
	awaitTaken(t, r, first, int(0.3*float64(len(flights()))))
	path := lastLine(mustRun(t, "savepoint", "create", "--rest", r.address(), first))
	mustRun(t, "cancel", "--rest", r.address(), first)
	r.awaitState(t, first, "CANCELED")

	second := submit(t, r, 4, "delays", "--from", path)
	fed := make(chan error, 1)
	n := len(flights())
	go func() { fed <- input.put(t.Context(), flights()[int(0.3*float64(n)):int(0.7*float64(n))]) }()
	path = lastLine(mustRun(t, "stop", "--rest", r.address(), second))
	if err := <-fed; err != nil {
		t.Fatal(err)
	}
	r.awaitState(t, second, "FINISHED")

	third := submit(t, r, 1, "delays", "--from", path)
	feed(t, input, 0.7, 1)
	drain(t, r, third)
	checkOutput(t, at, "delays")
}

// awaitTaken waits until the source of a job has read a number of records and
// all that came of them is committed.
func awaitTaken(t *testing.T, r rest, id string, records int) {
	t.Helper()
	eventually(t, fmt.Sprintf("job %s has taken %d records", id, records), func() (bool, string) {
		var d struct {
			Vertices []struct {
				Name    string
				Metrics struct {
					Read  int `json:"read-records"`
					Write int `json:"write-records"`
				}
			}
		}
		if err := r.get(t.Context(), "/jobs/"+id, &d); err != nil || len(d.Vertices) < 2 {
			return false, fmt.Sprint(err)
		}
		return d.Vertices[1].Metrics.Read == records, fmt.Sprintf("%+v", d.Vertices)
	})
}
