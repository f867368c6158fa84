package client

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"

	pb "github.com/millrace/millrace/proto/millrace/v1"
	"github.com/millrace/millrace/stream"
	"github.com/millrace/millrace/stream/block"
	"github.com/millrace/millrace/stream/wire"
)

// maxQueued bounds the requests that wait for a connection's writer; asking
// waits when it is full.
const maxQueued = 256

// connSlot is the connection to one address, or the dialing of it.
type connSlot struct {
	ready chan struct{} // closed once conn or err is set
	conn  *conn
	err   error
}

// conn is one connection. Its writer owns the sending half, its reader the
// receiving half; a call is in pending from before it is queued until it is
// answered, cancelled, or the connection ends.
type conn struct {
	address string
	nc      net.Conn
	out     chan outFrame
	done    chan struct{} // closed by fail

	mu struct {
		sync.Mutex
		err     error
		nextID  uint64
		pending map[uint64]*call
	}
}

type outFrame struct {
	head    []byte
	records block.Block
}

// call waits for one answer: exactly one send into the channel, which has room
// for it.
type call struct {
	answer chan answer
}

type answer struct {
	resp    *pb.ShardResponse
	records block.Block
	err     error
}

// ask sends one request to an address and waits for its answer. sent says that
// the other side may have seen it.
func (c *Client) ask(ctx context.Context, address string, req *pb.ShardRequest, records block.Block) (_ *pb.ShardResponse, _ block.Block, sent bool, _ error) {
	cn, err := c.connect(ctx, address)
	if err != nil {
		return nil, nil, false, err
	}
	cl := &call{answer: make(chan answer, 1)}
	id, err := cn.register(cl)
	if err != nil {
		return nil, nil, false, err
	}
	req.Id = id
	head, err := wire.AppendMessage(nil, req, records)
	if err != nil {
		cn.forget(id)
		return nil, nil, false, err
	}
	select {
	case cn.out <- outFrame{head, records}:
	case <-cn.done:
		return nil, nil, false, cn.failure()
	case <-ctx.Done():
		cn.forget(id)
		return nil, nil, false, stream.Errorf(stream.Unavailable, "ask %s: %w", address, ctx.Err())
	}
	select {
	case a := <-cl.answer:
		return a.resp, a.records, true, a.err
	case <-ctx.Done():
		if cn.forget(id) {
			cn.cancel(id)
		}
		return nil, nil, true, stream.Errorf(stream.Unavailable, "wait for the answer of %s: %w", address, ctx.Err())
	}
}

// connect returns the connection to an address, dialing if there is none.
func (c *Client) connect(ctx context.Context, address string) (*conn, error) {
	c.mu.Lock()
	if c.mu.closed {
		c.mu.Unlock()
		return nil, stream.Errorf(stream.Unavailable, "the client of the shards is closed")
	}
	slot := c.mu.conns[address]
	if slot == nil {
		slot = &connSlot{ready: make(chan struct{})}
		c.mu.conns[address] = slot
		c.mu.Unlock()
		if !c.start(func() { c.serve(address, slot) }) {
			slot.err = stream.Errorf(stream.Unavailable, "the client of the shards is closed")
			close(slot.ready)
		}
	} else {
		c.mu.Unlock()
	}
	select {
	case <-slot.ready:
	case <-ctx.Done():
		return nil, stream.Errorf(stream.Unavailable, "connect to %s: %w", address, ctx.Err())
	}
	return slot.conn, slot.err
}

