package control

import (
	"context"
	"fmt"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/millrace/millrace/api"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// session is one stream of a task manager. The handler's goroutine reads and
// delivers events; one more writes.
type session struct {
	server *Server
	stream *connect.BidiStream[pb.TaskManagerMessage, pb.JobManagerMessage]
	stuck  *cutter

	id       string
	reg      *pb.Register
	since    time.Time
	outgoing chan *pb.JobManagerMessage
	// ended is closed by end, done after Detached was delivered.
	ended, done chan struct{}

	mu struct {
		sync.Mutex
		cause     error
		heard     time.Time
		heartbeat *pb.TaskManagerHeartbeat
		lastAsk   uint64
		asks      map[uint64]chan *pb.Reply
		silence   func() bool // stops the timer
	}
}

func newSession(s *Server, stream *connect.BidiStream[pb.TaskManagerMessage, pb.JobManagerMessage], stuck *cutter) *session {
	n := &session{
		server: s, stream: stream, stuck: stuck,
		outgoing: make(chan *pb.JobManagerMessage, s.cfg.Queue),
		ended:    make(chan struct{}), done: make(chan struct{}),
	}
	n.mu.asks = map[uint64]chan *pb.Reply{}
	return n
}

// register takes the first message and answers it.
func (n *session) register() error {
	n.hear()
	defer n.hush()
	first, err := n.stream.Receive()
	if err != nil {
		return fmt.Errorf("control link: no registration: %w", err)
	}
	n.reg = first.GetRegister()
	n.id, n.since = n.reg.GetId(), n.server.cfg.Clock.Now()
	cfg := n.server.cfg
	if refused := n.refuse(); refused != nil {
		cfg.Log.Warn("task manager refused", "task_manager", n.id, "host", n.reg.GetHost(), "error", refused)
		// The error of the stream says the same to a client that reads none.
		_ = n.stream.Send(&pb.JobManagerMessage{Body: &pb.JobManagerMessage_Registered{
			Registered: &pb.Registered{ClusterId: cfg.ClusterID, LeaderEpoch: cfg.LeaderEpoch, Error: refused.Proto()}}})
		return refused
	}
	if err := n.server.take(n); err != nil {
		return err
	}
	n.outgoing <- &pb.JobManagerMessage{Body: &pb.JobManagerMessage_Registered{Registered: &pb.Registered{
		ClusterId: cfg.ClusterID, LeaderEpoch: cfg.LeaderEpoch, Bucket: cfg.Bucket, Protocol: Protocol}}}
	return nil
}

func (n *session) refuse() *api.Error {
	r := n.reg
	switch {
	case r == nil:
		return api.Errorf(api.BadRequest, "control link: the first message is no registration")
	case r.GetId() == "":
		return api.Errorf(api.BadRequest, "control link: registration without an id")
	case r.GetProtocolMin() > Protocol || r.GetProtocolMax() < Protocol:
		return api.Errorf(api.ProtocolMismatch, "task manager %s speaks versions %d to %d of the control link, the job manager %d",
			r.GetId(), r.GetProtocolMin(), r.GetProtocolMax(), Protocol)
	case r.GetClusterId() != "" && r.GetClusterId() != n.server.cfg.ClusterID:
		return api.Errorf(api.ClusterMismatch, "task manager %s belongs to cluster %s, this is %s",
			r.GetId(), r.GetClusterId(), n.server.cfg.ClusterID)
	}
	return nil
}

// serve reads until the session ends, and delivers its events.
func (n *session) serve() error {
	log := n.server.cfg.Log.With("task_manager", n.id)
	var writer sync.WaitGroup
	writer.Go(n.write)
	n.hear()
	log.Info("task manager attached", "host", n.reg.GetHost(), "slots", n.reg.GetSlots(), "incarnation", n.reg.GetIncarnation())
	n.server.events.Attached(n.describe())
	for {
		m, err := n.stream.Receive()
		if err != nil {
			n.end(api.Errorf(api.TaskManagerLost, "task manager %s: connection lost: %w", n.id, err))
			break
		}
		n.hear()
		switch b := m.GetBody().(type) {
		case *pb.TaskManagerMessage_Heartbeat:
			n.mu.Lock()
			n.mu.heartbeat = b.Heartbeat
			n.mu.Unlock()
		case *pb.TaskManagerMessage_Reply:
			n.reply(b.Reply)
		case *pb.TaskManagerMessage_Register, nil:
			// A repeated registration says nothing new; an unknown message
			// comes from a newer version within the protocol's range.
		default:
			n.server.events.Message(n.id, m)
		}
	}
	n.hush()
	writer.Wait()
	n.server.leave(n)
	cause := n.cause()
	log.Info("task manager detached", "cause", cause)
	n.server.events.Detached(n.describe(), cause)
	close(n.done)
	return connect.NewError(connect.CodeAborted, cause)
}

// write sends what is queued and a heartbeat at every interval.
func (n *session) write() {
	cfg := n.server.cfg
	beat := make(chan struct{}, 1)
	tick := func() {
		select {
		case beat <- struct{}{}:
		default:
		}
	}
	for {
		stop := cfg.Clock.AfterFunc(cfg.Heartbeat, tick)
		var m *pb.JobManagerMessage
		for m == nil {
			select {
			case m = <-n.outgoing:
			case <-beat:
				m = &pb.JobManagerMessage{Body: &pb.JobManagerMessage_Heartbeat{
					Heartbeat: &pb.JobManagerHeartbeat{AtMs: cfg.Clock.Now().UnixMilli()}}}
			case <-n.ended:
				stop()
				return
			}
		}
		stop()
		if err := n.stream.Send(m); err != nil {
			n.end(api.Errorf(api.TaskManagerLost, "task manager %s: send: %w", n.id, err))
			return
		}
	}
}

// end ends the session; the first cause stays. It does not wait.
func (n *session) end(cause error) {
	n.mu.Lock()
	if n.mu.cause != nil {
		n.mu.Unlock()
		return
	}
	n.mu.cause = cause
	n.mu.Unlock()
	close(n.ended)
	n.stuck.cut()
}

func (n *session) cause() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.cause
}

