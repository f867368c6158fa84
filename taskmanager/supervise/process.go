package supervise

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	goruntime "runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Environment of a started binary (docs/protocols.md §2). envOwner stays with
// whatever the job starts itself, and finds it again.
const (
	envMode    = "MILLRACE_MODE"
	envControl = "MILLRACE_CONTROL_FD"
	envOwner   = "MILLRACE_OWNER"
	envProfile = "MILLRACE_PROFILE"

	modePlan   = "plan"
	modeWorker = "worker"
)

// forker starts processes from one OS thread that lives as long as any of
// them: the kernel sends the parent-death signal when the thread that forked
// ends, not when the process does.
type forker struct {
	requests chan forkRequest
	mu       struct {
		sync.Mutex
		// ours are the children that somebody waits for, from before their
		// fork returns until they are reaped.
		ours map[int]bool
	}
}

type forkRequest struct {
	cmd     *exec.Cmd
	outcome chan error
}

// run serves until stop is closed, which must be after the last child's end.
func (f *forker) run(stop <-chan struct{}) {
	goruntime.LockOSThread() // never unlocked: the thread ends with this call
	for {
		select {
		case r := <-f.requests:
			f.mu.Lock()
			err := r.cmd.Start()
			if err == nil {
				f.mu.ours[r.cmd.Process.Pid] = true
			}
			f.mu.Unlock()
			r.outcome <- err
		case <-stop:
			return
		}
	}
}

// reaped says that nobody waits for pid any more.
func (f *forker) reaped(pid int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.mu.ours, pid)
}

// reapStrays reaps orphans that fell to this process and ended by themselves.
// Children in our own process group belong to other parts of the program.
func (f *forker) reapStrays() {
	self, group := os.Getpid(), syscall.Getpgrp()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range zombies(self) {
		if c.group != group && !f.mu.ours[c.pid] && !f.mu.ours[c.group] {
			_, _ = syscall.Wait4(c.pid, nil, syscall.WNOHANG, nil)
		}
	}
}

// start runs cmd.Start on the thread. Another process that is forked just when
// a fresh binary is written may hold it open for an instant; the kernel then
// says that the file is busy.
func (f *forker) start(ctx context.Context, cmd *exec.Cmd) error {
	for attempt := 0; ; attempt++ {
		r := forkRequest{cmd, make(chan error, 1)}
		select {
		case f.requests <- r:
		case <-ctx.Done():
			return ctx.Err()
		}
		err := <-r.outcome
		if !errors.Is(err, syscall.ETXTBSY) || attempt == 50 {
			return err
		}
		time.Sleep(5 * time.Millisecond)
		again := exec.Command(cmd.Path)
		again.Args, again.Env, again.Stdout, again.Stderr = cmd.Args, cmd.Env, cmd.Stdout, cmd.Stderr
		again.ExtraFiles, again.SysProcAttr = cmd.ExtraFiles, cmd.SysProcAttr
		*cmd = *again
	}
}

// launch says what to start.
type launch struct {
	path  string
	args  []string
	env   []string
	mode  string
	owner string
	log   string // base name of the log files; empty keeps tails only
}

// process is a started binary.
type process struct {
	cmd     *exec.Cmd
	pid     int
	owner   string
	control net.Conn
	out     *capture
	err     *capture
	// dead is closed once the process has ended, its group is killed and its
	// output is complete; buried once nothing that it started is left.
	dead, buried chan struct{}
}

