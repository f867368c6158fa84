package main

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	bench "github.com/millrace/millrace/bench/nexmark"
)

// command runs a command line and returns what it printed.
func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

// processes are those of this test binary that have a folder for temporary files.
func processes(t *testing.T, folder string) (all, workers []string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		env, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(env, []byte("TMPDIR="+folder+"\x00")) {
			continue // another's, or gone meanwhile
		}
		if stat, err := os.ReadFile(filepath.Dir(file) + "/stat"); err != nil || bytes.Contains(stat, []byte(") Z ")) {
			continue
		}
		all = append(all, file)
		if bytes.Contains(env, []byte("MILLRACE_MODE=worker\x00")) {
			workers = append(workers, file)
		}
	}
	return all, workers
}

// nothingLeft checks that no process runs and no file is left of what used a
// folder for temporary files.
func nothingLeft(t *testing.T, folder string) {
	t.Helper()
	if all, _ := processes(t, folder); len(all) > 0 {
		t.Errorf("processes run on: %v", all)
	}
	left, err := os.ReadDir(folder)
	if err != nil || len(left) > 0 {
		t.Errorf("left in the folder: %v, %v", left, err)
	}
}

// processesOnly skips what starts processes where they would not be watched.
func processesOnly(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts processes, in which the race detector sees nothing: left out with -short")
	}
}

func TestBenchMeasures(t *testing.T) {
	processesOnly(t)
	// Rows with texts go over the wire: as they are, from keyed state, and as updates.
	const queries = "q0,q9,q19"
	hash := regexp.MustCompile(`(?m)^q0 4600 [0-9a-f]{16} [0-9a-f]{16}\nq9 [1-9]\d* [0-9a-f]{16} [0-9a-f]{16}\nq19 [1-9]\d* [0-9a-f]{16} [0-9a-f]{16}$`)
	var hashes []string
	for name, more := range map[string][]string{
		"one worker": nil, "two workers, tiered state": {"--workers", "2", "--state", "tiered"}, "out of order": {"--out-of-order", "100"},
		"without a hash": {"--hash=false"},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			t.Setenv("TMPDIR", folder)
			code, out, errs := command(t, append([]string{"bench", "nexmark", "--query", queries, "--events", "5k", "--hash"}, more...)...)
			if code != 0 {
				t.Fatalf("exit %d: %s", code, errs)
			}
			for _, want := range []string{"QUERY", "\nq0 ", "\nq9 ", "\nq19 ", "*", "no result for speed"} {
				if !strings.Contains(out, want) {
					t.Errorf("does not say %q:\n%s", want, out)
				}
			}
			found := hash.FindString(out)
			if (found == "") != (name == "without a hash") {
				t.Errorf("hash %q in:\n%s", found, out)
			} else if found != "" {
				hashes = append(hashes, found)
			}
			nothingLeft(t, folder)
		})
	}
	if len(slices.Compact(hashes)) != 1 {
		t.Errorf("hashes differ: %q", hashes)
	}
}

