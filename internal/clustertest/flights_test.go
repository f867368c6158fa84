//go:build linux

package clustertest

import (
	"cmp"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// flights are the lines of the committed file, in the order of landing.
var flights = sync.OnceValue(func() []string {
	b, err := os.ReadFile(filepath.Join(root, "examples/flights/flights.csv"))
	if err != nil {
		panic(err)
	}
	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")[1:]
})

func origin(line string) string { return strings.Split(line, ",")[1] }

// bound leaves no flight late: the longest delay is under 12 hours, and the
// shards' ends never differ by more than one call of the feeder, some hours. The
// tests show that the stream of late flights is empty.
const bound = "72h"

// delaysOf is what the job has to give for lines, sorted: a plain loop that
// knows nothing of the job's code.
func delaysOf(lines []string) string {
	type group struct{ origin, day string }
	delays := map[group][]int{}
	for _, l := range lines {
		f := strings.Split(l, ",")
		d, err := strconv.Atoi(f[3])
		if err != nil {
			panic(err)
		}
		g := group{f[1], f[0][:10]} // event time is UTC, so the day is its text
		delays[g] = append(delays[g], d)
	}
	var out []string
	for g, d := range delays {
		slices.Sort(d)
		sum := int64(0)
		for _, v := range d {
			sum += int64(v)
		}
		mean := big.NewRat(sum, int64(len(d))).FloatString(1) // half away from zero
		if mean == "-0.0" {
			mean = "0.0"
		}
		rank := 0
		for rank*100 < 95*len(d) {
			rank++
		}
		out = append(out, fmt.Sprintf(`{"origin":"%s","day":"%s","flights":%d,"mean":%s,"p95":%d,"worst":%d}`+"\n",
			g.origin, g.day, len(d), mean, d[rank-1], d[len(d)-1]))
	}
	slices.Sort(out)
	return strings.Join(out, "")
}

// submit runs examples/flights on a cluster and returns the job's id once it
// runs. Its results go to output, what is late to late-<output>.
func submit(t *testing.T, r rest, parallelism int, output string, args ...string) string {
	t.Helper()
	cmd := append([]string{"run", "--rest", r.address(), "-p", strconv.Itoa(parallelism)}, args...)
	cmd = append(cmd, binary("flights"), "--out-of-orderness", bound, "--output", output, "--late", "late-"+output)
	return submitted(t, mustRun(t, cmd...))
}

// submitted is the id in what millrace run prints.
func submitted(t *testing.T, out string) string {
	t.Helper()
	f := strings.Fields(out)
	if len(f) < 3 || f[0] != "job" || f[2] != "submitted" {
		t.Fatalf("millrace run printed %q", out)
	}
	return f[1]
}

func (r rest) address() string { return strings.TrimPrefix(string(r), "http://") }

// drain stops a job with --drain and waits for its end.
func drain(t *testing.T, r rest, id string) {
	t.Helper()
	mustRun(t, "stop", "--rest", r.address(), "--drain", "--timeout", "30s", id)
	r.awaitState(t, id, "FINISHED")
}

// checkOutput compares the results in a stream with what the flights give, and
// shows that no flight was late.
func checkOutput(t *testing.T, at *endpoint, output string) {
	t.Helper()
	same(t, output, delaysOf(flights()), readAll(t, at, output).sorted())
	if late := readAll(t, at, "late-"+output); late.len() != 0 {
		t.Errorf("%d flights of %s were late, none may be: first %s", late.len(), output, cmp.Or(strings.Split(late.sorted(), "\n")...))
	}
}

// same compares texts of sorted lines and shows what one has and the other not.
func same(t *testing.T, what, want, got string) {
	t.Helper()
	if want == got {
		return
	}
	count := map[string]int{}
	for l := range strings.Lines(want) {
		count[l]--
	}
	for l := range strings.Lines(got) {
		count[l]++
	}
	shown := 0
	for l, n := range count {
		if n != 0 && shown < 20 {
			shown++
			t.Errorf("%s: %+d × %s", what, n, strings.TrimSuffix(l, "\n"))
		}
	}
	t.Errorf("%s: %d lines, want %d; lines that are too many (+) or missing (-) above", what, strings.Count(got, "\n"), strings.Count(want, "\n"))
}
