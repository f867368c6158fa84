//go:build linux

package clustertest

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// rescale gives a job another parallelism and says how long that took.
func rescale(t *testing.T, r rest, id string, parallelism int) {
	t.Helper()
	began := time.Now()
	mustRun(t, "rescale", "--rest", r.address(), "-p", strconv.Itoa(parallelism), id)
	took := time.Since(began).Round(time.Millisecond)
	if got := r.parallelism(t, id); got != parallelism {
		t.Fatalf("rescaled to %d, the job has parallelism %d", parallelism, got)
	}
	var d struct {
		Rescales []struct {
			Pause      int `json:"pause"`
			Checkpoint int `json:"checkpoint"`
		} `json:"rescales"`
	}
	if err := r.get(t.Context(), "/jobs/"+id+"/recovery", &d); err != nil || len(d.Rescales) == 0 {
		t.Fatalf("rescales: %v, %v", d, err)
	}
	last := d.Rescales[len(d.Rescales)-1]
	t.Logf("rescaled to %d: %v in all, paused %d ms, of which %d ms for the checkpoint", parallelism, took, last.Pause, last.Checkpoint)
}

// parallelism is the highest that a vertex of the job has.
func (r rest) parallelism(t *testing.T, id string) (n int) {
	t.Helper()
	var all map[string]struct {
		Parallelism struct {
			Upper int `json:"upperBound"`
		} `json:"parallelism"`
	}
	if err := r.get(t.Context(), "/jobs/"+id+"/resource-requirements", &all); err != nil {
		t.Fatal(err)
	}
	for _, v := range all {
		n = max(n, v.Parallelism.Upper)
	}
	return n
}

