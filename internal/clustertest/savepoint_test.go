//go:build linux

package clustertest

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestADamagedSavepointIsRefused starts jobs from a savepoint whose objects are
// cut, bent or gone, and from one of another job. None may run; the savepoint
// as it was still works.
func TestADamagedSavepointIsRefused(t *testing.T) {
	t.Parallel()
	rng := random(t)
	data := filepath.Join(t.TempDir(), "data")
	up, r, at := startUp(t, data)
	for _, stream := range []string{"flights", "numbers"} {
		mustRun(t, "stream", "create", stream, "--kinesis", up.ready["kinesis"])
	}
	// No window ends before the drain: the state is large enough to be objects
	// of its own beside the manifest.
	feed(t, newFeeder(at, "flights"), 0, 1)
	id := submitted(t, mustRun(t, "run", "--rest", r.address(), binary("flights"), "--out-of-orderness", "4800h", "--late", "late-delays"))
	awaitTaken(t, r, id, len(flights()))
	path := lastLine(mustRun(t, "stop", "--rest", r.address(), id))
	r.awaitState(t, id, "FINISHED")

	run := []string{"run", "--rest", r.address(), "--from", path, binary("flights"), "--out-of-orderness", "4800h", "--late", "late-delays"}
	folder := filepath.Join(data, "bucket", path)
	objects, err := filepath.Glob(filepath.Join(folder, "*"))
	if err != nil || len(objects) < 2 {
		t.Fatalf("the savepoint %s has objects %v (%v), want a manifest and state", folder, objects, err)
	}
	damages := []struct {
		name string
		do   func(b []byte) []byte
	}{
		{"cut off", func(b []byte) []byte { return b[:rng.IntN(len(b))] }},
		{"without its last byte", func(b []byte) []byte { return b[:len(b)-1] }},
		{"empty", func(b []byte) []byte { return nil }},
		{"with a bit flipped", func(b []byte) []byte {
			b = bytes.Clone(b)
			b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
			return b
		}},
		{"gone", nil},
	}
	for _, object := range objects {
		whole, err := os.ReadFile(object)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range damages {
			t.Run(filepath.Base(object)+" "+d.name, func(t *testing.T) {
				if d.do == nil {
					err = os.Remove(object)
				} else {
					err = os.WriteFile(object, d.do(whole), 0o644)
				}
				if err != nil {
					t.Fatal(err)
				}
				mustFail(t, 1, []string{path}, run...)
				for id, state := range jobs(t, r) {
					if state != "FINISHED" && state != "FAILED" {
						t.Errorf("job %s is %s", id, state)
					}
				}
				if err := os.WriteFile(object, whole, 0o644); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
	t.Run("of another job", func(t *testing.T) {
		mustFail(t, 1, []string{path, "misfit"}, "run", "--rest", r.address(), "--from", path, binary("misfit"))
	})
	t.Run("that was never taken", func(t *testing.T) {
		mustFail(t, 1, []string{"savepoints/none", "savepoint list"}, "run", "--rest", r.address(), "--from", "savepoints/none", binary("flights"))
	})
	again := submitted(t, mustRun(t, run...))
	drain(t, r, again)
	checkOutput(t, at, "delays")
}

// TestSIGTERMAtAnyMoment asks `up` to end at moments of its start, of a job's
// start and of its run. It ends with 0 each time, leaves no process, and in
// the end the job's output is whole.
func TestSIGTERMAtAnyMoment(t *testing.T) {
	t.Parallel()
	rng := random(t)
	data := filepath.Join(t.TempDir(), "data")
	args := []string{"up", "--data", data, "--rest", "127.0.0.1:0", "--kinesis", "127.0.0.1:0"}
	for range 6 { // in the start, also of the folder
		p, ready := launch(t, "up", args...)
		moment(t, rng, ready)
		if code := p.terminate(); code != 0 && !(code == -1 && p.out.String() == "") {
			t.Errorf("up ended with %d when it was asked to in its start\n%s", code, p.out)
		}
	}
	up, r, at := startUp(t, data)
	mustRun(t, "stream", "create", "flights", "--kinesis", up.ready["kinesis"])
	input := newFeeder(at, "flights")
	id := submit(t, r, 2, "delays")
	const rounds = 5
	for i := range rounds {
		fed := make(chan error, 1)
		lines := slices.Collect(slices.Chunk(flights(), len(flights())/rounds))[i]
		go func() { fed <- input.put(t.Context(), lines) }()
		moment(t, rng, nil)
		workers := up.workers()
		if code := up.terminate(); code != 0 {
			t.Errorf("up ended with %d\n%s", code, up.out)
		}
		gone(t, workers)
		up, r, at = startUp(t, data, "--kinesis", strings.TrimPrefix(up.ready["kinesis"], "http://"))
		if err := <-fed; err != nil {
			t.Fatal(err)
		}
	}
	r.awaitRunning(t, id, 0)
	drain(t, r, id)
	checkOutput(t, at, "delays")
	if n := strconv.Itoa(len(jobs(t, r))); n != "1" {
		t.Errorf("%s jobs, want 1", n)
	}
}