// Who reads the JSON relies on its names.
func TestBenchJSON(t *testing.T) {
	processesOnly(t)
	code, out, errs := command(t, "bench", "nexmark", "--query", "q0", "--events", "100k", "--throttle", "100k", "--warm-up", "200ms", "--hash", "-o", "json")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, errs)
	}
	var results []bench.Result
	var raw []map[string]any
	for _, v := range []any{&results, &raw} {
		if err := json.Unmarshal([]byte(out), v); err != nil {
			t.Fatalf("%v in:\n%s", err, out)
		}
	}
	if len(results) != 1 {
		t.Fatalf("%d results in:\n%s", len(results), out)
	}
	names := func(v any) []string { return slices.Sorted(maps.Keys(v.(map[string]any))) }
	for of, c := range map[string]struct {
		got  any
		want []string
	}{
		"a result": {raw[0], []string{
			"checkpoint_interval_seconds", "checkpoints", "cores", "cpu_seconds", "events", "events_per_core_second", "events_per_second", "gc", "hash",
			"latency", "parallelism", "peak_memory_bytes", "query", "rate", "seconds", "seed", "speed_invalid_because", "speed_valid", "state", "throttle", "workers"}},
		"latency":     {raw[0]["latency"], []string{"count", "max_ms", "p50_ms", "p90_ms", "p99_99_ms", "p99_9_ms", "p99_ms"}},
		"checkpoints": {raw[0]["checkpoints"], []string{"bytes_max", "bytes_p50", "completed", "duration_max_ms", "duration_p50_ms", "failed"}},
		"gc":          {raw[0]["gc"], []string{"cpu_share", "longest_pause_ms"}},
	} {
		if diff := cmp.Diff(c.want, names(c.got)); diff != "" {
			t.Errorf("names of %s (-want +got):\n%s", of, diff)
		}
	}
	r := results[0]
	if r.Query != "q0" || r.Events != 100_000 || r.SpeedValid || r.CPUSeconds <= 0 || r.PeakMemory < 1<<20 || r.Checkpoints.Completed == 0 {
		t.Errorf("result: %+v", r)
	}
	// A second of input, of which 200 ms do not count, 46 of 50 being bids.
	if l := r.Latency; l.Count < 70_000 || l.Count > 74_000 || l.P50 <= 0 || l.P50 > l.P99 || l.P99 > l.P9999 || l.P9999 > l.Max {
		t.Errorf("latency: %+v", l)
	}
}

// Ctrl-C ends everything and leaves nothing.
func TestBenchInterrupted(t *testing.T) {
	processesOnly(t)
	folder := t.TempDir()
	cmd := exec.Command(os.Args[0], "bench", "nexmark", "--query", "q0", "--events", "10G", "--workers", "2", "--hash")
	cmd.Env = append(os.Environ(), "TMPDIR="+folder)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute)
	for {
		if _, workers := processes(t, folder); len(workers) == 2 {
			break
		}
		if time.Now().After(deadline) {
			t.Errorf("no two workers after a minute")
			break
		}
		time.Sleep(10 * time.Millisecond) // nobody tells of a process of a process
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != exitFailed || !strings.Contains(errs.String(), "nothing of it is left") {
		t.Errorf("%v: %s", err, errs.String())
	}
	nothingLeft(t, folder)
}

func TestBenchRefuses(t *testing.T) {
	for args, mentions := range map[string]string{
		"--query q99":                       "--query q99: there is no such query; there are q0",
		"--query=":                          "--query",
		"--events 0":                        "--events 0",
		"--events -5":                       "--events",
		"--events many":                     "no number",
		"--events 2000000G":                 "events: it must be from 0 to",
		"--rate 0":                          "--rate 0",
		"--rate 2G":                         "2000000000 events a second of event time",
		"--out-of-order=-1":                 "groups of -1 events",
		"--out-of-order 953":                "no multiple of 953",
		"--profile /proc/none":              "--profile: ",
		"--job=--rate=5":                    "gives the job its --rate",
		"--throttle=-1":                     "--throttle -1",
		"--throttle 100%":                   "no share",
		"--throttle fast":                   "no number",
		"--workers 0":                       "--workers 0",
		"--parallelism 1 --workers 2":       "raise the one or lower the other",
		"--parallelism 65":                  "--parallelism 65",
		"--state disk":                      "--state",
		"--slot-memory 1MiB":                "--slot-memory",
		"--checkpoint-interval=-1s":         "--checkpoint-interval -1s",
		"--slide 1us":                       "--slide 1µs",
		"--output xml":                      "--output",
		"--query q0 --job=--no-such-flag=1": "no-such-flag",
	} {
		t.Run(args, func(t *testing.T) {
			want := exitUsage
			if strings.Contains(args, "no-such-flag") {
				want = exitFailed // only the job knows
				processesOnly(t)
			}
			code, out, errs := command(t, append([]string{"bench", "nexmark"}, strings.Fields(args)...)...)
			if code != want || !strings.Contains(errs, mentions) || out != "" {
				t.Errorf("exit %d, want %d with %q: %s%s", code, want, mentions, out, errs)
			}
		})
	}
}
