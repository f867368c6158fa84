package supervise

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/millrace/millrace/internal/frame"
	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// TestMain makes this test binary the job as well: started in a mode, it does
// what its first argument says.
func TestMain(m *testing.M) {
	if mode := os.Getenv(envMode); mode != "" {
		(&fakeJob{mode: mode, does: os.Args[1]}).main()
		return
	}
	goleak.VerifyTestMain(m)
}

// fakeJob speaks the worker's side of the protocol by hand.
type fakeJob struct {
	mode, does string
	in         *frame.Reader
	out        *frame.Writer
}

func (j *fakeJob) main() {
	switch j.does {
	case "exit-at-once":
		fmt.Fprintln(os.Stderr, "usage: no such flag")
		os.Exit(2)
	case "die-at-once":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "garbage":
		socket := os.NewFile(3, "control")
		socket.Write([]byte("HTTP/1.1 200 OK\r\n\r\n"))
		select {}
	}
	socket := os.NewFile(3, "control")
	j.in, j.out = frame.NewReader(socket), frame.NewWriter(socket)
	hello := &pb.WorkerHello{ProtocolMin: 1, ProtocolMax: 1, Mode: j.mode, SdkVersion: "test"}
	if j.does == "from-the-future" {
		hello.ProtocolMin, hello.ProtocolMax = 8, 9
	}
	j.send(&pb.WorkerFrame{Body: &pb.WorkerFrame_Hello{Hello: hello}})
	welcome := j.receive().GetWelcome()
	if j.mode == modePlan {
		j.plan()
		return
	}
	hello.DataAddress = welcome.GetDataHost() + ":1"
	j.work(hello, welcome)
}

func (j *fakeJob) send(f *pb.WorkerFrame) {
	if err := j.out.Write(f); err != nil {
		os.Exit(3)
	}
}

func (j *fakeJob) receive() *pb.WorkerFrame {
	f := &pb.WorkerFrame{}
	if err := j.in.Read(f); err != nil {
		os.Exit(3)
	}
	return f
}

func (j *fakeJob) plan() {
	j.receive()
	fmt.Fprintln(os.Stderr, "planning")
	result := &pb.PlanResult{Graph: &pb.JobGraph{Name: "job", PlanHash: []byte("hash"),
		Vertices: []*pb.Vertex{{Name: "v", Operators: []*pb.Operator{{Name: "map-1"}}}}}}
	switch j.does {
	case "plan-fails":
		result = &pb.PlanResult{Error: &pb.Error{Code: CodeBuildFailed, Message: "operator \"window-2\": no watermarks", Operator: "window-2"}}
	case "plan-differs":
		result.Graph.PlanHash = fmt.Append(nil, os.Getpid())
		result.Graph.Vertices[0].Operators[0].Name = fmt.Sprint("map-", os.Getpid())
	case "plan-hangs":
		fmt.Fprintln(os.Stderr, "thinking")
		select {}
	case "plan-exits":
		fmt.Fprintln(os.Stderr, "giving up")
		os.Exit(9)
	}
	j.send(&pb.WorkerFrame{Body: &pb.WorkerFrame_PlanResult{PlanResult: result}})
}

// child starts a process that outlives everything unless it is killed.
func child(apart bool) int {
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: apart}
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(8)
	}
	return cmd.Process.Pid
}

var ballast []byte

// hogIn moves into a control group and takes more memory than it allows.
func hogIn(group string) {
	if err := os.WriteFile(group+"/cgroup.procs", fmt.Append(nil, os.Getpid()), 0); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(8)
	}
	// Time to be seen there.
	time.Sleep(200 * time.Millisecond)
	for {
		more := make([]byte, 8<<20)
		for i := 0; i < len(more); i += 4096 {
			more[i] = 1
		}
		ballast = append(ballast, more...)
	}
}

func (j *fakeJob) work(hello *pb.WorkerHello, welcome *pb.WorkerWelcome) {
	switch j.does {
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
	case "has-children":
		hello.DataAddress = fmt.Sprintf("%d %d", child(false), child(true))
	case "shows-environment":
		fmt.Println(strings.Join(os.Environ(), "\n"))
		fmt.Println(welcome)
	}
	j.send(&pb.WorkerFrame{Body: &pb.WorkerFrame_Hello{Hello: hello}})
	switch j.does {
	case "crash":
		fmt.Fprintln(os.Stderr, "about to crash")
		panic("user code went wrong")
	case "exit":
		os.Exit(7)
	case "deaf":
		select {}
	case "hog":
		ballast = make([]byte, 200<<20)
		for i := range ballast {
			ballast[i] = 1
		}
	}
	for {
		f := j.receive()
		if ping := f.GetPing(); ping != nil {
			if j.does != "ignores-pings" {
				j.send(&pb.WorkerFrame{Body: &pb.WorkerFrame_Pong{Pong: &pb.WorkerPong{Number: ping.GetNumber()}}})
			}
			continue
		}
		epoch := f.GetCommand().GetEpoch()
		if again := f.GetWelcome(); again != nil {
			epoch = uint64(again.GetSlots())<<32 | again.GetMemoryBytes()>>20
		}
		if group, ok := strings.CutPrefix(j.does, "hog-in:"); ok {
			hogIn(group)
		}
		j.send(&pb.WorkerFrame{Body: &pb.WorkerFrame_Report{Report: &pb.WorkerReport{Epoch: epoch, Body: &pb.WorkerReport_Ready{Ready: &pb.TasksReady{}}}}})
	}
}
