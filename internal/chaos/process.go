//go:build linux

package chaos

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// process is one that the run started, and starts again when it ends.
type process struct {
	name string
	// args are made anew for each start: ports become known only then.
	args func() []string
	env  []string
	dir  string
	bin  string
	// patience bounds the wait for it to be ready.
	patience time.Duration
	out      *tail
	// onReady is told what the line "ready key=value ..." says.
	onReady func(map[string]string)
	seat    int          // of a job manager
	id      atomic.Value // string: what a task manager calls itself

	mu struct {
		sync.Mutex
		cmd    *exec.Cmd
		ready  chan struct{} // closed once this start is ready
		starts int
		exits  []string // ends that no signal of ours explains
		// retired says that it is not started again.
		retired bool
	}
}

// run keeps the process running until ctx ends; then it is killed.
func (p *process) run(ctx context.Context) error {
	for ctx.Err() == nil && !p.retired() {
		began := time.Now()
		if err := p.once(ctx); err != nil {
			return err
		}
		if time.Since(began) < 200*time.Millisecond {
			select {
			case <-time.After(200 * time.Millisecond): // it could not start: not in a tight loop
			case <-ctx.Done():
			}
		}
	}
	return nil
}

// once starts the process and waits for its end.
func (p *process) once(ctx context.Context) error {
	cmd := exec.Command(p.bin, p.args()...)
	cmd.Dir, cmd.Env, cmd.Stderr = p.dir, p.env, p.out
	// The kernel ends it should the run be ended.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	// Pdeathsig is of the thread that starts it, which must live as long.
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	ready := make(chan struct{})
	p.mu.Lock()
	p.mu.cmd, p.mu.ready = cmd, ready
	p.mu.starts++
	p.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	p.read(stdout, ready)
	err = cmd.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.cmd = nil
	if s, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ctx.Err() == nil && !p.mu.retired && (!ok || !s.Signaled()) {
		p.mu.exits = append(p.mu.exits, fmt.Sprintf("%s ended by itself: %v", p.name, err))
	}
	return nil
}

func (p *process) read(r io.Reader, ready chan struct{}) {
	said := false
	for lines := bufio.NewScanner(r); lines.Scan(); {
		fmt.Fprintln(p.out, lines.Text())
		rest, ok := strings.CutPrefix(lines.Text(), "ready ")
		if !ok || said {
			continue
		}
		said = true
		fields := map[string]string{}
		for _, f := range strings.Fields(rest) {
			k, v, _ := strings.Cut(f, "=")
			fields[k] = v
		}
		p.id.Store(fields["id"])
		p.onReady(fields)
		close(ready)
	}
}

// awaitReady waits until the process has said that it is ready.
func (p *process) awaitReady(ctx context.Context) error {
	deadline := time.After(p.patience)
	for {
		p.mu.Lock()
		ready, alive := p.mu.ready, p.mu.cmd != nil
		p.mu.Unlock()
		if alive && ready != nil {
			select {
			case <-ready:
				return nil
			case <-deadline:
				return fmt.Errorf("%s is not ready after %v; it wrote last:\n%s", p.name, p.patience, p.out)
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(50 * time.Millisecond): // it may have ended and begun anew
			}
			continue
		}
		select {
		case <-deadline:
			return fmt.Errorf("%s does not run after %v; it wrote last:\n%s", p.name, p.patience, p.out)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// pid is the process's id now, 0 while it does not run.
func (p *process) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.cmd == nil {
		return 0
	}
	return p.mu.cmd.Process.Pid
}

// signal sends a signal to the process as it runs now.
func (p *process) signal(s syscall.Signal) bool {
	pid := p.pid()
	return pid != 0 && syscall.Kill(pid, s) == nil
}

// kill ends the process as kill -9 does; it is started again.
func (p *process) kill() bool {
	p.mu.Lock()
	starts := p.mu.starts
	p.mu.Unlock()
	if !p.signal(syscall.SIGKILL) {
		return false
	}
	for range 1000 {
		p.mu.Lock()
		gone := p.mu.cmd == nil || p.mu.starts > starts
		p.mu.Unlock()
		if gone {
			break
		}
		time.Sleep(time.Millisecond) // until it is reaped
	}
	return true
}

// exits are the ends that no signal explains.
func (p *process) exits() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.mu.exits)
}

// retire has the process not be started again when it ends.
func (p *process) retire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.retired = true
}

func (p *process) retired() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.retired
}

// workers are the ids of the processes that p started itself.
func (p *process) workers() []int {
	parent := p.pid()
	if parent == 0 {
		return nil
	}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	var pids []int
	for _, file := range stats {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			continue
		}
		if of, ok := parentOf(pid); ok && of == parent {
			pids = append(pids, pid)
		}
	}
	return pids
}

// parentOf is the parent of a process that has not ended.
func parentOf(pid int) (parent int, ok bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, false
	}
	// pid (name) state parent ...; the name may hold anything.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 2 || fields[0] == "Z" || fields[0] == "X" {
		return 0, false
	}
	parent, err = strconv.Atoi(fields[1])
	return parent, err == nil
}

func alive(pid int) bool {
	_, ok := parentOf(pid)
	return ok
}

// tail keeps the last bytes of what a process wrote.
type tail struct {
	mu struct {
		sync.Mutex
		b []byte
	}
}

func (w *tail) Write(b []byte) (int, error) {
	const keep = 64 << 10
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
