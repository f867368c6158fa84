package exchange

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Defaults of Config, per channel.
const (
	DefaultRows   = 4 * 512
	DefaultBytes  = 256 << 10
	DefaultCredit = 256 << 10
)

// ErrEnded is what a waiting Writer returns when its network has ended without
// a failure: the attempt was cancelled, or the job is finished.
var ErrEnded = errors.New("exchange: the attempt has ended")

// Config describes one attempt of a job as one worker sees it.
type Config struct {
	JobID string
	Epoch uint64
	// Token is shared by the workers of the job; it may be empty.
	Token string
	Graph *pb.JobGraph
	// Workers of the attempt; slot i, and with it subtask i of every vertex,
	// is at Workers[SlotWorker[i]]. Self is this worker.
	Workers    []*pb.WorkerAddress
	SlotWorker []uint32
	Self       int
	// Listener takes the connections of the other workers. It may be nil
	// when there are none.
	Listener *Listener
	// Rows and Bytes bound what a local channel holds, Credit what a remote
	// one does; one batch may overdraw them. 0 is the default.
	Rows, Bytes, Credit int
}

// Validate checks what can be known before the graph is.
func (c *Config) Validate() error {
	if c.Self < 0 || c.Self >= len(c.Workers) {
		return fmt.Errorf("exchange: worker index %d of %d", c.Self, len(c.Workers))
	}
	for slot, w := range c.SlotWorker {
		if int(w) >= len(c.Workers) {
			return fmt.Errorf("exchange: slot %d is at worker %d of %d", slot, w, len(c.Workers))
		}
	}
	for _, v := range c.Graph.GetVertices() {
		if int(v.GetParallelism()) > len(c.SlotWorker) {
			return fmt.Errorf("exchange: vertex %s has %d subtasks, the deployment %d slots", v.GetName(), v.GetParallelism(), len(c.SlotWorker))
		}
	}
	if len(c.Workers) > 1 && c.Listener == nil {
		return errors.New("exchange: several workers and no data listener")
	}
	if c.Rows < 0 || c.Bytes < 0 || c.Credit < 0 {
		return errors.New("exchange: a bound of a channel is negative")
	}
	return nil
}

// Network is the data plane of one worker in one attempt.
type Network struct {
	config   Config
	topology *Topology

	connected chan struct{}
	done      chan struct{}
	accepted  chan *inbound

	// mu guards what wiring changes. Once started, ends and writers are
	// fixed and read without it.
	mu struct {
		sync.Mutex
		// ends are the receiving ends of this worker by channel number.
		ends    map[uint32]end
		writers []joiner
		started bool
		err     error
	}
	// peers are the outgoing connections by worker index, nil where no
	// channel leads. Fixed before the first connection.
	peers []*outbound
}

// end is the receiving end of a channel: a gate, and the channel's index there.
type end struct {
	gate    *gate
	channel int
}

// joiner is a writer that still has to find its receivers.
type joiner interface {
	// workers calls f with every worker that the writer sends to.
	workers(f func(worker int))
	join() error
}

// NewNetwork returns a network without ends. It starts nothing.
func NewNetwork(c Config) (*Network, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	t, err := NewTopology(c.Graph)
	if err != nil {
		return nil, err
	}
	if c.Rows == 0 {
		c.Rows = DefaultRows
	}
	if c.Bytes == 0 {
		c.Bytes = DefaultBytes
	}
	if c.Credit == 0 {
		c.Credit = DefaultCredit
	}
	n := &Network{
		config: c, topology: t,
		connected: make(chan struct{}), done: make(chan struct{}),
		accepted: make(chan *inbound),
		peers:    make([]*outbound, len(c.Workers)),
	}
	n.mu.ends = make(map[uint32]end)
	return n, nil
}

// Topology is the numbered edges of the graph.
func (n *Network) Topology() *Topology { return n.topology }

// Worker returns the worker of a subtask.
func (n *Network) Worker(subtask int) int { return int(n.config.SlotWorker[subtask]) }

// Local says whether a subtask runs in this worker.
func (n *Network) Local(subtask int) bool { return n.Worker(subtask) == n.config.Self }

// Connected is closed once local ends are joined and every connection that
// this worker opens has been accepted.
func (n *Network) Connected() <-chan struct{} { return n.connected }

// Done is closed when the network ends; nothing waits in it afterwards.
func (n *Network) Done() <-chan struct{} { return n.done }