// serve dials, publishes the connection in its slot and runs it to its end.
func (c *Client) serve(address string, slot *connSlot) {
	drop := func() {
		c.mu.Lock()
		if c.mu.conns[address] == slot {
			delete(c.mu.conns, address)
		}
		c.mu.Unlock()
	}
	nc, err := c.dial(address)
	if err != nil {
		slot.err = stream.Errorf(stream.Unavailable, "connect to the shard socket at %s: %w", address, err)
		drop()
		close(slot.ready)
		return
	}
	cn := &conn{address: address, nc: nc, out: make(chan outFrame, maxQueued), done: make(chan struct{})}
	cn.mu.pending = make(map[uint64]*call)
	slot.conn = cn
	close(slot.ready)

	stop := context.AfterFunc(c.ctx, func() { cn.fail(errors.New("the client is closed")) })
	var writer sync.WaitGroup
	writer.Go(cn.write)
	cn.fail(cn.read())
	drop()
	stop()
	writer.Wait()
}

func (c *Client) dial(address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(c.ctx, dialTimeout)
	defer cancel()
	nc, err := c.cfg.Dial(ctx, address)
	if err != nil {
		return nil, err
	}
	if err := wire.WritePreface(nc); err != nil {
		_ = nc.Close()
		return nil, err
	}
	return nc, nil
}

func (cn *conn) register(cl *call) (uint64, error) {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	if cn.mu.err != nil {
		return 0, cn.mu.err
	}
	cn.mu.nextID++
	cn.mu.pending[cn.mu.nextID] = cl
	return cn.mu.nextID, nil
}

func (cn *conn) forget(id uint64) bool {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	_, there := cn.mu.pending[id]
	delete(cn.mu.pending, id)
	return there
}

// cancel tells the host that nobody waits any more; it is a courtesy, left out
// when the queue is full.
func (cn *conn) cancel(id uint64) {
	head, err := wire.AppendMessage(nil, &pb.ShardRequest{Body: &pb.ShardRequest_Cancel{Cancel: &pb.ShardCancel{Request: id}}}, nil)
	if err != nil {
		return
	}
	select {
	case cn.out <- outFrame{head: head}:
	default:
	}
}

func (cn *conn) failure() error {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	return cn.mu.err
}

// fail ends the connection once; every pending call learns why.
func (cn *conn) fail(cause error) {
	cn.mu.Lock()
	if cn.mu.err != nil {
		cn.mu.Unlock()
		return
	}
	cn.mu.err = stream.Errorf(stream.Unavailable, "connection to the shard socket at %s: %w", cn.address, cause)
	pending, err := cn.mu.pending, cn.mu.err
	cn.mu.pending = nil
	cn.mu.Unlock()
	close(cn.done)
	_ = cn.nc.Close()
	for _, cl := range pending {
		cl.answer <- answer{err: err}
	}
}

// write sends queued frames, those that wait together in one system call.
func (cn *conn) write() {
	var buffers net.Buffers
	for {
		buffers = buffers[:0]
		select {
		case f := <-cn.out:
			buffers = appendFrame(buffers, f)
		case <-cn.done:
			return
		}
	more:
		for len(buffers) < 128 {
			select {
			case f := <-cn.out:
				buffers = appendFrame(buffers, f)
			default:
				break more
			}
		}
		// WriteTo consumes the slice that it is called on.
		sending := buffers
		if _, err := sending.WriteTo(cn.nc); err != nil {
			cn.fail(err)
			return
		}
		clear(buffers)
	}
}

func appendFrame(buffers net.Buffers, f outFrame) net.Buffers {
	buffers = append(buffers, f.head)
	if len(f.records) > 0 {
		buffers = append(buffers, f.records)
	}
	return buffers
}

// read hands answers to their calls until the connection ends.
func (cn *conn) read() error {
	r := wire.NewReader(cn.nc)
	if err := r.Preface(); err != nil {
		return err
	}
	for {
		resp := &pb.ShardResponse{}
		records, err := r.Next(resp)
		if errors.Is(err, io.EOF) {
			return errors.New("closed by the host")
		}
		if err != nil {
			return err
		}
		cn.mu.Lock()
		cl := cn.mu.pending[resp.GetId()]
		delete(cn.mu.pending, resp.GetId())
		cn.mu.Unlock()
		if cl != nil {
			cl.answer <- answer{resp: resp, records: records}
		}
	}
}
