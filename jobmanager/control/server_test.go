package control

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/goleak"

	"github.com/millrace/millrace/api"

	pb "github.com/millrace/millrace/proto/millrace/v1"
	"github.com/millrace/millrace/proto/millrace/v1/pbconnect"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recorder turns events into lines on a channel.
type recorder struct {
	events chan string
	causes chan error
}

func newRecorder() *recorder {
	return &recorder{events: make(chan string, 100), causes: make(chan error, 100)}
}

func (r *recorder) Attached(tm TaskManager) { r.events <- "attached " + tm.GetId() }
func (r *recorder) Message(tm string, m *pb.TaskManagerMessage) {
	r.events <- "message " + tm + " " + m.GetWorkerExited().GetWorkerId()
}
func (r *recorder) Detached(tm TaskManager, cause error) {
	r.causes <- cause
	r.events <- "detached " + tm.GetId()
}

func (r *recorder) want(t *testing.T, events ...string) {
	t.Helper()
	for _, want := range events {
		if got := <-r.events; got != want {
			t.Fatalf("event %q, want %q", got, want)
		}
	}
}

// pipes connects an HTTP/2 client and a server through net.Pipe, so that all of
// it runs on the time of a synctest bubble.
type pipes struct {
	conns chan net.Conn
	once  *sync.Once
}

func (p pipes) Accept() (net.Conn, error) {
	c, ok := <-p.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (p pipes) Close() error   { p.once.Do(func() { close(p.conns) }); return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

type world struct {
	server *Server
	rec    *recorder
	client pbconnect.ControlClient
}

// newWorld serves a control link for one test.
func newWorld(t *testing.T, cfg Config) *world {
	t.Helper()
	cfg.Log = slog.New(slog.DiscardHandler)
	cfg.ClusterID, cfg.LeaderEpoch, cfg.Bucket = "cluster", 7, "mem://b"
	w := &world{rec: newRecorder()}
	w.server = New(cfg, w.rec)
	mux := http.NewServeMux()
	mux.Handle(w.server.Handler())
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	hs := &http.Server{Handler: mux, Protocols: &protocols}
	ln := pipes{conns: make(chan net.Conn), once: &sync.Once{}}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = hs.Serve(ln)
	}()
	transport := &http.Transport{Protocols: &protocols, DialContext: func(context.Context, string, string) (net.Conn, error) {
		a, b := net.Pipe()
		ln.conns <- a
		return b, nil
	}}
	w.client = pbconnect.NewControlClient(&http.Client{Transport: transport}, "http://jobmanager")
	t.Cleanup(func() {
		w.server.Close()
		transport.CloseIdleConnections()
		_ = hs.Close()
		<-served
	})
	return w
}

func (w *world) attach(t *testing.T, reg *pb.Register) (*connect.BidiStreamForClient[pb.TaskManagerMessage, pb.JobManagerMessage], *pb.Registered) {
	t.Helper()
	stream := w.client.Attach(t.Context())
	if err := stream.Send(&pb.TaskManagerMessage{Body: &pb.TaskManagerMessage_Register{Register: reg}}); err != nil {
		t.Fatal(err)
	}
	m, err := stream.Receive()
	if err != nil {
		t.Fatal(err)
	}
	return stream, m.GetRegistered()
}

func register(id string, incarnation uint64) *pb.Register {
	return &pb.Register{Id: id, ProtocolMin: 1, ProtocolMax: 1, Slots: 2, Incarnation: incarnation}
}

func TestAttachSendAskAndBreak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		stream, answer := w.attach(t, register("a", 1))
		if answer.GetClusterId() != "cluster" || answer.GetLeaderEpoch() != 7 || answer.GetBucket() != "mem://b" || answer.GetProtocol() != 1 {
			t.Errorf("registered = %v", answer)
		}
		w.rec.want(t, "attached a")
		asked := make(chan error, 1)
		go func() {
			reply, err := w.server.Ask(t.Context(), "a", &pb.Request{Body: &pb.Request_ListLogs{ListLogs: &pb.ListLogs{}}})
			if err == nil && len(reply.GetLogs().GetFiles()) != 1 {
				err = errors.New("reply without its file")
			}
			asked <- err
		}()
		m, err := stream.Receive()
		if err != nil || m.GetRequest().GetListLogs() == nil {
			t.Fatalf("received %v, %v; want the request", m, err)
		}
		send := func(m *pb.TaskManagerMessage) {
			if err := stream.Send(m); err != nil {
				t.Error(err)
			}
		}
		send(&pb.TaskManagerMessage{Body: &pb.TaskManagerMessage_Reply{Reply: &pb.Reply{Id: m.GetRequest().GetId(),
			Body: &pb.Reply_Logs{Logs: &pb.LogList{Files: []*pb.LogFile{{Name: "x"}}}}}}})
		if err := <-asked; err != nil {
			t.Error(err)
		}
		send(&pb.TaskManagerMessage{Body: &pb.TaskManagerMessage_WorkerExited{WorkerExited: &pb.WorkerExited{WorkerId: "w1"}}})
		w.rec.want(t, "message a w1")

		// Whoever waits for a reply when the stream breaks is told at once.
		go func() {
			_, err := w.server.Ask(t.Context(), "a", &pb.Request{})
			asked <- err
		}()
		if _, err := stream.Receive(); err != nil {
			t.Fatal(err)
		}
		_ = stream.CloseRequest()
		w.rec.want(t, "detached a")
		if err := <-asked; api.CodeOf(err) != api.TaskManagerLost {
			t.Errorf("ask over a broken stream = %v", err)
		}
		if err := w.server.Send("a", &pb.JobManagerMessage{}); api.CodeOf(err) != api.TaskManagerNotFound {
			t.Errorf("send to a lost task manager = %v", err)
		}
		_ = stream.CloseResponse()
	})
}

func TestSilenceIsLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		stream, _ := w.attach(t, register("a", 1))
		w.rec.want(t, "attached a")
		begin := time.Now()
		for range 6 { // alive as long as it speaks
			time.Sleep(1500 * time.Millisecond)
			if err := stream.Send(&pb.TaskManagerMessage{Body: &pb.TaskManagerMessage_Heartbeat{Heartbeat: &pb.TaskManagerHeartbeat{}}}); err != nil {
				t.Fatal(err)
			}
			// The job manager's own heartbeats arrive meanwhile.
			if m, err := stream.Receive(); err != nil || m.GetHeartbeat() == nil {
				t.Fatalf("received %v, %v; want a heartbeat", m, err)
			}
		}
		w.rec.want(t, "detached a")
		if d := time.Since(begin); d != 11*time.Second {
			t.Errorf("lost after %s, want 11s", d)
		}
		if cause := <-w.rec.causes; api.CodeOf(cause) != api.TaskManagerLost {
			t.Errorf("cause %v", cause)
		}
		_ = stream.CloseResponse()
	})
}

func TestSecondRegistrationReplacesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		first, _ := w.attach(t, register("a", 1))
		w.rec.want(t, "attached a")
		second, answer := w.attach(t, register("a", 2))
		if answer.GetError() != nil {
			t.Fatal(answer.GetError())
		}
		w.rec.want(t, "detached a", "attached a")
		if cause := <-w.rec.causes; api.CodeOf(cause) != api.TaskManagerReplaced {
			t.Errorf("cause %v", cause)
		}
		if tm, ok := w.server.TaskManager("a"); !ok || tm.GetIncarnation() != 2 {
			t.Errorf("attached: %v", tm)
		}
		_ = first.CloseResponse()
		_ = second.CloseRequest()
		_ = second.CloseResponse()
	})
}

func TestRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		for want, reg := range map[api.Code]*pb.Register{
			api.ProtocolMismatch: {Id: "a", ProtocolMin: 2, ProtocolMax: 3},
			api.ClusterMismatch:  {Id: "a", ProtocolMin: 1, ProtocolMax: 1, ClusterId: "other"},
			api.BadRequest:       {ProtocolMin: 1, ProtocolMax: 1},
		} {
			stream, answer := w.attach(t, reg)
			if got := api.Code(answer.GetError().GetCode()); got != want {
				t.Errorf("refused with %q, want %q", got, want)
			}
			_ = stream.CloseResponse()
		}
		if n := len(w.rec.events); n != 0 {
			t.Errorf("%d events for refused task managers", n)
		}
	})
}

// A task manager that does not read is ended when its queue is full, and
// nobody waits for it.
func TestFullQueueEndsTaskManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{Queue: 4})
		stream, _ := w.attach(t, register("a", 1))
		w.rec.want(t, "attached a")
		large := &pb.JobManagerMessage{Body: &pb.JobManagerMessage_StartWorker{StartWorker: &pb.StartWorker{JobName: string(make([]byte, 8<<20))}}}
		var err error
		for range 100 {
			if err = w.server.Send("a", large); err != nil {
				break
			}
		}
		if api.CodeOf(err) != api.TaskManagerBusy {
			t.Errorf("send to a full queue = %v", err)
		}
		w.rec.want(t, "detached a")
		_ = stream.CloseRequest()
		_ = stream.CloseResponse()
	})
}
