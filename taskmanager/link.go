package taskmanager

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	goruntime "runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"github.com/millrace/millrace/cluster"
	pb "github.com/millrace/millrace/proto/millrace/v1"
	"github.com/millrace/millrace/proto/millrace/v1/pbconnect"
	"github.com/millrace/millrace/stream"
	"github.com/millrace/millrace/taskmanager/supervise"
)

const (
	// protocolVersion is the version of the control link spoken here.
	protocolVersion = 1
	// maxMessage bounds one message of the link in bytes.
	maxMessage = 64 << 20
	// firstRetry and lastRetry bound the time between two tries to attach.
	firstRetry = 50 * time.Millisecond
	lastRetry  = 500 * time.Millisecond
	// openBucket bounds the opening of a bucket while the job manager waits.
	openBucket = 10 * time.Second
)

// dialer makes the one connection of a link. HTTP/2 looks at the context of a
// stream only between two writes of its request body, so a link whose peer is
// stopped is ended by closing the connection under it.
type dialer struct {
	transport *http.Transport
	token     string
	dial      net.Dialer
	mu        struct {
		sync.Mutex
		conns  []net.Conn
		closed bool
	}
}

// client returns a client for one stream and what its connection hangs on.
func (t *TaskManager) client(address string) (pbconnect.ControlClient, *dialer) {
	d := &dialer{token: t.config.Token, dial: net.Dialer{Timeout: t.config.Timeout}}
	d.transport = &http.Transport{DialContext: d.connect, DisableCompression: true, Protocols: &http.Protocols{}}
	url := address
	if !strings.Contains(url, "://") {
		scheme := "http://"
		if t.config.TLS != nil {
			scheme = "https://"
		}
		url = scheme + address
	}
	if strings.HasPrefix(url, "https:") {
		d.transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		if t.config.TLS != nil {
			d.transport.TLSClientConfig = t.config.TLS.Clone()
		}
		d.transport.Protocols.SetHTTP2(true)
	} else {
		d.transport.Protocols.SetUnencryptedHTTP2(true)
	}
	return pbconnect.NewControlClient(&http.Client{Transport: d}, url,
		connect.WithReadMaxBytes(maxMessage), connect.WithAcceptCompression("gzip", nil, nil)), d
}

func (d *dialer) connect(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := d.dial.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.closed {
		return nil, errors.Join(net.ErrClosed, conn.Close())
	}
	d.mu.conns = append(d.mu.conns, conn)
	return conn, nil
}

// RoundTrip adds the token.
func (d *dialer) RoundTrip(r *http.Request) (*http.Response, error) {
	if d.token != "" {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+d.token)
	}
	return d.transport.RoundTrip(r)
}

// close ends the connection and everything that waits for it.
func (d *dialer) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.closed = true
	for _, c := range d.mu.conns {
		// It is closed already where the peer went first.
		_ = c.Close()
	}
}

// link is one stream to a job manager, from dialling to its end.
type link struct {
	t          *TaskManager
	address    string
	out        chan *pb.TaskManagerMessage
	registered atomic.Bool
	epoch      uint64
	target     supervise.Target
	ctx        context.Context
	end        context.CancelCauseFunc

	mu struct {
		sync.Mutex
		lastCall uint64
		calls    map[uint64]chan *pb.StreamReply
	}
}

// up sends something to the job manager that is attached; without one it is
// dropped. It never blocks.
func (t *TaskManager) up(m *pb.TaskManagerMessage) {
	if l := t.link.Load(); l != nil {
		l.send(m)
	}
}

// send queues a message. Before the registration only starts and ends of
// workers are kept, since the list that registers them may be older. A full
// queue ends the link: a gap would be worse than a new beginning.
func (l *link) send(m *pb.TaskManagerMessage) {
	if !l.registered.Load() && m.GetWorkerStarted() == nil && m.GetWorkerExited() == nil {
		return
	}
	select {
	case l.out <- m:
	default:
		l.end(fmt.Errorf("the job manager takes nothing: %d messages wait", cap(l.out)))
	}
}

// stayAttached attaches again and again.
func (t *TaskManager) stayAttached(ctx context.Context, members *cluster.Cluster) error {
	select {
	case <-t.supervisor.Running():
	case <-ctx.Done():
		return nil
	}
	retry := firstRetry
	said := ""
	for ctx.Err() == nil {
		address := t.leader(members)
		if address != "" {
			began := time.Now()
			err := t.attach(ctx, address, members)
			if ctx.Err() != nil {
				break
			}
			if time.Since(began) > 4*lastRetry {
				retry, said = firstRetry, ""
			}
			if members != nil {
				members.Hurry() // the next leader may be where the last one was
			}
			if text := err.Error(); text != said {
				said = text // say it once, not at every try
				t.config.Log.Warn("no job manager attached, trying again", "address", address, "error", err)
			}
		}
		var changed <-chan struct{}
		if members != nil {
			changed = members.Changes()
		}
		// Jitter: task managers that lost one leader do not come back at once.
		timer := time.NewTimer(retry/2 + rand.N(retry/2))
		select {
		case <-ctx.Done():
		case <-changed:
		case <-timer.C:
			retry = min(2*retry, lastRetry)
		}
		timer.Stop()
	}
	return nil
}

