//go:build linux

package clustertest

import (
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// numbers runs `up` with a stream of numbers, one of which is none if bad.
func numbers(t *testing.T, records ...string) (*process, rest, *endpoint) {
	t.Helper()
	up, r, at := startUp(t, filepath.Join(t.TempDir(), "data"))
	mustRun(t, "stream", "create", "numbers", "--shards", "1", "--kinesis", up.ready["kinesis"])
	f := &feeder{at: at, stream: contentsOf(at, "numbers"), key: func(string) string { return "n" }}
	if err := f.put(t.Context(), records); err != nil {
		t.Fatal(err)
	}
	return up, r, at
}

// runMisfit submits the job with a fault and returns its id at once.
func runMisfit(t *testing.T, r rest, args ...string) string {
	t.Helper()
	return submitted(t, mustRun(t, append([]string{"run", "--rest", r.address(), "--detach", binary("misfit")}, args...)...))
}

// failed waits until a job has failed and returns its newest exception.
func failed(t *testing.T, r rest, id string) exception {
	t.Helper()
	r.awaitState(t, id, "FAILED")
	all, err := r.exceptions(t.Context(), id)
	if err != nil || len(all) == 0 {
		t.Fatalf("a failed job has exceptions %v (%v)", all, err)
	}
	return all[0]
}

func TestARecordThatDoesNotDecode(t *testing.T) {
	t.Parallel()
	_, r, at := numbers(t, "1", "2", "three", "4")
	in := readAll(t, at, "numbers")
	for shard, records := range in.shards {
		e := failed(t, r, runMisfit(t, r, "--output", "failed"))
		for _, text := range []string{"numbers", shard, records[2].sequence, "SkipUndecodable", "DeadLetters"} {
			if !strings.Contains(e.Detail, text) {
				t.Errorf("the failure does not name %q: %s", text, e.Detail)
			}
		}
		if e.Code != "record-not-decoded" || e.Operator != "numbers" {
			t.Errorf("exception %+v", e)
		}
		if n := readAll(t, at, "failed").len(); n != 0 {
			t.Errorf("%d records came of a job that failed before its first checkpoint", n)
		}
	}

	skips := runMisfit(t, r, "--fault", "skip", "--output", "skipped")
	r.awaitRunning(t, skips, 0)
	eventually(t, "the record is counted", func() (bool, string) {
		n, err := metric(t, r, skips, "numDecodeErrors")
		return n == 1, fmt.Sprint(n, err)
	})
	drain(t, r, skips)
	same(t, "skipped", "2\n4\n8\n", readAll(t, at, "skipped").sorted())

	lettered := runMisfit(t, r, "--fault", "dead-letters", "--output", "kept")
	r.awaitRunning(t, lettered, 0)
	drain(t, r, lettered)
	same(t, "kept", "2\n4\n8\n", readAll(t, at, "kept").sorted())
	letters := readAll(t, at, "letters").sorted()
	for _, text := range []string{`"key":"n"`, `"data":"dGhyZWU="`, `"where":`} {
		if strings.Count(letters, "\n") != 1 || !strings.Contains(letters, text) {
			t.Errorf("dead letters %q: want one, with %s", letters, text)
		}
	}
}

// metric sums a metric over all operators and subtasks of a job.
func metric(t *testing.T, r rest, id, name string) (float64, error) {
	var job struct {
		Vertices []struct{ ID string }
	}
	if err := r.get(t.Context(), "/jobs/"+id, &job); err != nil {
		return 0, err
	}
	sum := 0.0
	for _, v := range job.Vertices {
		var known []struct{ ID string }
		path := "/jobs/" + id + "/vertices/" + v.ID + "/metrics"
		if err := r.get(t.Context(), path, &known); err != nil {
			return 0, err
		}
		for _, m := range known {
			if !strings.HasSuffix(m.ID, "."+name) {
				continue
			}
			var values []struct{ Value string }
			if err := r.get(t.Context(), path+"?get="+url.QueryEscape(m.ID), &values); err != nil || len(values) != 1 {
				return 0, fmt.Errorf("metric %s: %v, %w", m.ID, values, err)
			}
			n, err := strconv.ParseFloat(values[0].Value, 64)
			if err != nil {
				return 0, err
			}
			sum += n
		}
	}
	return sum, nil
}

func TestAFunctionThatFails(t *testing.T) {
	t.Parallel()
	up, r, at := numbers(t, "11", "12", "13", "14")
	for _, c := range []struct {
		fault, code string
		trace       []string
	}{
		{"function-error", "user-function-failed", []string{"double 13: no airport is open"}},
		{"function-panic", "user-function-panicked", []string{"nil pointer", "main.overflow", "misfit/main.go:"}},
	} {
		id := runMisfit(t, r, "--fault", c.fault, "--output", c.fault)
		e := failed(t, r, id)
		if e.Operator != "double" || e.Subtask != 0 || !strings.Contains(e.Task, "double") {
			t.Errorf("%s: operator %q, subtask %d, task %q", c.fault, e.Operator, e.Subtask, e.Task)
		}
		for _, text := range c.trace {
			if !strings.Contains(e.Trace, text) {
				t.Errorf("%s: the trace does not have %q:\n%s", c.fault, text, e.Trace)
			}
		}
		all, err := r.exceptions(t.Context(), id)
		if err != nil || len(all) != 3 || all[1].Code != c.code {
			t.Errorf("%s: %d exceptions (%v), want 3 of code %s, for two restarts were allowed: %+v", c.fault, len(all), err, c.code, all)
		}
		if n := readAll(t, at, c.fault).len(); n != 0 {
			t.Errorf("%s: %d records of attempts that failed are committed", c.fault, n)
		}
		out := mustRun(t, "describe", id, "--rest", r.address())
		if !strings.Contains(out, "FAILED") || !strings.Contains(out, "double") {
			t.Errorf("describe says\n%s", out)
		}
	}
	// The other job does not suffer from it.
	good := runMisfit(t, r, "--output", "good")
	r.awaitRunning(t, good, 0)
	drain(t, r, good)
	same(t, "good", "22\n24\n26\n28\n", readAll(t, at, "good").sorted())
	eventually(t, "no worker is left", func() (bool, string) { return len(up.workers()) == 0, fmt.Sprint(up.workers()) })
}

func TestAStreamThatIsMissing(t *testing.T) {
	t.Parallel()
	up, r, _ := numbers(t, "1")
	mustFail(t, 1, []string{"FAILED", `"nosuch"`, "millrace stream create nosuch"},
		"run", "--rest", r.address(), binary("misfit"), "--input", "nosuch")

	id := runMisfit(t, r)
	r.awaitRunning(t, id, 0)
	mustRun(t, "stream", "delete", "numbers", "--kinesis", up.ready["kinesis"])
	e := failed(t, r, id)
	if e.Code != "stream-not-found" && e.Code != "stream-deleted" || !strings.Contains(e.Detail, "numbers") || e.Remedy == "" {
		t.Errorf("after its stream was deleted the job failed with %+v", e)
	}
}

func TestMoreParallelismThanSlots(t *testing.T) {
	t.Parallel()
	up, r, _ := startUp(t, filepath.Join(t.TempDir(), "data"), "--slots", "2")
	mustRun(t, "stream", "create", "flights", "--kinesis", up.ready["kinesis"])
	began := time.Now()
	out := mustFail(t, 3, []string{"2s", "3 slots", "2"}, "run", "-p", "3", "--timeout", "2s", "--rest", r.address(), binary("flights"))
	if took := time.Since(began); took < 2*time.Second {
		t.Errorf("run --timeout 2s gave up after %v", took)
	}
	id := submitted(t, out)
	d, err := r.job(t.Context(), id)
	if err != nil || d.State != "CREATED" || !strings.Contains(d.Waiting, "3 slots") {
		t.Errorf("the job %v (%v), want one that says it waits for 3 slots", d, err)
	}
	mustRun(t, "cancel", "--rest", r.address(), id)
	r.awaitState(t, id, "CANCELED")
	fits := submit(t, r, 2, "delays") // the slots are free as before
	mustRun(t, "cancel", "--rest", r.address(), fits)
}
