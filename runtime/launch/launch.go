package launch

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/millrace/millrace/internal/frame"
	"github.com/millrace/millrace/runtime/graph"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// The environment of a binary that a task manager starts.
const (
	EnvMode      = "MILLRACE_MODE"
	EnvControlFD = "MILLRACE_CONTROL_FD"
)

// Modes.
const (
	ModePlan   = "plan"
	ModeWorker = "worker"
)

// Protocol is the version of the control protocol that this binary speaks.
const Protocol = 1

// Exit codes of Run.
const (
	ExitDone = 0
	// ExitFailed: what went wrong was written to the control socket or, where
	// that was not possible, to stderr.
	ExitFailed = 1
	// ExitLinkLost: the control socket was closed.
	ExitLinkLost = 3
)

// Mode is what a task manager wants of this process: ModePlan, ModeWorker, or
// "" when nobody asks and the job runs by hand.
func Mode() string { return os.Getenv(EnvMode) }

// Run does what Mode says and returns the exit code of the process. build makes
// the job's graph; its errors and panics are reported, not returned. In
// worker mode Run ends the process itself when the control socket closes.
func Run(build func() (*graph.Graph, error)) int {
	mode := Mode()
	prof := &profile{folder: os.Getenv(EnvProfile)}
	conn, err := control()
	if err != nil {
		fmt.Fprintln(os.Stderr, "millrace:", err)
		return ExitFailed
	}
	defer func() { _ = conn.Close() }()
	exit := func(code int) {
		if err := prof.stop(); err != nil {
			fmt.Fprintln(os.Stderr, "millrace:", err)
		}
		end(code)
	}
	// The task manager's death comes as a hang-up too, which finds a process that
	// does not read its socket. The goroutine lives as long as the process.
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	go func() {
		<-hangup
		exit(ExitLinkLost)
	}()
	code := serve(conn, mode, build, prof, exit)
	if code == ExitLinkLost {
		exit(code)
	}
	return code
}

// end ends the process. One that has lost its task manager takes along what the
// job started, which nobody else would end; if it leads a group, then it is one
// of its own.
func end(code int) {
	if code == ExitLinkLost && syscall.Getpgrp() == os.Getpid() {
		_ = syscall.Kill(0, syscall.SIGKILL)
	}
	os.Exit(code)
}

// control opens the inherited socket. From here on it is closed on exec, and
// the environment says nothing of it: what the job starts is not a worker.
func control() (net.Conn, error) {
	value := os.Getenv(EnvControlFD)
	_, _, _ = os.Unsetenv(EnvControlFD), os.Unsetenv(EnvMode), os.Unsetenv(EnvProfile)
	fd, err := strconv.Atoi(value)
	if err != nil || fd < 3 {
		return nil, fmt.Errorf("%s is %q, want the number of an inherited descriptor: only a task manager sets %s", EnvControlFD, value, EnvMode)
	}
	syscall.CloseOnExec(fd)
	file := os.NewFile(uintptr(fd), "control")
	defer func() { _ = file.Close() }()
	conn, err := net.FileConn(file) // a duplicate, closed on exec too
	if err != nil {
		return nil, fmt.Errorf("control socket, descriptor %d: %w", fd, err)
	}
	return conn, nil
}

// link is the control socket with its frames.
type link struct {
	r       *frame.Reader
	w       *frame.Writer
	profile *profile
	exit    func(int)
}

// serve speaks the protocol over conn.
func serve(conn net.Conn, mode string, build func() (*graph.Graph, error), prof *profile, exit func(int)) int {
	l := &link{r: frame.NewReader(conn), w: frame.NewWriter(conn), profile: prof, exit: exit}
	welcome, err := l.shakeHands(mode)
	if err == nil {
		switch mode {
		case ModePlan:
			err = l.plan(build)
		case ModeWorker:
			err = l.work(welcome, build)
		default:
			err = fmt.Errorf("%s is %q, want %s or %s", EnvMode, mode, ModePlan, ModeWorker)
		}
	}
	switch {
	case err == nil:
		return ExitDone
	case errors.Is(err, errLinkLost):
		return ExitLinkLost
	default:
		fmt.Fprintln(os.Stderr, "millrace:", err)
		return ExitFailed
	}
}

// errLinkLost is the end of the control socket.
var errLinkLost = errors.New("the control socket was closed")

func (l *link) send(f *pb.WorkerFrame) error {
	if err := l.w.Write(f); err != nil {
		return fmt.Errorf("%w: %w", errLinkLost, err)
	}
	return nil
}

func (l *link) receive() (*pb.WorkerFrame, error) {
	f := &pb.WorkerFrame{}
	if err := l.r.Read(f); err != nil {
		return nil, fmt.Errorf("%w: %w", errLinkLost, err)
	}
	return f, nil
}