// hear notes a sign of life and starts the time of silence anew.
func (n *session) hear() {
	cfg := n.server.cfg
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.silence != nil {
		n.mu.silence()
	}
	n.mu.heard = cfg.Clock.Now()
	n.mu.silence = cfg.Clock.AfterFunc(cfg.Timeout, func() {
		n.end(api.Errorf(api.TaskManagerLost, "task manager %s: silent for %s", n.id, cfg.Timeout))
	})
}

func (n *session) hush() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.silence != nil {
		n.mu.silence()
		n.mu.silence = nil
	}
}

func (n *session) send(m *pb.JobManagerMessage) error {
	select {
	case <-n.ended:
		return n.cause()
	default:
	}
	select {
	case n.outgoing <- m:
		return nil
	default:
		err := api.Errorf(api.TaskManagerBusy, "task manager %s: %d messages wait to be sent", n.id, cap(n.outgoing))
		n.end(err)
		return err
	}
}

func (n *session) ask(ctx context.Context, r *pb.Request) (*pb.Reply, error) {
	answer := make(chan *pb.Reply, 1)
	n.mu.Lock()
	n.mu.lastAsk++
	id := n.mu.lastAsk
	n.mu.asks[id] = answer
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		delete(n.mu.asks, id)
		n.mu.Unlock()
	}()
	r.Id = id
	if err := n.send(&pb.JobManagerMessage{Body: &pb.JobManagerMessage_Request{Request: r}}); err != nil {
		return nil, err
	}
	select {
	case a := <-answer:
		if e := api.FromProto(a.GetError()); e != nil {
			return nil, e
		}
		return a, nil
	case <-n.ended:
		return nil, n.cause()
	case <-ctx.Done():
		return nil, api.Errorf(api.TimedOut, "task manager %s did not answer in time: %w", n.id, ctx.Err())
	}
}

func (n *session) reply(r *pb.Reply) {
	n.mu.Lock()
	answer := n.mu.asks[r.GetId()]
	delete(n.mu.asks, r.GetId())
	n.mu.Unlock()
	if answer != nil {
		answer <- r
	}
}

func (n *session) describe() TaskManager {
	n.mu.Lock()
	defer n.mu.Unlock()
	return TaskManager{Register: n.reg, Since: n.since, Heard: n.mu.heard, Heartbeat: n.mu.heartbeat}
}
