package control

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/millrace/millrace/api"
	"github.com/millrace/millrace/internal/clock"

	pb "github.com/millrace/millrace/proto/millrace/v1"
	"github.com/millrace/millrace/proto/millrace/v1/pbconnect"
)

// Protocol is the version of the control link that this program speaks.
const Protocol = 1

// Config of a Server. Zero durations and sizes are the defaults named.
type Config struct {
	ClusterID   string
	LeaderEpoch uint64
	// Bucket is the URL that task managers and workers open.
	Bucket string
	// Heartbeat is the time between two heartbeats (500 ms), Timeout the
	// silence after which a task manager is lost (2 s).
	Heartbeat, Timeout time.Duration
	// Queue bounds the messages that wait to be sent to one task manager
	// (8192).
	Queue int
	// MaxMessage bounds one message in bytes (64 MiB).
	MaxMessage int
	Clock      clock.Clock
	Log        *slog.Logger
}

// Events is what the owner of a Server hears.
type Events interface {
	// Attached: the task manager has registered and can be sent to.
	Attached(tm TaskManager)
	// Message: it sent one that is not part of the link itself.
	Message(tm string, m *pb.TaskManagerMessage)
	// Detached: it is lost. cause has a code of the catalogue.
	Detached(tm TaskManager, cause error)
}

// TaskManager is one that is attached.
type TaskManager struct {
	*pb.Register
	// Since is when it registered, Heard when it last said anything.
	Since, Heard time.Time
	// Heartbeat is the last one, nil before the first.
	Heartbeat *pb.TaskManagerHeartbeat
}

// Server serves the control link. Close ends it.
type Server struct {
	cfg    Config
	events Events

	mu struct {
		sync.Mutex
		sessions map[string]*session
		closed   bool
	}
}

// New returns a server that delivers to events.
func New(cfg Config, events Events) *Server {
	cfg.Heartbeat = cmp.Or(cfg.Heartbeat, 500*time.Millisecond)
	cfg.Timeout = cmp.Or(cfg.Timeout, 2*time.Second)
	cfg.Queue = cmp.Or(cfg.Queue, 8192)
	cfg.MaxMessage = cmp.Or(cfg.MaxMessage, 64<<20)
	if cfg.Clock == nil {
		cfg.Clock = clock.System
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	s := &Server{cfg: cfg, events: events}
	s.mu.sessions = map[string]*session{}
	return s
}

// Handler is the HTTP handler of the link and the path to mount it at. Its
// HTTP server must speak HTTP/2.
func (s *Server) Handler() (string, http.Handler) {
	path, h := pbconnect.NewControlHandler(s, connect.WithReadMaxBytes(s.cfg.MaxMessage))
	return path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &cutter{}
		c.mu.rc = http.NewResponseController(w)
		defer c.release()
		h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), cutterKey{}, c)))
	})
}

type cutterKey struct{}

// cutter ends a Receive or Send that blocks, from any goroutine: the stream's
// deadlines are the only way to do that. They must not be touched once the
// handler has returned.
type cutter struct {
	mu struct {
		sync.Mutex
		rc *http.ResponseController // nil once the handler has returned
	}
}

func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.rc == nil {
		return
	}
	past := time.Unix(1, 0)
	// Every HTTP/2 server of net/http has both; without them the end of the
	// connection would end the stream.
	_ = c.mu.rc.SetReadDeadline(past)
	_ = c.mu.rc.SetWriteDeadline(past)
}

func (c *cutter) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.rc = nil
}

// Attach serves one stream until it ends. It implements
// pbconnect.ControlHandler.
func (s *Server) Attach(ctx context.Context, stream *connect.BidiStream[pb.TaskManagerMessage, pb.JobManagerMessage]) error {
	cut, _ := ctx.Value(cutterKey{}).(*cutter)
	if cut == nil {
		return connect.NewError(connect.CodeInternal, errors.New("control link: not served through Server.Handler"))
	}
	n := newSession(s, stream, cut)
	if err := n.register(); err != nil {
		return connect.NewError(connect.CodeFailedPrecondition, err)
	}
	return n.serve()
}

// take makes n the session of its id and ends the one before it.
func (s *Server) take(n *session) error {
	for {
		s.mu.Lock()
		if s.mu.closed {
			s.mu.Unlock()
			return api.Errorf(api.ShuttingDown, "job manager is shutting down")
		}
		before := s.mu.sessions[n.id]
		if before == nil {
			s.mu.sessions[n.id] = n
			s.mu.Unlock()
			return nil
		}
		s.mu.Unlock()
		before.end(api.Errorf(api.TaskManagerReplaced, "task manager %s registered again", n.id))
		<-before.done
	}
}

func (s *Server) leave(n *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.sessions[n.id] == n {
		delete(s.mu.sessions, n.id)
	}
}

func (s *Server) session(id string) (*session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.mu.sessions[id]; n != nil {
		return n, nil
	}
	return nil, api.Errorf(api.TaskManagerNotFound, "task manager %s is not attached", id)
}

// Send queues a message for a task manager. An error says that it is not
// attached, or was ended because its queue is full.
func (s *Server) Send(id string, m *pb.JobManagerMessage) error {
	n, err := s.session(id)
	if err != nil {
		return err
	}
	return n.send(m)
}

// Broadcast queues a message for all task managers.
func (s *Server) Broadcast(m *pb.JobManagerMessage) {
	for _, n := range s.all() {
		// One that cannot take it is ended by that.
		_ = n.send(m)
	}
}

// Ask sends a request and waits for its reply. The request's id is set here.
func (s *Server) Ask(ctx context.Context, id string, r *pb.Request) (*pb.Reply, error) {
	n, err := s.session(id)
	if err != nil {
		return nil, err
	}
	return n.ask(ctx, r)
}

// TaskManagers lists those attached, by id.
func (s *Server) TaskManagers() []TaskManager {
	var all []TaskManager
	for _, n := range s.all() {
		all = append(all, n.describe())
	}
	return all
}

// TaskManager returns the one of this id, if it is attached.
func (s *Server) TaskManager(id string) (TaskManager, bool) {
	n, err := s.session(id)
	if err != nil {
		return TaskManager{}, false
	}
	return n.describe(), true
}

func (s *Server) all() []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*session, 0, len(s.mu.sessions))
	for _, n := range s.mu.sessions {
		all = append(all, n)
	}
	slices.SortFunc(all, func(a, b *session) int { return cmp.Compare(a.id, b.id) })
	return all
}

// Close ends all streams and waits until their Detached were delivered.
func (s *Server) Close() {
	s.mu.Lock()
	s.mu.closed = true
	s.mu.Unlock()
	for _, n := range s.all() {
		n.end(api.Errorf(api.ShuttingDown, "job manager is shutting down"))
		<-n.done
	}
}
