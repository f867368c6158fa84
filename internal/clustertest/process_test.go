//go:build linux

package clustertest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait: far longer than anything takes here, so that
// only what hangs runs into it.
const patience = 30 * time.Second

// process is one that the test started. It ends with the test at the latest.
type process struct {
	t     *testing.T
	name  string
	cmd   *exec.Cmd
	out   *tail
	ready map[string]string // what its line "ready key=value ..." said
	ended chan struct{}     // closed once it has ended and out is complete
	err   error             // of Wait, after ended
}

// launch starts millrace with arguments and does not wait for anything.
func launch(t *testing.T, name string, args ...string) (*process, <-chan string) {
	t.Helper()
	p := &process{t: t, name: name, out: &tail{}, ended: make(chan struct{})}
	p.cmd = exec.Command(binary("millrace"), args...)
	p.cmd.Dir = t.TempDir()
	p.cmd.Env = environment()
	p.cmd.Stderr = p.out
	// The kernel ends it should the test be ended.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	ready := make(chan string, 1)
	go func() {
		defer close(p.ended)
		p.read(stdout, ready)
		p.err = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s wrote last:\n%s", name, p.out)
		}
	})
	return p, ready
}

// environment is the test's own without what would change millrace's defaults.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "MILLRACE_") })
}

// read passes the first line that says ready to ready, and closes it at the end.
func (p *process) read(r io.Reader, ready chan<- string) {
	defer close(ready)
	said := false
	for lines := bufio.NewScanner(r); lines.Scan(); {
		fmt.Fprintln(p.out, lines.Text())
		if rest, ok := strings.CutPrefix(lines.Text(), "ready "); ok && !said {
			said = true
			ready <- rest
		}
	}
}

// start starts millrace and waits until it says that it is ready.
func start(t *testing.T, name string, args ...string) *process {
	t.Helper()
	p, ready := launch(t, name, args...)
	select {
	case line, ok := <-ready:
		if !ok {
			<-p.ended
			t.Fatalf("%s ended before it was ready: %v\n%s", name, p.err, p.out)
		}
		p.ready = map[string]string{}
		for _, field := range strings.Fields(line) {
			k, v, _ := strings.Cut(field, "=")
			p.ready[k] = v
		}
	case <-time.After(patience):
		t.Fatalf("%s is not ready after %v\n%s", name, patience, p.out)
	}
	return p
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// kill ends the process as kill -9 does and returns when it is gone.
func (p *process) kill() {
	p.cmd.Process.Signal(syscall.SIGKILL) // an error says that it is gone already
	<-p.ended
}

// terminate asks the process to end and returns its exit code.
func (p *process) terminate() int {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatalf("SIGTERM to %s: %v\n%s", p.name, err, p.out)
	}
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.t.Fatalf("%s has not ended %v after SIGTERM\n%s", p.name, patience, p.out)
	}
	return p.cmd.ProcessState.ExitCode()
}

// workers are the ids of the processes that p started itself.
func (p *process) workers() []int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	var pids []int
	for _, file := range stats {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // ended meanwhile
		}
		// pid (name) state parent ...; the name may hold anything.
		fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		if len(fields) < 2 || fields[0] == "Z" || fields[1] != strconv.Itoa(p.pid()) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// alive says whether a process runs: a zombie that waits to be reaped does not.
func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	return len(fields) > 0 && fields[0] != "Z" && fields[0] != "X"
}

// gone waits until processes have ended that others had to end.
func gone(t *testing.T, pids []int) {
	t.Helper()
	eventually(t, "processes end with those that started them", func() (bool, string) {
		left := slices.DeleteFunc(slices.Clone(pids), func(pid int) bool { return !alive(pid) })
		return len(left) == 0, fmt.Sprint(left)
	})
}

// lastLine is what a command printed last.
func lastLine(out string) string {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return lines[len(lines)-1]
}

// command runs millrace to its end and returns its exit code and what it wrote.
func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary("millrace"), args...)
	cmd.Env = environment()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("millrace %v: %v", args, err)
	}
	if ctx.Err() != nil {
		t.Fatalf("millrace %v has not ended after %v\n%s%s", args, 2*patience, out.String(), errs.String())
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// mustRun runs millrace, which has to succeed, and returns what it printed.
func mustRun(t *testing.T, args ...string) string {
	t.Helper()
	code, out, errs := command(t, args...)
	if code != 0 {
		t.Fatalf("millrace %s: exit %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	return out
}

// eventually asks again and again until done, or fails the test with the last
// answer. It is how a test waits for what only a request can tell.
func eventually(t *testing.T, what string, done func() (ok bool, last string)) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		ok, last := done()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not after %v; last: %s", what, patience, last)
		}
		select {
		case <-t.Context().Done():
			t.Fatalf("%s: the test ended", what)
		case <-time.After(pause):
		}
	}
}

// tail keeps the last bytes of what a process wrote.
type tail struct {
	mu struct {
		sync.Mutex
		b []byte
	}
}

func (w *tail) Write(b []byte) (int, error) {
	const keep = 16 << 10
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.b = append(w.mu.b, b...)
	if len(w.mu.b) > 2*keep {
		w.mu.b = slices.Clone(w.mu.b[len(w.mu.b)-keep:])
	}
	return len(b), nil
}

func (w *tail) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.mu.b)
}