// exec starts a binary. After an error nothing is left of it.
func (s *Supervisor) exec(ctx context.Context, l launch) (*process, error) {
	var files []*os.File
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "control"), os.NewFile(uintptr(pair[1]), "control")
	files = append(files, ours, theirs)
	control, err := net.FileConn(ours)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	p := &process{control: control, owner: l.owner, dead: make(chan struct{}), buried: make(chan struct{})}
	var readers [2]*os.File
	var writers [2]*os.File
	for i := range readers {
		if readers[i], writers[i], err = os.Pipe(); err != nil {
			control.Close()
			return nil, fmt.Errorf("output pipe: %w", err)
		}
		files = append(files, writers[i])
	}
	p.cmd = exec.Command(l.path, l.args...)
	p.cmd.Env = append(l.env, envMode+"="+l.mode, envControl+"=3", envOwner+"="+l.owner)
	p.cmd.Stdout, p.cmd.Stderr = writers[0], writers[1]
	p.cmd.ExtraFiles = []*os.File{theirs}
	// A hang-up, not SIGKILL: the worker still ends its whole group (package
	// launch), and what is not built with the SDK dies of it.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGHUP}
	if err := s.forker.start(ctx, p.cmd); err != nil {
		control.Close()
		readers[0].Close()
		readers[1].Close()
		return nil, err
	}
	p.pid = p.cmd.Process.Pid
	// No core dumps: they hold the job's data. The process may end before this.
	_ = unix.Prlimit(p.pid, unix.RLIMIT_CORE, &unix.Rlimit{}, nil)
	p.out = &capture{root: s.logs, limit: s.config.LogLimit}
	p.err = &capture{root: s.logs, limit: s.config.LogLimit}
	if l.log != "" {
		p.out.begin(l.log + ".out")
		p.err.begin(l.log + ".err")
	}
	s.processes.Go(func() { s.tend(p, readers) })
	return p, nil
}

// drainGrace is how long output may go on after the process and its group are
// dead: only a process that left the group can still hold the pipe.
const drainGrace = 50 * time.Millisecond

// tend copies output, waits for the end, and buries what is left.
func (s *Supervisor) tend(p *process, readers [2]*os.File) {
	defer close(p.buried)
	var copying sync.WaitGroup
	for i, to := range []*capture{p.out, p.err} {
		copying.Go(func() {
			// Ends with the last writer, or with the deadline below.
			_, _ = io.Copy(to, readers[i])
		})
	}
	p.await()
	s.forker.reaped(p.pid)
	deadline := time.Now().Add(drainGrace)
	for _, r := range readers {
		_ = r.SetReadDeadline(deadline)
	}
	copying.Wait()
	for _, r := range readers {
		r.Close()
	}
	p.out.close()
	p.err.close()
	close(p.dead)
	p.bury()
}

// await waits for the process and kills its group. As long as the dead leader
// is not reaped, its group's number cannot belong to anybody else.
func (p *process) await() {
	for {
		err := unix.Waitid(unix.P_PID, p.pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	p.kill(syscall.SIGKILL)
	// Its outcome is read from ProcessState.
	_ = p.cmd.Wait()
}

// kill signals the whole group.
func (p *process) kill(signal syscall.Signal) {
	// It fails when nobody is left, which is what is wanted.
	_ = syscall.Kill(-p.pid, signal)
}

// bury reaps the rest of the group, which fell to this process as its
// subreaper, then kills and reaps what had left the group.
func (p *process) bury() {
	for {
		pid, err := syscall.Wait4(-p.pid, nil, 0, nil)
		if pid <= 0 && !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	killOwned(p.owner)
}

// killOwned kills and reaps all processes that carry this owner, or one that
// begins with it and a slash. It looks again until it finds none, since one may
// have forked meanwhile.
func killOwned(owner string) {
	for range 10 {
		pids := owned(owner)
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		for _, pid := range pids {
			// Fails for those that are not our children; init reaps them.
			_, _ = syscall.Wait4(pid, nil, 0, nil)
		}
		if len(pids) == 0 {
			return
		}
	}
}

// settleTime is how long a process that has said all may take to exit by
// itself, so that its last output is not cut off.
const settleTime = 500 * time.Millisecond

// settle waits a little for a process to end by itself.
func (p *process) settle(ctx context.Context) {
	timer := time.NewTimer(settleTime)
	defer timer.Stop()
	select {
	case <-p.dead:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// how describes the end of a process.
func (p *process) how() (code int32, signal, text string) {
	state := p.cmd.ProcessState
	if state == nil {
		return -1, "", "ended in an unknown way"
	}
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		name := unix.SignalName(ws.Signal())
		return -1, name, "was ended by signal " + name
	}
	return int32(state.ExitCode()), "", "ended with exit code " + strconv.Itoa(state.ExitCode())
}
