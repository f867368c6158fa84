package launch

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/millrace/millrace/internal/frame"
	"github.com/millrace/millrace/runtime/exchange"
	"github.com/millrace/millrace/runtime/graph"
	"github.com/millrace/millrace/runtime/operator"
	"github.com/millrace/millrace/runtime/sink"
	"github.com/millrace/millrace/runtime/watermark"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// TestMain makes this test binary a worker as well, which has started a process
// and tells its number.
func TestMain(m *testing.M) {
	if Mode() == ModeWorker {
		child := exec.Command("sleep", "300")
		if err := child.Start(); err != nil {
			panic(err)
		}
		fmt.Println(child.Process.Pid)
		os.Exit(Run(numbers))
	}
	goleak.VerifyTestMain(m)
}

// gone waits until a process is dead, if perhaps not reaped.
func gone(t *testing.T, pid int) {
	t.Helper()
	for range 1000 {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		time.Sleep(10 * time.Millisecond) // nobody tells of the end of a grandchild
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
	t.Error("what the worker started lives on")
}

// spawn starts this test binary as a worker, in a group of its own; control is
// the task manager's end of its socket.
func spawn(t *testing.T, env ...string) (cmd *exec.Cmd, control *os.File, child int) {
	t.Helper()
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	mine, theirs := os.NewFile(uintptr(pair[0]), "control"), os.NewFile(uintptr(pair[1]), "control")
	t.Cleanup(func() { _ = mine.Close() })
	cmd = exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), EnvMode+"="+ModeWorker, EnvControlFD+"=3"), env...)
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = theirs.Close()
	if _, err := fmt.Fscan(out, &child); err != nil {
		t.Fatal(err)
	}
	if err := frame.NewReader(mine).Read(&pb.WorkerFrame{}); err != nil { // its hello: Run has begun
		t.Fatal(err)
	}
	return cmd, mine, child
}

// A worker that has lost its task manager, by its socket or by a hang-up, takes
// along what it started.
func TestALostWorkerEndsItsGroup(t *testing.T) {
	for name, lose := range losses {
		t.Run(name, func(t *testing.T) {
			cmd, control, child := spawn(t)
			if err := lose(control, cmd.Process); err != nil {
				t.Fatal(err)
			}
			gone(t, child)
			_ = cmd.Wait() // it was killed
		})
	}
}

// losses are the ways in which a worker finds that its task manager is gone.
var losses = map[string]func(control *os.File, worker *os.Process) error{
	"end of file": func(control *os.File, _ *os.Process) error { return control.Close() },
	"hang-up":     func(_ *os.File, worker *os.Process) error { return worker.Signal(syscall.SIGHUP) },
}

// A worker leaves its profile behind, whether its task manager is gone or tells
// it to end, which it does by the signal, as without a profile.
func TestAWorkerLeavesItsProfile(t *testing.T) {
	ends := maps.Clone(losses)
	ends["told"] = func(_ *os.File, worker *os.Process) error { return worker.Signal(syscall.SIGTERM) }
	for name, lose := range ends {
		t.Run(name, func(t *testing.T) {
			folder := filepath.Join(t.TempDir(), "profiles")
			cmd, control, child := spawn(t, EnvProfile+"="+folder)
			in, out := frame.NewReader(control), frame.NewWriter(control)
			if err := out.Write(&pb.WorkerFrame{Body: &pb.WorkerFrame_Welcome{Welcome: &pb.WorkerWelcome{
				Protocol: Protocol, JobId: "j", WorkerId: "w-1", Bucket: "file://" + t.TempDir(), DataHost: "127.0.0.1",
			}}}); err != nil {
				t.Fatal(err)
			}
			if err := in.Read(&pb.WorkerFrame{}); err != nil { // its data address: it works
				t.Fatal(err)
			}
			if err := lose(control, cmd.Process); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			if told := cmd.ProcessState.Sys().(syscall.WaitStatus); name == "told" && told.Signal() != syscall.SIGTERM {
				t.Errorf("told to end, it ended with %v", cmd.ProcessState)
			}
			_ = syscall.Kill(child, syscall.SIGKILL)
			for _, file := range []string{"w-1.cpu.pprof", "w-1.heap.pprof"} {
				if data, err := os.ReadFile(filepath.Join(folder, file)); err != nil || !bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
					t.Errorf("%s: %d bytes, %v", file, len(data), err)
				}
			}
		})
	}
}

// side is the task manager's side of a control socket.
type side struct {
	t    *testing.T
	conn net.Conn
	r    *frame.Reader
	w    *frame.Writer
	// code is what serve returns, exit what it ended the process with.
	code chan int
	exit chan int
}

func start(t *testing.T, mode string, build func() (*graph.Graph, error)) *side {
	mine, theirs := net.Pipe()
	s := &side{t: t, conn: mine, r: frame.NewReader(mine), w: frame.NewWriter(mine), code: make(chan int, 1), exit: make(chan int, 10)}
	go func() {
		defer func() { _ = theirs.Close() }()
		s.code <- serve(theirs, mode, build, &profile{}, func(code int) { s.exit <- code })
	}()
	t.Cleanup(func() { _ = mine.Close() })
	return s
}

func (s *side) read() *pb.WorkerFrame {
	s.t.Helper()
	f := &pb.WorkerFrame{}
	if err := s.r.Read(f); err != nil {
		s.t.Fatal(err)
	}
	return f
}

func (s *side) write(f *pb.WorkerFrame) {
	s.t.Helper()
	if err := s.w.Write(f); err != nil {
		s.t.Fatal(err)
	}
}