// leader is where to attach now, empty while nobody is known to lead.
func (t *TaskManager) leader(members *cluster.Cluster) string {
	if members == nil {
		return t.config.JobManager
	}
	if m, ok := members.Leader(); ok {
		return m.ControlAddress
	}
	return ""
}

// attach serves one link until it ends, and says why it did.
func (t *TaskManager) attach(ctx context.Context, address string, members *cluster.Cluster) error {
	l := &link{t: t, address: address, out: make(chan *pb.TaskManagerMessage, t.config.Queue)}
	l.mu.calls = map[uint64]chan *pb.StreamReply{}
	l.ctx, l.end = context.WithCancelCause(ctx)
	// Before the list of workers is made, so that no change of it is missed.
	t.link.Store(l)
	client, connection := t.client(address)
	rpc := client.Attach(l.ctx)
	var group sync.WaitGroup
	group.Go(func() {
		<-l.ctx.Done()
		connection.close()
	})
	defer func() {
		t.link.Store(nil)
		l.end(errors.New("link ended"))
		group.Wait()
		// Ends of a stream that is over anyway.
		_ = rpc.CloseRequest()
		_ = rpc.CloseResponse()
		connection.transport.CloseIdleConnections()
	}()
	silence := time.AfterFunc(t.config.Timeout, func() {
		l.end(fmt.Errorf("the job manager at %s was silent for %v", address, t.config.Timeout))
	})
	defer silence.Stop()
	accepted, err := l.register(rpc)
	if err != nil {
		return l.why(err)
	}
	group.Go(func() { l.write(rpc) })
	silence.Stop() // opening a bucket may take longer
	if err := l.settle(accepted, members); err != nil {
		return l.why(err)
	}
	if members != nil {
		group.Go(func() { l.watchLeader(members) })
	}
	for {
		silence.Reset(t.config.Timeout)
		m, err := rpc.Receive()
		if err != nil {
			return l.why(err)
		}
		l.obey(&group, m)
	}
}

// why prefers the reason for which this side ended the link.
func (l *link) why(err error) error {
	if cause := context.Cause(l.ctx); cause != nil {
		return cause
	}
	return fmt.Errorf("control link to %s: %w", l.address, err)
}

// register introduces this task manager and returns the answer, if it is one
// of a leader that this one may follow.
func (l *link) register(rpc *connect.BidiStreamForClient[pb.TaskManagerMessage, pb.JobManagerMessage]) (*pb.Registered, error) {
	t := l.t
	err := rpc.Send(&pb.TaskManagerMessage{Body: &pb.TaskManagerMessage_Register{Register: &pb.Register{
		Id: t.folder.id, ClusterId: t.folder.clusterID(), ProtocolMin: protocolVersion, ProtocolMax: protocolVersion,
		Slots: uint32(t.config.Slots), SlotMemory: t.config.SlotMemory, ShardAddress: t.shards.address,
		KinesisAddress: t.config.KinesisAddress, Host: t.config.Advertise, Hardware: hardware(goruntime.NumCPU()),
		Version: t.config.Version, Incarnation: t.incarnation, Workers: t.supervisor.Workers(),
	}}})
	if err != nil {
		// The stream's own error tells more than that it cannot be sent on.
		if _, received := rpc.Receive(); received != nil {
			err = received
		}
		return nil, err
	}
	m, err := rpc.Receive()
	if err != nil {
		return nil, err
	}
	r := m.GetRegistered()
	switch e := r.GetError(); {
	case r == nil:
		return nil, errors.New("it answered the registration with something else")
	case e != nil:
		return nil, fmt.Errorf("registration refused: %s (%s)", e.GetMessage(), e.GetCode())
	case r.GetProtocol() != protocolVersion:
		return nil, fmt.Errorf("the job manager speaks version %d of the control link, this task manager %d", r.GetProtocol(), protocolVersion)
	}
	t.mu.Lock()
	highest := t.mu.epoch
	t.mu.epoch = max(highest, r.GetLeaderEpoch())
	t.mu.Unlock()
	if r.GetLeaderEpoch() < highest {
		return nil, fmt.Errorf("the job manager leads in epoch %d, another one in %d: it is not the leader any more", r.GetLeaderEpoch(), highest)
	}
	return r, nil
}

