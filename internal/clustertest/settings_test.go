//go:build linux

package clustertest

import (
	"path/filepath"
	"strings"
	"testing"
)

// A real binary runs under settings that its code knows nothing of, and they
// outlive the job manager.
func TestSettingsOfARun(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	up, r, _ := startUp(t, data)
	mustRun(t, "stream", "create", "numbers", "--shards", "1", "--kinesis", up.ready["kinesis"])
	run := []string{"run", "--rest", r.address(), "--detach"}
	mustFail(t, 1, []string{"execution.checkpointing.intervall", "execution.checkpointing.interval, "}, append(run, "-D", "execution.checkpointing.intervall=5s", binary("misfit"))...)
	mustFail(t, 1, []string{"soon", "at least 10ms"}, append(run, "-D", "execution.checkpointing.interval=soon", binary("misfit"))...)
	mustFail(t, 2, []string{"write -D KEY=VALUE"}, append(run, "-D", "state.backend.type", binary("misfit"))...)
	mustFail(t, 2, []string{"given twice"}, append(run, "-D", "state.memory=1g", "-D", "state.memory=2g", binary("misfit"))...)

	id := submitted(t, mustRun(t, append(run, "-D", "execution.checkpointing.interval=200ms", "-D", "restart-strategy=none", binary("misfit"))...))
	r.awaitRunning(t, id, 1)
	for range 2 {
		out := mustRun(t, "describe", id, "--rest", r.address())
		for _, text := range []string{"setting execution.checkpointing.interval=200ms\n", "setting restart-strategy=none\n"} {
			if !strings.Contains(out, text) {
				t.Errorf("describe does not say %q:\n%s", text, out)
			}
		}
		up.kill()
		up, r, _ = startUp(t, data)
		r.awaitRunning(t, id, 1)
	}
}
