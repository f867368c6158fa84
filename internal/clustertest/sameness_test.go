//go:build linux

package clustertest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// example is a job, with arguments that fit the test, its input, and what its
// output has to be.
type example struct {
	binary string
	input  string          // a stream
	lines  func() []string // of the input
	args   func(output string) []string
	// large: its state is more than the tiered backend may keep in memory.
	large bool
	check func(t *testing.T, at *endpoint, output string)
}

// examples are the jobs of examples/, the state of which is small, and one whose
// pages leave memory and come back.
var examples = []example{
	{
		binary: "flights", input: "flights", lines: flights,
		args: func(string) []string {
			return []string{"--out-of-orderness", bound, "--late", "late-delays"}
		},
		check: func(t *testing.T, at *endpoint, _ string) { checkOutput(t, at, "delays") },
	},
	{
		binary: "archive", input: "flights", lines: flights,
		args:  func(output string) []string { return []string{"--output", output, "--gzip=false", "--every", "200ms"} },
		check: func(t *testing.T, _ *endpoint, output string) { checkArchive(t, output) },
	},
	{
		binary: "accounts1", input: "payments", large: true,
		lines: func() []string { lines, _ := manyPayments(); return lines },
		args:  func(string) []string { return nil },
		check: func(t *testing.T, at *endpoint, _ string) {
			_, balances := manyPayments()
			same(t, "balances", balances, readAll(t, at, "balances").sorted())
		},
	},
}

// manyPayments are of so many customers, with so long numbers, that the accounts
// take some 9 MB. Each customer pays in turn: who pays has long been forgotten.
var manyPayments = sync.OnceValues(func() (lines []string, balances string) { return payments(9000, 3000, 400) })

// tiered gives the backend the least memory that there is.
var tiered = []string{"state.backend.type=tiered", "state.memory=1mb"}

// run is one run of an example from the first line of its input to the last.
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
	mustRun(t, "stream", "create", e.input, "--shards", "4", "--kinesis", r.up.ready["kinesis"])
	r.input = newFeeder(r.at, e.input)
	return r
}

// submit starts the job, with settings of this run, and waits until it runs.
func (r *run) submit(settings ...string) {
	r.t.Helper()
	cmd := []string{"run", "--rest", r.rest.address(), "-p", "2"}
	for _, s := range append(slices.Clone(settings), "restart-strategy.type=fixed-delay", "restart-strategy.fixed-delay.delay=10ms", "restart-strategy.fixed-delay.attempts=0") {
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

// backend are the settings of one that the state is too large for, where it is
// large.
func (r *run) backend() []string {
	if !r.large {
		return nil
	}
	return tiered
}

// awaitBeyond waits until pages of a state that is large have left memory in this
// attempt.
func (r *run) awaitBeyond() {
	r.t.Helper()
	if !r.large {
		return
	}
	eventually(r.t, "pages of state leave memory", func() (bool, string) {
		n, err := metric(r.t, r.rest, r.id, "numStatePagesEvicted")
		return n > 0, fmt.Sprint(n, err)
	})
}

// feed puts the input up to a share of all into the stream while f goes on.
func (r *run) feed(to float64, f func()) {
	r.t.Helper()
	all, from := r.lines(), r.fed
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
	rounds := 10
	if r.large {
		rounds = 5 // each reads all of the state
	}
	r.submit(append(slices.Clone(r.backend()), "execution.checkpointing.interval=200ms")...)
	for i := range rounds {
		done := r.rest.completed(r.t, r.id)
		r.feed(float64(i+1)/float64(rounds), func() {
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
	r.awaitBeyond()
}

// rescales gives the job other parallelisms while input comes in.
func (r *run) rescales() {
	r.submit(r.backend()...)
	to := []int{3, 1, 4}
	for i, n := range to {
		r.feed(float64(i+1)/float64(len(to)), func() { rescale(r.t, r.rest, r.id, n) })
		if n == 1 { // one slot has the memory of one, not that of the three before
			r.awaitBeyond()
		}
	}
	undisturbed(r.t, r.rest, r.id, len(to))
}

// moves goes on in the other backend, twice, from savepoints taken in the middle
// of the input.
func (r *run) moves() {
	memory := []string{"state.backend.type=memory"}
	r.submit(memory...)
	for i, backend := range [][]string{tiered, memory} {
		var savepoint string
		r.feed(float64(i+1)/3, func() {
			if i > 0 {
				r.awaitBeyond()
			}
			savepoint = lastLine(mustRun(r.t, "stop", "--rest", r.rest.address(), r.id))
			r.rest.awaitState(r.t, r.id, "FINISHED")
		})
		r.submit(append(slices.Clone(backend), "--from="+savepoint)...)
		if out := mustRun(r.t, "describe", r.id, "--rest", r.rest.address()); !strings.Contains(out, "setting "+backend[0]+"\n") {
			r.t.Errorf("describe does not say that it runs with %s:\n%s", backend[0], out)
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