// settle makes the registration count: from here on messages go up.
func (l *link) settle(r *pb.Registered, members *cluster.Cluster) error {
	t := l.t
	if err := t.folder.belongTo(r.GetClusterId()); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(l.ctx, openBucket)
	defer cancel()
	bucket, err := t.bucket(ctx, r.GetBucket())
	if err != nil {
		return fmt.Errorf("the bucket that the job manager names: %w", err)
	}
	l.epoch = r.GetLeaderEpoch()
	l.target = supervise.Target{Bucket: bucket, URL: r.GetBucket()}
	if members != nil {
		if err := members.Update(cluster.Meta{ClusterID: r.GetClusterId()}); err != nil {
			t.config.Log.Warn("gossip", "error", err)
		}
	}
	l.registered.Store(true)
	t.config.Log.Info("attached to job manager", "address", l.address, "epoch", l.epoch, "cluster", r.GetClusterId())
	return nil
}

// write sends what is queued, and heartbeats.
func (l *link) write(rpc *connect.BidiStreamForClient[pb.TaskManagerMessage, pb.JobManagerMessage]) {
	beat := time.NewTicker(l.t.config.Heartbeat)
	defer beat.Stop()
	for {
		var m *pb.TaskManagerMessage
		select {
		case <-l.ctx.Done():
			return
		case m = <-l.out:
		case <-beat.C:
			_, free := memory()
			m = &pb.TaskManagerMessage{Body: &pb.TaskManagerMessage_Heartbeat{Heartbeat: &pb.TaskManagerHeartbeat{
				AtMs: time.Now().UnixMilli(), FreeMemoryBytes: free, ResidentBytes: selfResident() + l.t.supervisor.Resident()}}}
		}
		if err := rpc.Send(m); err != nil {
			return // Receive fails too, and with the better reason
		}
	}
}

// watchLeader ends the link when gossip knows a newer leader elsewhere. It is
// a hint: should it be wrong, the next try leads back here.
func (l *link) watchLeader(members *cluster.Cluster) {
	tick := time.NewTicker(l.t.config.Heartbeat)
	defer tick.Stop()
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-tick.C:
		}
		if m, ok := members.Leader(); ok && m.LeaderEpoch > l.epoch && m.ControlAddress != l.address {
			l.end(fmt.Errorf("%s leads in epoch %d, the job manager at %s in %d", m.Name, m.LeaderEpoch, l.address, l.epoch))
			return
		}
	}
}

// obey does what a job manager says. Nothing here waits for a worker, the
// disk or the network.
func (l *link) obey(group *sync.WaitGroup, m *pb.JobManagerMessage) {
	t := l.t
	switch body := m.GetBody().(type) {
	case *pb.JobManagerMessage_StartWorker:
		t.supervisor.StartWorker(l.target, body.StartWorker)
	case *pb.JobManagerMessage_ResizeWorker:
		t.supervisor.ResizeWorker(body.ResizeWorker)
	case *pb.JobManagerMessage_StopWorker:
		t.supervisor.StopWorker(body.StopWorker)
	case *pb.JobManagerMessage_ToWorker:
		t.supervisor.Command(body.ToWorker.GetWorkerId(), body.ToWorker.GetCommand())
	case *pb.JobManagerMessage_Catalog:
		t.offerCatalog(body.Catalog)
	case *pb.JobManagerMessage_StreamReply:
		l.reply(body.StreamReply)
	case *pb.JobManagerMessage_Request:
		select {
		case t.asked <- struct{}{}:
			group.Go(func() {
				defer func() { <-t.asked }()
				t.answer(l.ctx, l, body.Request)
			})
		default:
			l.send(&pb.TaskManagerMessage{Body: &pb.TaskManagerMessage_Reply{Reply: &pb.Reply{Id: body.Request.GetId(),
				Error: &pb.Error{Code: codeBusy, Message: fmt.Sprintf("task manager %s is answering %d requests: try again", t.folder.id, cap(t.asked))}}}})
		}
	}
}

// call sends a stream call and waits for its reply.
func (l *link) call(ctx context.Context, command *pb.StreamCommand) (*pb.StreamReply, error) {
	answer := make(chan *pb.StreamReply, 1)
	l.mu.Lock()
	l.mu.lastCall++
	id := l.mu.lastCall
	l.mu.calls[id] = answer
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		delete(l.mu.calls, id)
		l.mu.Unlock()
	}()
	l.send(&pb.TaskManagerMessage{Body: &pb.TaskManagerMessage_StreamCall{StreamCall: &pb.StreamCall{Id: id, Command: command}}})
	select {
	case reply := <-answer:
		return reply, nil
	case <-l.ctx.Done():
		return nil, stream.Errorf(stream.Unavailable, "the job manager went away before it answered; the change may have been made: %w", context.Cause(l.ctx))
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *link) reply(r *pb.StreamReply) {
	l.mu.Lock()
	answer := l.mu.calls[r.GetId()]
	delete(l.mu.calls, r.GetId())
	l.mu.Unlock()
	if answer != nil {
		answer <- r
	}
}