// undisturbed fails the test if the job has restarted or failed.
func undisturbed(t *testing.T, r rest, id string, rescales int) {
	t.Helper()
	d, err := r.job(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	failed, err := r.exceptions(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if d.Restarts != 0 || len(failed) != 0 || d.Epoch != uint64(rescales)+1 {
		t.Errorf("after %d rescales: %v, exceptions %v", rescales, d, failed)
	}
}

// TestRescaledOnOneHost goes up and down while flights come in; the worker's
// process stays.
func TestRescaledOnOneHost(t *testing.T) {
	t.Parallel()
	c := startParts(t, 2)
	mustRun(t, "stream", "create", "flights", "--shards", "4", "--kinesis", c.tm.ready["kinesis"])
	id := submit(t, c.rest, 1, "delays")
	delays := watch(t, &c.kinesis, "delays")
	input := newFeeder(&c.kinesis, "flights")
	before := c.tm.workers()
	for i, n := range []int{2, 1, 2} {
		feed(t, input, float64(i)*0.25, float64(i+1)*0.25)
		rescale(t, c.rest, id, n)
		if after := c.tm.workers(); !slices.Equal(before, after) {
			t.Fatalf("rescaled to %d: processes %v took the place of %v", n, after, before)
		}
	}
	feed(t, input, 0.75, 1)
	undisturbed(t, c.rest, id, 3)
	drain(t, c.rest, id)
	if err := delays.end(); err != nil {
		t.Errorf("a reader of delays saw: %v", err)
	}
	checkOutput(t, &c.kinesis, "delays")
}

// TestRescaledAcrossHosts takes slots of a second task manager and gives them
// back.
func TestRescaledAcrossHosts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	jm := start(t, "jobmanager", "jobmanager", "--data", filepath.Join(dir, "jm"), "--rest", "127.0.0.1:0", "--bind", "127.0.0.1:0", "--log-level", "info")
	r := rest(jm.ready["rest"])
	first := startHost(t, "taskmanager 1", filepath.Join(dir, "tm1"), jm.ready["join"], 2)
	for _, stream := range []string{"flights", "delays", "late-delays"} {
		mustRun(t, "stream", "create", stream, "--kinesis", first.ready["kinesis"])
	}
	id := submit(t, r, 1, "delays")
	second := startHost(t, "taskmanager 2", filepath.Join(dir, "tm2"), jm.ready["join"], 2)
	input := newFeeder(&first.kinesis, "flights")
	before := first.workers()

	code, _, said := command(t, "rescale", "--rest", r.address(), "-p", "2000", id)
	if code != exitFailed {
		t.Errorf("rescaled to more than there are key groups: exit %d, %s", code, said)
	}
	feed(t, input, 0, 0.3)
	rescale(t, r, id, 3)
	if after := first.workers(); !slices.Equal(before, after) || len(second.workers()) != 1 {
		t.Fatalf("processes %v took the place of %v; on the second host: %v", after, before, second.workers())
	}
	feed(t, input, 0.3, 0.6)
	joined := second.workers()
	rescale(t, r, id, 1)
	feed(t, input, 0.6, 0.8)
	eventually(t, "one process is left", func() (bool, string) {
		all := append(first.workers(), second.workers()...)
		return len(all) == 1 && slices.Contains(append(joined, before...), all[0]), fmt.Sprint(all)
	})
	rescale(t, r, id, 4)
	feed(t, input, 0.8, 1)
	undisturbed(t, r, id, 3)
	drain(t, r, id)
	checkOutput(t, &first.kinesis, "delays")
}

// exitFailed is what millrace ends with when a request was refused.
const exitFailed = 1

// TestKilledWhileRescaledTheOutputIsTheSame ends the worker or the job manager
// at a random moment of a rescale.
func TestKilledWhileRescaledTheOutputIsTheSame(t *testing.T) {
	t.Parallel()
	rng := random(t)
	c := startParts(t, 3)
	mustRun(t, "stream", "create", "flights", "--shards", "4", "--kinesis", c.tm.ready["kinesis"])
	id := submit(t, c.rest, 1, "delays")
	delays := watch(t, &c.kinesis, "delays")
	input := newFeeder(&c.kinesis, "flights")
	order := []victim{worker, jobManager, worker, jobManager, worker, jobManager, worker, worker}
	for round, v := range order {
		fed := make(chan error, 1)
		go func() {
			n := len(flights())
			fed <- input.put(t.Context(), flights()[round*n/len(order):(round+1)*n/len(order)])
		}()
		was := c.rest.parallelism(t, id)
		want := 1 + (was+rng.IntN(2))%3
		asked, _ := launch(t, "rescale", "rescale", "--rest", c.rest.address(), "-p", strconv.Itoa(want), "--timeout", "20s", id)
		c.killAmidst(v, rng)
		<-asked.ended
		code := asked.cmd.ProcessState.ExitCode()
		if err := <-fed; err != nil {
			t.Fatalf("round %d, %v: %v", round, v, err)
		}
		d := c.rest.awaitRunning(t, id, 0)
		now := c.rest.parallelism(t, id)
		t.Logf("round %d: %v killed, %d to %d: now %d, exit %d, epoch %d", round, v, was, want, now, code, d.Epoch)
		if now != was && now != want || code == 0 && now != want {
			t.Fatalf("round %d, %v: parallelism %d after %d was to become %d, exit %d", round, v, now, was, want, code)
		}
	}
	drain(t, c.rest, id)
	if err := delays.end(); err != nil {
		t.Errorf("a reader of delays saw: %v", err)
	}
	checkOutput(t, &c.kinesis, "delays")
}

// killAmidst ends a victim within the time that a rescale takes, often beside
// a record of the journal.
func (p *parts) killAmidst(v victim, rng *rand.Rand) {
	p.t.Helper()
	most := 250 * time.Millisecond
	if rng.IntN(2) == 0 {
		p.awaitObject("journal")
		most = 60 * time.Millisecond
	}
	select {
	case <-time.After(time.Duration(rng.Int64N(int64(most)))):
	case <-p.t.Context().Done():
	}
	if v == jobManager {
		p.jm.kill()
		p.startJobManager()
		return
	}
	pid := p.aWorker()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
		p.t.Fatal(err)
	}
}
