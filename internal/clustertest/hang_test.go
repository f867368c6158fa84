//go:build linux

package clustertest

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What stops without ending is found, has a name, and costs no record.
func TestWhatHangsIsRestarted(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		up, run []string
		// stop is what the test does to the worker, beside the job's own fault.
		stop  bool
		code  string
		trace []string
		most  time.Duration
	}{
		"a task in its function": {
			run:  []string{"-D", "task.hang-timeout=1s", "--fault", "hang"},
			code: "task-hung", trace: []string{"operator double, subtask 0", "main.waitForATower", "misfit/main.go:"}, most: 12 * time.Second,
		},
		"a worker that is stopped": {
			up: []string{"--worker-hang", "1s"}, stop: true,
			code: "worker-hung", trace: []string{"somebody stopped it (SIGSTOP)"}, most: 6 * time.Second,
		},
		"a worker over its memory": {
			up: []string{"--slot-memory", "128MiB"}, run: []string{"--fault", "hog"},
			code: "memory-exceeded", trace: []string{"more than the 128 MiB of its 1 slots", "state.backend.type=tiered"}, most: 10 * time.Second,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			up, r, at := startUp(t, filepath.Join(t.TempDir(), "data"), c.up...)
			mustRun(t, "stream", "create", "numbers", "--shards", "1", "--kinesis", up.ready["kinesis"])
			f := &feeder{at: at, stream: contentsOf(at, "numbers"), key: func(string) string { return "n" }}
			args := []string{"run", "--rest", r.address()}
			for len(c.run) > 0 && c.run[0] == "-D" {
				args, c.run = append(args, c.run[:2]...), c.run[2:]
			}
			args = append(append(args, "--detach", binary("misfit")), c.run...)
			id := submitted(t, mustRun(t, append(args, "--output", "doubled", "--marker", filepath.Join(t.TempDir(), "once"))...))
			r.awaitRunning(t, id, 0)
			began := time.Now()
			if err := f.put(t.Context(), []string{"11", "12", "13", "14"}); err != nil {
				t.Fatal(err)
			}
			if c.stop {
				for _, pid := range up.workers() {
					if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
						t.Fatal(err)
					}
				}
			}
			var e exception
			eventually(t, "the failure is told", func() (bool, string) {
				all, err := r.exceptions(t.Context(), id)
				if len(all) > 0 {
					e = all[len(all)-1] // the first
				}
				return len(all) > 0, fmt.Sprint(all, err)
			})
			told := time.Since(began)
			if e.Code != c.code {
				t.Errorf("exception %+v, want code %s", e, c.code)
			}
			for _, text := range c.trace {
				if !strings.Contains(e.Detail+e.Trace, text) {
					t.Errorf("the failure does not tell %q: %s\n%s", text, e.Detail, e.Trace)
				}
			}
			r.awaitRunning(t, id, 2)
			t.Logf("%s told after %v, running again after %v", c.code, told, time.Since(began))
			if took := time.Since(began); took > c.most {
				t.Errorf("running again after %v, want at most %v", took, c.most)
			}
			drain(t, r, id)
			same(t, "doubled", "22\n24\n26\n28\n", readAll(t, at, "doubled").sorted())
		})
	}
}
