package taskmanager

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/goleak"

	"github.com/millrace/millrace/internal/frame"
	pb "github.com/millrace/millrace/proto/millrace/v1"
	"github.com/millrace/millrace/proto/millrace/v1/pbconnect"
)

// TestMain makes this test binary the job as well: a worker that answers every
// command with a report of the same epoch.
func TestMain(m *testing.M) {
	if mode := os.Getenv("MILLRACE_MODE"); mode != "" {
		answerCommands(mode)
		return
	}
	goleak.VerifyTestMain(m)
}

func answerCommands(mode string) {
	socket := os.NewFile(3, "control")
	in, out := frame.NewReader(socket), frame.NewWriter(socket)
	hello := &pb.WorkerHello{ProtocolMin: 1, ProtocolMax: 1, Mode: mode}
	send := func(f *pb.WorkerFrame) {
		if err := out.Write(f); err != nil {
			os.Exit(3)
		}
	}
	send(&pb.WorkerFrame{Body: &pb.WorkerFrame_Hello{Hello: hello}})
	for {
		var f pb.WorkerFrame
		if err := in.Read(&f); err != nil {
			os.Exit(3)
		}
		switch body := f.GetBody().(type) {
		case *pb.WorkerFrame_Welcome:
			if mode == "worker" {
				hello.DataAddress = body.Welcome.GetDataHost() + ":1"
				send(&pb.WorkerFrame{Body: &pb.WorkerFrame_Hello{Hello: hello}})
			}
		case *pb.WorkerFrame_PlanRequest:
			send(&pb.WorkerFrame{Body: &pb.WorkerFrame_PlanResult{PlanResult: &pb.PlanResult{
				Graph: &pb.JobGraph{Name: "planned", PlanHash: []byte("hash")}}}})
			return
		case *pb.WorkerFrame_Command:
			send(&pb.WorkerFrame{Body: &pb.WorkerFrame_Report{Report: &pb.WorkerReport{Epoch: body.Command.GetEpoch()}}})
		}
	}
}

// leader is a job manager as far as the link goes.
type leader struct {
	t          *testing.T
	address    string
	registered *pb.Registered
	beat       atomic.Bool // sends heartbeats
	deaf       atomic.Bool // reads nothing after the registration
	// attached delivers each stream once it has registered.
	attached chan *attachment
	server   *http.Server
	served   sync.WaitGroup
}

// attachment is one stream.
type attachment struct {
	t        *testing.T
	register *pb.Register
	header   http.Header
	down     chan *pb.JobManagerMessage
	up       chan *pb.TaskManagerMessage // without heartbeats
	beats    chan *pb.TaskManagerHeartbeat
	drop     context.CancelFunc
	gone     chan struct{}
}

func newLeader(t *testing.T, epoch uint64, bucket string) *leader {
	t.Helper()
	j := &leader{t: t, attached: make(chan *attachment, 16),
		registered: &pb.Registered{ClusterId: "cluster-1", LeaderEpoch: epoch, Bucket: bucket, Protocol: 1}}
	j.beat.Store(true)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	j.address = listener.Addr().String()
	mux := http.NewServeMux()
	mux.Handle(pbconnect.NewControlHandler(j))
	j.server = &http.Server{Handler: mux, Protocols: &http.Protocols{}}
	j.server.Protocols.SetUnencryptedHTTP2(true)
	j.served.Go(func() { j.server.Serve(listener) })
	t.Cleanup(j.stop)
	return j
}

func (j *leader) stop() {
	j.server.Close()
	j.served.Wait()
}

// Attach implements pbconnect.ControlHandler.
func (j *leader) Attach(ctx context.Context, rpc *connect.BidiStream[pb.TaskManagerMessage, pb.JobManagerMessage]) error {
	m, err := rpc.Receive()
	if err != nil {
		return err
	}
	if err := rpc.Send(&pb.JobManagerMessage{Body: &pb.JobManagerMessage_Registered{Registered: j.registered}}); err != nil {
		return err
	}
	ctx, drop := context.WithCancel(ctx)
	defer drop()
	a := &attachment{t: j.t, register: m.GetRegister(), header: rpc.RequestHeader().Clone(), drop: drop, gone: make(chan struct{}),
		down: make(chan *pb.JobManagerMessage, 1024), up: make(chan *pb.TaskManagerMessage, 4096), beats: make(chan *pb.TaskManagerHeartbeat, 1)}
	j.attached <- a
	go func() {
		defer close(a.gone)
		defer drop()
		for {
			if j.deaf.Load() {
				<-ctx.Done()
				return
			}
			m, err := rpc.Receive()
			if err != nil {
				return
			}
			if b := m.GetHeartbeat(); b != nil {
				select {
				case a.beats <- b:
				default:
				}
				continue
			}
			a.up <- m
		}
	}()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		var m *pb.JobManagerMessage
		select {
		case <-ctx.Done():
			return connect.NewError(connect.CodeAborted, errors.New("dropped"))
		case m = <-a.down:
		case <-tick.C:
			if !j.beat.Load() {
				continue
			}
			m = &pb.JobManagerMessage{Body: &pb.JobManagerMessage_Heartbeat{Heartbeat: &pb.JobManagerHeartbeat{}}}
		}
		if err := rpc.Send(m); err != nil {
			return err
		}
	}
}

// await returns the next stream.
func (j *leader) await() *attachment {
	j.t.Helper()
	return receive(j.t, j.attached, "registration")
}

func (a *attachment) next() *pb.TaskManagerMessage {
	a.t.Helper()
	return receive(a.t, a.up, "message")
}

func receive[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(60 * time.Second):
		t.Fatalf("no %s within a minute", what)
		panic("unreachable")
	}
}

// run runs a task manager until the test ends, or stop is called.
func run(t *testing.T, config Config) (tm *TaskManager, stop func()) {
	t.Helper()
	if config.Data == "" {
		config.Data = t.TempDir()
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	config.Handshake = 20 * time.Second
	tm, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- tm.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := receive(t, ended, "end of the task manager"); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return tm, stop
}