func (s *side) welcome(mode string) {
	s.t.Helper()
	hello := s.read().GetHello()
	if hello.GetMode() != mode || hello.GetProtocolMin() > Protocol || hello.GetProtocolMax() < Protocol || hello.GetDataAddress() != "" {
		s.t.Fatalf("hello: %v", hello)
	}
	s.write(&pb.WorkerFrame{Body: &pb.WorkerFrame_Welcome{Welcome: &pb.WorkerWelcome{
		Protocol: Protocol, JobId: "j", WorkerId: "w", Bucket: "file://" + s.t.TempDir(), DataHost: "127.0.0.1",
	}}})
}

func numbers() (*graph.Graph, error) {
	typ, err := exchange.TypeOf[int64]()
	if err != nil {
		return nil, err
	}
	src := &graph.Node{
		UID: "in", Name: "in", Kind: "Source", Source: true,
		New: func() operator.Operator { return operator.NewSource[int64](nil, watermark.Strategy[int64]{}) },
	}
	end := &graph.Node{
		UID: "out", Name: "out", Kind: "Sink",
		New:    func() operator.Operator { return operator.NewSink[int64](sink.Sink[int64](nil)) },
		Inputs: []*graph.Edge{{From: src, Ship: pb.Ship_SHIP_FORWARD, Type: typ}},
	}
	return &graph.Graph{Name: "numbers", Nodes: []*graph.Node{src, end}}, nil
}

func TestPlanMode(t *testing.T) {
	for name, c := range map[string]struct {
		build         func() (*graph.Graph, error)
		code, message string
		stack         bool
	}{
		"a graph": {numbers, "", "", false},
		"error":   {func() (*graph.Graph, error) { return nil, errors.New("no such file: flights.csv") }, "build-failed", "flights.csv", false},
		"panic":   {func() (*graph.Graph, error) { panic("at the disco") }, "build-failed", "disco", true},
		"no graph": {func() (*graph.Graph, error) { return &graph.Graph{Name: "empty"}, nil },
			"build-failed", "no operators", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, ModePlan, c.build)
			s.welcome(ModePlan)
			s.write(&pb.WorkerFrame{Body: &pb.WorkerFrame_PlanRequest{PlanRequest: &pb.PlanRequest{DefaultParallelism: 3}}})
			got := s.read().GetPlanResult()
			e := got.GetError()
			if e.GetCode() != c.code || !strings.Contains(e.GetMessage(), c.message) || strings.Contains(e.GetStack(), "launch_test.go") != c.stack {
				t.Errorf("error: %v", e)
			}
			if (got.GetGraph() != nil) != (c.code == "") {
				t.Errorf("graph: %v", got.GetGraph())
			}
			if c.code == "" && (got.GetGraph().GetVertices()[0].GetParallelism() != 3 || len(got.GetGraph().GetPlanHash()) != 32) {
				t.Errorf("graph: %v", got.GetGraph())
			}
			if code := <-s.code; code != ExitDone {
				t.Errorf("exit %d", code)
			}
		})
	}
}

func TestWorkerModeObeysAndEndsWithItsLink(t *testing.T) {
	s := start(t, ModeWorker, numbers)
	s.welcome(ModeWorker)
	hello := s.read().GetHello()
	if conn, err := net.Dial("tcp", hello.GetDataAddress()); err != nil {
		t.Errorf("the data listener: %v", err)
	} else {
		_ = conn.Close()
	}
	s.write(&pb.WorkerFrame{Body: &pb.WorkerFrame_Command{Command: &pb.WorkerCommand{
		Epoch: 7, Body: &pb.WorkerCommand_Cancel{Cancel: &pb.CancelTasks{}},
	}}})
	if r := s.read().GetReport(); r.GetEnded() == nil || r.GetEpoch() != 7 {
		t.Errorf("report: %v", r)
	}
	s.write(&pb.WorkerFrame{Body: &pb.WorkerFrame_Command{Command: &pb.WorkerCommand{
		Epoch: 8, Body: &pb.WorkerCommand_Deploy{Deploy: &pb.Deploy{PlanHash: []byte("another")}},
	}}})
	if r := s.read().GetReport(); r.GetFailed().GetError().GetCode() != "plan-differs" || r.GetEpoch() != 8 {
		t.Errorf("report: %v", r)
	}
	s.write(&pb.WorkerFrame{Body: &pb.WorkerFrame_Ping{Ping: &pb.WorkerPing{Number: 9}}})
	if pong := s.read().GetPong(); pong.GetNumber() != 9 {
		t.Errorf("answer of a ping: %v", pong)
	}
	_ = s.conn.Close()
	if code := <-s.exit; code != ExitLinkLost {
		t.Errorf("the process ended with %d", code)
	}
	if code := <-s.code; code != ExitLinkLost {
		t.Errorf("serve returned %d", code)
	}
}

func TestHandshakeThatFails(t *testing.T) {
	s := start(t, ModePlan, numbers)
	s.read()
	_ = s.conn.Close()
	if code := <-s.code; code != ExitLinkLost {
		t.Errorf("closed instead of welcomed: exit %d", code)
	}
	s = start(t, ModePlan, numbers)
	s.read()
	s.write(&pb.WorkerFrame{Body: &pb.WorkerFrame_Welcome{Welcome: &pb.WorkerWelcome{Protocol: Protocol + 1}}})
	if code := <-s.code; code != ExitFailed {
		t.Errorf("another protocol: exit %d", code)
	}
}

func TestControlHidesItself(t *testing.T) {
	for _, fd := range []string{"", "x", "1", "987654"} {
		t.Setenv(EnvMode, ModePlan)
		t.Setenv(EnvControlFD, fd)
		if _, err := control(); err == nil {
			t.Errorf("descriptor %q was taken for a socket", fd)
		}
		if Mode() != "" || os.Getenv(EnvControlFD) != "" {
			t.Errorf("descriptor %q: children would see the environment of a worker", fd)
		}
	}
}
