//go:build linux

package clustertest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// example is a job of examples/, with arguments that fit the test, and what
// its output has to be.
type example struct {
	binary string
	args   func(output string) []string
	check  func(t *testing.T, at *endpoint, output string)
}

var examples = []example{
	{
		binary: "flights",
		args: func(string) []string {
			return []string{"--out-of-orderness", bound, "--late", "late-delays"}
		},
		check: func(t *testing.T, at *endpoint, _ string) { checkOutput(t, at, "delays") },
	},
	{
		binary: "archive",
		args:   func(output string) []string { return []string{"--output", output, "--gzip=false", "--every", "200ms"} },
		check:  func(t *testing.T, _ *endpoint, output string) { checkArchive(t, output) },
	},
}

// run is one run of an example from the first flight to the last.
type run struct {
	example
	t      *testing.T
	up     *process
	rest   rest
	at     *endpoint
	input  *feeder
	output string
	id     string
	fed    float64
}

func startExample(t *testing.T, e example) *run {
	t.Helper()
	r := &run{example: e, t: t, output: filepath.Join(t.TempDir(), "archive")}
	r.up, r.rest, r.at = startUp(t, filepath.Join(t.TempDir(), "data"))
	mustRun(t, "stream", "create", "flights", "--shards", "4", "--kinesis", r.up.ready["kinesis"])
	r.input = newFeeder(r.at, "flights")
	return r
}

// submit starts the job, with settings of this run, and waits until it runs.
func (r *run) submit(settings ...string) {
	r.t.Helper()
	cmd := []string{"run", "--rest", r.rest.address(), "-p", "2"}
	for _, s := range append(settings, "restart-strategy.type=fixed-delay", "restart-strategy.fixed-delay.delay=10ms", "restart-strategy.fixed-delay.attempts=0") {
		if strings.HasPrefix(s, "--") {
			cmd = append(cmd, s)
		} else {
			cmd = append(cmd, "-D", s)
		}
	}
	cmd = append(append(cmd, binary(r.binary)), r.args(r.output)...)
	r.id = submitted(r.t, mustRun(r.t, cmd...))
	r.rest.awaitRunning(r.t, r.id, 1)
}

// feed puts the flights up to a share of all into the stream while f goes on.
func (r *run) feed(to float64, f func()) {
	r.t.Helper()
	all, from := flights(), r.fed
	fed := make(chan error, 1)
	go func() {
		n := float64(len(all))
		fed <- r.input.put(r.t.Context(), all[int(from*n):int(to*n)])
	}()
	f()
	if err := <-fed; err != nil {
		r.t.Fatal(err)
	}
	r.fed = to
}

// crashes kills the worker at each checkpoint: as soon as one of its attempt is
// complete, beside the commit of that.
func (r *run) crashes() {
	const rounds = 10
	r.submit("execution.checkpointing.interval=200ms")
	for i := range rounds {
		done := r.rest.completed(r.t, r.id)
		r.feed(float64(i+1)/rounds, func() {
			epoch := r.rest.awaitRunning(r.t, r.id, 1).Epoch
			eventually(r.t, "another checkpoint", func() (bool, string) {
				n := r.rest.completed(r.t, r.id)
				return n > done, fmt.Sprint(n)
			})
			workers := r.up.workers()
			if len(workers) != 1 {
				r.t.Fatalf("workers %v, want one", workers)
			}
			if err := syscall.Kill(workers[0], syscall.SIGKILL); err != nil {
				r.t.Fatal(err)
			}
			r.rest.awaitRunning(r.t, r.id, epoch+1)
		})
	}
}

// rescales gives the job other parallelisms while flights come in.
func (r *run) rescales() {
	r.submit()
	to := []int{3, 1, 4}
	for i, n := range to {
		r.feed(float64(i+1)/float64(len(to)), func() { rescale(r.t, r.rest, r.id, n) })
	}
	undisturbed(r.t, r.rest, r.id, len(to))
}

// moves goes on in the other backend, twice, from savepoints taken in the middle
// of the input.
func (r *run) moves() {
	const setting = "state.backend.type="
	r.submit(setting + "memory")
	for i, backend := range []string{"tiered", "memory"} {
		var savepoint string
		r.feed(float64(i+1)/3, func() {
			savepoint = lastLine(mustRun(r.t, "stop", "--rest", r.rest.address(), r.id))
			r.rest.awaitState(r.t, r.id, "FINISHED")
		})
		r.submit(setting+backend, "--from="+savepoint)
		if out := mustRun(r.t, "describe", r.id, "--rest", r.rest.address()); !strings.Contains(out, "setting "+setting+backend+"\n") {
			r.t.Errorf("describe does not say that the backend is %s:\n%s", backend, out)
		}
	}
	r.feed(1, func() {})
}

// TestSameness runs each example uninterrupted, crashed at every checkpoint,
// finished at another parallelism, and restored in the other state backend: the
// output is always the same.
func TestSameness(t *testing.T) {
	ways := []struct {
		name string
		do   func(*run)
	}{
		{"uninterrupted", func(r *run) { r.submit(); r.feed(1, func() {}) }},
		{"crashed at every checkpoint", (*run).crashes},
		{"finished at another parallelism", (*run).rescales},
		{"restored in the other backend", (*run).moves},
	}
	for _, e := range examples {
		for _, way := range ways {
			t.Run(e.binary+" "+way.name, func(t *testing.T) {
				t.Parallel()
				r := startExample(t, e)
				way.do(r)
				drain(t, r.rest, r.id)
				e.check(t, r.at, r.output)
			})
		}
	}
}

// checkArchive compares the files of the archive, a folder a day, with the
// flights, and shows that nothing is left that was staged.
func checkArchive(t *testing.T, output string) {
	t.Helper()
	var want, got []string
	for _, l := range flights() {
		want = append(want, "day="+l[:len("2001-01-01")]+" "+l+"\n")
	}
	parts, err := filepath.Glob(filepath.Join(output, "day=*", "part-*.csv"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range parts {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		lines := slices.Collect(strings.Lines(string(b)))
		for _, l := range lines[1:] { // the first is the heading
			got = append(got, filepath.Base(filepath.Dir(path))+" "+l)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	same(t, "archive", strings.Join(want, ""), strings.Join(got, ""))
	left, err := filepath.Glob(filepath.Join(output, ".staged", "*", "*", "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left of what was staged: %v, %v", left, err)
	}
}
