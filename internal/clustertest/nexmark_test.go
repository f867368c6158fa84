//go:build linux

package clustertest

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestNexmarkThroughKillsAndRescales runs queries of the benchmark on a cluster:
// their rows add up to what was published, though the worker is killed before and
// after the job gets another parallelism. The events come in eight seconds of the
// clock, so that there is time for that.
func TestNexmarkThroughKillsAndRescales(t *testing.T) {
	const events = 100000
	published := map[string]string{} // lines by query
	f, err := os.Open(filepath.Join(root, "examples/nexmark/testdata/vectors.txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	in := false
	for s := bufio.NewScanner(f); s.Scan(); {
		if strings.HasPrefix(s.Text(), "## ") {
			in = strings.HasPrefix(s.Text(), fmt.Sprintf("## results: seed 1, rate 10000, N = %d", events))
		} else if query, _, _ := strings.Cut(s.Text(), " "); in {
			published[query] = s.Text()
		}
	}
	for query, settings := range map[string][]string{
		"q5":  nil,    // windows
		"q9":  tiered, // keyed state with texts and timers
		"q19": nil,    // updates, which also take rows back
	} {
		t.Run(query, func(t *testing.T) {
			t.Parallel()
			up, r, _ := startUp(t, filepath.Join(t.TempDir(), "data"))
			output := filepath.Join(t.TempDir(), "sums")
			cmd := []string{"run", "--rest", r.address(), "-p", "2"}
			for _, s := range append([]string{"execution.checkpointing.interval=200ms"}, settings...) {
				cmd = append(cmd, "-D", s)
			}
			cmd = append(cmd, binary("nexmark"), "--query", query, "--hash", "--output", output,
				fmt.Sprintf("--events=%d", events), fmt.Sprintf("--throttle=%d", events/8))
			id := submitted(t, mustRun(t, cmd...))
			kill := func() {
				epoch := r.awaitRunning(t, id, 1).Epoch
				r.awaitCheckpoint(t, id, time.Now())
				for _, pid := range up.workers() {
					if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
						t.Fatal(err)
					}
				}
				r.awaitRunning(t, id, epoch+1)
			}
			kill()
			rescale(t, r, id, 3)
			kill()
			r.awaitState(t, id, "FINISHED")
			parts, err := filepath.Glob(filepath.Join(output, "part-*.txt"))
			if err != nil || len(parts) != 1 {
				t.Fatalf("files of sums: %v, %v", parts, err)
			}
			line, err := os.ReadFile(parts[0])
			if err != nil {
				t.Fatal(err)
			}
			same(t, "sums", published[query]+"\n", string(line))
		})
	}
}
