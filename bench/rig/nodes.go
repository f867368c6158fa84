package rig

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Nodes are a job manager and task managers, processes of their own that can be
// killed and started again on the same folders and addresses.
type Nodes struct {
	// TaskManager is the first of them, More those that were added.
	JobManager, TaskManager *Node
	More                    []*Node
	// REST is a URL; it stays when the job manager is started again.
	REST string
	// Logged is what all have logged.
	Logged *Events

	millrace, folder, join string
}

// Node is one of them.
type Node struct {
	millrace string
	args     []string
	events   *Events
	cmd      *exec.Cmd
	reading  sync.WaitGroup
}

// StartNodes returns once both are ready. flags are the task manager's.
func StartNodes(millrace, folder string, flags ...string) (*Nodes, error) {
	n := &Nodes{Logged: &Events{more: make(chan struct{})}, millrace: millrace, folder: folder}
	jm := []string{"jobmanager", "--data", filepath.Join(folder, "jm"), "--bucket", "file://" + filepath.Join(folder, "bucket")}
	n.JobManager = &Node{millrace: millrace, events: n.Logged, args: append(jm, "--rest", "127.0.0.1:0", "--bind", "127.0.0.1:0")}
	ready, err := n.JobManager.Start()
	if err != nil {
		return nil, err
	}
	n.REST = ready["rest"]
	n.join = ready["join"]
	n.JobManager.args = append(jm, "--rest", strings.TrimPrefix(n.REST, "http://"), "--bind", n.join)
	if n.TaskManager, err = n.start("tm", flags); err != nil {
		return nil, errors.Join(err, n.Stop())
	}
	return n, nil
}

// Add starts one more task manager and returns once it is ready.
func (n *Nodes) Add(flags ...string) error {
	tm, err := n.start(fmt.Sprintf("tm%d", len(n.More)+2), flags)
	if err == nil {
		n.More = append(n.More, tm)
	}
	return err
}

func (n *Nodes) start(name string, flags []string) (*Node, error) {
	tm := &Node{millrace: n.millrace, events: n.Logged, args: append([]string{"taskmanager",
		"--data", filepath.Join(n.folder, name), "--join", n.join, "--kinesis", "127.0.0.1:0"}, flags...)}
	if _, err := tm.Start(); err != nil {
		return nil, err
	}
	return tm, nil
}

// PIDs are those of all processes, the job manager's first.
func (n *Nodes) PIDs() []int {
	pids := []int{n.JobManager.PID(), n.TaskManager.PID()}
	for _, tm := range n.More {
		pids = append(pids, tm.PID())
	}
	return pids
}

// Start starts the process and returns what it says when it is ready.
func (n *Node) Start() (ready map[string]string, err error) {
	n.cmd = exec.Command(n.millrace, append(n.args, "--log-level", "info")...)
	// Should this program be killed, so are its children.
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	stdout, err := n.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	stderr, err := n.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := n.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s %s: %w", n.millrace, n.args[0], err)
	}
	n.reading.Go(func() { n.events.read(stderr) })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return nil, errors.Join(fmt.Errorf("millrace %s ended before it was ready: %s", n.args[0], n.events), n.Kill())
	}
	n.reading.Go(func() { _, _ = io.Copy(io.Discard, stdout) })
	ready = map[string]string{}
	for field := range strings.FieldsSeq(line) {
		if name, value, ok := strings.Cut(field, "="); ok {
			ready[name] = value
		}
	}
	return ready, nil
}

// PID is the process.
func (n *Node) PID() int { return n.cmd.Process.Pid }

// Kill ends the process by SIGKILL and waits until it is gone.
func (n *Node) Kill() error { return n.end(syscall.SIGKILL) }

func (n *Node) end(signal os.Signal) error {
	if err := n.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	kill := time.AfterFunc(10*time.Second, func() { _ = n.cmd.Process.Kill() })
	defer kill.Stop()
	n.reading.Wait()
	var exit *exec.ExitError
	if err := n.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		return err
	}
	return nil
}

// Stop ends all.
func (n *Nodes) Stop() error {
	var err error
	for _, node := range append(n.More, n.TaskManager, n.JobManager) {
		if node != nil && node.cmd != nil && node.cmd.Process != nil {
			err = errors.Join(err, node.end(syscall.SIGTERM))
		}
	}
	return err
}

// Event is a line of a log.
type Event struct {
	At      time.Time
	Message string
	line    string
}

// Value is a field of the line without spaces, empty where it has none.
func (e Event) Value(name string) string {
	_, rest, _ := strings.Cut(e.line, " "+name+"=")
	value, _, _ := strings.Cut(rest, " ")
	return value
}

// Events are what processes have logged, in the order in which it came.
type Events struct {
	mu   sync.Mutex
	all  []Event
	more chan struct{} // closed and made anew when one comes
}

func (e *Events) read(r io.Reader) {
	for lines := bufio.NewScanner(r); lines.Scan(); {
		ev := Event{line: lines.Text()}
		at, rest, _ := strings.Cut(strings.TrimPrefix(ev.line, "time="), " ")
		ev.At, _ = time.Parse(time.RFC3339Nano, at)
		if _, rest, ok := strings.Cut(rest, `msg="`); ok {
			ev.Message, _, _ = strings.Cut(rest, `"`)
		}
		e.mu.Lock()
		e.all = append(e.all, ev)
		close(e.more)
		e.more = make(chan struct{})
		e.mu.Unlock()
	}
}

// String is the end of what was logged.
func (e *Events) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var b strings.Builder
	for _, ev := range e.all[max(0, len(e.all)-40):] {
		b.WriteString(ev.line + "\n")
	}
	return b.String()
}

// Find returns the first event from a time on that is wanted.
func (e *Events) Find(from time.Time, wanted func(Event) bool) (Event, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, ev := range e.all {
		if !ev.At.Before(from) && wanted(ev) {
			return ev, true
		}
	}
	return Event{}, false
}

// Await waits for such an event.
func (e *Events) Await(ctx context.Context, from time.Time, what string, wanted func(Event) bool) (Event, error) {
	for {
		e.mu.Lock()
		more := e.more
		e.mu.Unlock()
		if ev, ok := e.Find(from, wanted); ok {
			return ev, nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return Event{}, fmt.Errorf("%s: %w; the last that was logged:\n%s", what, context.Cause(ctx), e)
		}
	}
}