// Err is why the network ended: ErrEnded, or the failure. Nil before.
func (n *Network) Err() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.err
}

func (n *Network) addEnd(channel uint32, e end) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.started {
		return errors.New("a gate was made after the network ran")
	}
	if _, ok := n.mu.ends[channel]; ok {
		return fmt.Errorf("channel %d has two gates", channel)
	}
	n.mu.ends[channel] = e
	return nil
}

func (n *Network) addWriter(w joiner) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.writers = append(n.mu.writers, w)
}

// Run joins the local ends, connects the workers and carries their frames
// until ctx ends (nil) or a connection fails (an error that names both
// workers). Call it once, when all gates and writers are made. Every goroutine
// of the network has ended when it returns.
func (n *Network) Run(ctx context.Context) error {
	err := n.run(ctx)
	n.mu.Lock()
	n.mu.err = err
	if err == nil {
		n.mu.err = ErrEnded
	}
	n.mu.Unlock()
	close(n.done)
	return err
}

func (n *Network) run(ctx context.Context) error {
	if err := n.join(); err != nil {
		return err
	}
	if n.config.Listener != nil {
		if err := n.config.Listener.attach(n); err != nil {
			return err
		}
		defer n.config.Listener.detach()
	}
	group, running := errgroup.WithContext(ctx)
	var missing atomic.Int64
	missing.Store(1)
	accepted := func() {
		if missing.Add(-1) == 0 {
			close(n.connected)
		}
	}
	for _, peer := range n.peers {
		if peer != nil {
			missing.Add(1)
			group.Go(func() error { return peer.run(running, accepted) })
		}
	}
	accepted()
	n.serve(running, group)
	if err := group.Wait(); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// serve runs the connections that the other workers open, until ctx ends.
func (n *Network) serve(ctx context.Context, group *errgroup.Group) {
	seen := make(map[int]bool)
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-n.accepted:
			if seen[c.worker] {
				_ = c.conn.Close()
				continue
			}
			seen[c.worker] = true
			for _, e := range n.mu.ends {
				if n.Worker(e.gate.sender(e.channel)) == c.worker {
					e.gate.bind(e.channel, c)
				}
			}
			group.Go(func() error { return c.run(ctx) })
		}
	}
}

// join finds the workers that writers send to and gives writers their ends.
func (n *Network) join() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.started {
		return errors.New("exchange: a network runs once")
	}
	n.mu.started = true
	for _, w := range n.mu.writers {
		w.workers(func(worker int) {
			if worker != n.config.Self && n.peers[worker] == nil {
				n.peers[worker] = newOutbound(n, worker)
			}
		})
	}
	for _, w := range n.mu.writers {
		if err := w.join(); err != nil {
			return err
		}
	}
	return nil
}

// admit takes a connection off the listener, if it is one that may be. keep
// stops what else would close it.
func (n *Network) admit(ctx context.Context, p preface, conn net.Conn, keep func() bool) error {
	if int(p.sender) >= len(n.config.Workers) || int(p.sender) == n.config.Self || int(p.receiver) != n.config.Self {
		return &RefusedError{Code: "stale-epoch", Message: fmt.Sprintf("a connection from worker %d to worker %d reached worker %d of %d", p.sender, p.receiver, n.config.Self, len(n.config.Workers))}
	}
	if !keep() {
		return ctx.Err()
	}
	_ = conn.SetReadDeadline(time.Time{})
	select {
	case n.accepted <- newInbound(n, int(p.sender), conn):
		return nil
	case <-n.done:
		return &RefusedError{Code: "stale-epoch", Message: fmt.Sprintf("epoch %d of job %s is over", p.epoch, p.job)}
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (n *Network) preface(worker int) preface {
	return preface{
		job: n.config.JobID, epoch: n.config.Epoch, token: n.config.Token,
		sender: uint32(n.config.Self), receiver: uint32(worker),
	}
}

// park is how a writer waits that was given no other way.
func (n *Network) park(room <-chan struct{}) (pressed bool, err error) {
	select {
	case <-room:
		return false, nil
	case <-n.done:
		return false, n.Err()
	}
}

func (n *Network) workerName(worker int) string { return n.config.Workers[worker].GetWorkerId() }

// senderName names a sending subtask, for messages.
func (n *Network) senderName(e *Edge, subtask int) string {
	return fmt.Sprintf("%s/%d", n.config.Graph.GetVertices()[e.From].GetName(), subtask)
}
