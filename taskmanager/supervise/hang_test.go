package supervise

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

func TestWorkerThatDoesNotAnswerIsKilled(t *testing.T) {
	for name, c := range map[string]struct {
		does     string
		stop     bool
		mentions string
	}{
		"stopped":       {"echo", true, "somebody stopped it (SIGSTOP)"},
		"never answers": {"ignores-pings", false, "has not answered for"},
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t, func(c *Config) { c.Watch, c.Hang = 20*time.Millisecond, 300*time.Millisecond })
			b.StartWorker(b.target, b.request("w", c.does))
			pid := int(b.awaitStarted().GetPid())
			began := time.Now()
			if c.stop {
				if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
					t.Fatal(err)
				}
			}
			x := b.awaitExited()
			t.Logf("found hung after %v", time.Since(began))
			if x.GetError().GetCode() != CodeWorkerHung || x.GetSignal() != "SIGKILL" || x.GetRequested() {
				t.Fatalf("exited: %v", x)
			}
			if !strings.Contains(x.GetError().GetMessage(), c.mentions) {
				t.Errorf("message %q does not mention %q", x.GetError().GetMessage(), c.mentions)
			}
		})
	}
}

// A worker that answers outlives the limit, whatever else it does.
func TestWorkerThatAnswersLives(t *testing.T) {
	b := start(t, func(c *Config) { c.Watch, c.Hang = 10*time.Millisecond, time.Second })
	b.StartWorker(b.target, b.request("w", "echo"))
	b.awaitStarted()
	w := b.worker("w")
	for w.pongs.Load() < 200 {
		b.Command("w", &pb.WorkerCommand{Epoch: 1})
		if from := b.next().GetFromWorker(); from == nil {
			t.Fatal("the worker ended, though it answers")
		}
	}
}

// A pause of the task manager is not the worker's: what was not watched does
// not count.
func TestPauseOfTheWatcher(t *testing.T) {
	b := start(t, func(c *Config) { c.Watch, c.Hang = time.Hour, 2*time.Hour }) // looks only when told
	b.StartWorker(b.target, b.request("w", "ignores-pings"))
	b.awaitStarted()
	w, now := b.worker("w"), time.Now()
	w.silence.Most = 2 * time.Second
	w.s.config.Hang = 10 * time.Second
	w.ask(now)
	for _, pause := range []time.Duration{time.Hour, time.Hour, time.Hour, time.Hour} {
		now = now.Add(pause)
		w.ask(now)
	}
	if b.worker("w") == nil || w.requestedOrEnding() {
		t.Fatal("the worker was killed for pauses of its task manager")
	}
	w.ask(now.Add(2 * time.Second)) // ten seconds, watched
	if x := b.awaitExited(); x.GetError().GetCode() != CodeWorkerHung {
		t.Errorf("exited: %v", x)
	}
}

func (w *worker) requestedOrEnding() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.requested || w.mu.ending
}

// The kernel's kill for want of memory is told from another SIGKILL.
func TestKilledByTheKernelForMemory(t *testing.T) {
	g := findGroups(readFile(t, "/proc/self/mountinfo"))
	dir := filepath.Join(g.v1.dir, fmt.Sprintf("millrace-test-%d", os.Getpid()))
	if g.v1.dir == "" {
		t.Skip("SKIPPED: no control groups of version 1 for memory here")
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skipf("SKIPPED: no control group can be made here: %v", err)
	}
	t.Cleanup(func() { _ = os.Remove(dir) })
	if err := os.WriteFile(filepath.Join(dir, "memory.limit_in_bytes"), []byte("64m"), 0); err != nil {
		t.Skipf("SKIPPED: the limit of a control group cannot be set here: %v", err)
	}
	b := start(t, func(c *Config) { c.Watch = 20 * time.Millisecond })
	b.StartWorker(b.target, b.request("w", "hog-in:"+dir))
	b.awaitStarted()
	b.Command("w", &pb.WorkerCommand{})
	x := b.awaitExited()
	if x.GetError().GetCode() != CodeMemoryExceeded || x.GetSignal() != "SIGKILL" || x.GetRequested() {
		t.Fatalf("exited: %v", x)
	}
	for _, text := range []string{"the kernel killed", dir, "limit 64 MiB", "MiB when last seen", "--slot-memory", "state.backend.type=tiered"} {
		if !strings.Contains(x.GetError().GetMessage(), text) {
			t.Errorf("message %q does not mention %q", x.GetError().GetMessage(), text)
		}
	}
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestFindGroups(t *testing.T) {
	const docker = `30 23 0:27 / /proc rw - proc proc rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
42 31 short
`
	g := findGroups(docker)
	want := groups{v1: mount{"/docker/abc", "/sys/fs/cgroup/memory"}, v2: mount{"/", "/sys/fs/cgroup/unified"}}
	if diff := cmp.Diff(want, g, cmp.AllowUnexported(groups{}, mount{})); diff != "" {
		t.Errorf("groups (-want +got):\n%s", diff)
	}
	for group, path := range map[string]string{"/docker/abc": "/sys/fs/cgroup/memory", "/docker/abc/x": "/sys/fs/cgroup/memory/x", "/other": ""} {
		if got := g.v1.path(group); got != path {
			t.Errorf("group %s is at %q, want %q", group, got, path)
		}
	}
	if got := g.v2.path("/a.slice"); got != "/sys/fs/cgroup/unified/a.slice" {
		t.Errorf("group of version 2 is at %q", got)
	}
	if got := (mount{}).path("/x"); got != "" {
		t.Errorf("group without a mount is at %q", got)
	}
}
