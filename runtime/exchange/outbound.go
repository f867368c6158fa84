package exchange

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// dialPatience bounds how long a connection may take to be accepted: the
	// other worker may still be deploying.
	dialPatience = time.Minute
	// lossPatience is how long a lost connection is kept quiet: when the whole
	// attempt ends, connections go first, and the reason should be told.
	lossPatience = 200 * time.Millisecond
	// endPatience bounds the last write of a connection: a peer that hangs must
	// not hold up the recovery.
	endPatience = 100 * time.Millisecond
	// maxFreeBuffers bounds the buffers that a connection keeps for reuse,
	// maxFreeBuffer their size.
	maxFreeBuffers = 256
	maxFreeBuffer  = 128 << 10
)

// outbound is the connection that this worker opened to another: frames go
// out, credit comes back. Frames that wait to be written are bounded by the
// credits of the channels.
type outbound struct {
	n      *Network
	worker int
	// credits by channel; fixed before run.
	credits map[uint32]*credit
	wake    chan struct{}

	mu struct {
		sync.Mutex
		queue [][]byte
		free  [][]byte
	}
}

// credit is the sending half of a remote channel.
type credit struct {
	out     *outbound
	channel uint32
	bytes   atomic.Int64
	// bound is how many bytes the receiver lets the channel hold.
	bound atomic.Int64
	room  chan struct{}
}

func newOutbound(n *Network, worker int) *outbound {
	return &outbound{n: n, worker: worker, credits: make(map[uint32]*credit), wake: make(chan struct{}, 1)}
}

// open adds a channel.
func (o *outbound) open(channel uint32, bytes int) *credit {
	c := &credit{out: o, channel: channel, room: make(chan struct{}, 1)}
	c.bytes.Store(int64(bytes))
	c.bound.Store(int64(bytes))
	o.credits[channel] = c
	return c
}

func (c *credit) left() bool { return c.bytes.Load() > 0 }

// send takes a finished frame, and the buffer with it.
func (c *credit) send(frame []byte) {
	c.bytes.Add(-int64(cost(len(frame))))
	c.out.send(frame)
}

func (c *credit) add(bytes uint32) {
	if now := c.bytes.Add(int64(bytes)); now > 0 && now <= int64(bytes) {
		signal(c.room)
	}
}

func (o *outbound) send(frame []byte) {
	o.mu.Lock()
	o.mu.queue = append(o.mu.queue, frame)
	first := len(o.mu.queue) == 1
	o.mu.Unlock()
	if first {
		signal(o.wake)
	}
}

// buffer returns an empty buffer for a frame.
func (o *outbound) buffer() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	if k := len(o.mu.free); k > 0 {
		b := o.mu.free[k-1]
		o.mu.free = o.mu.free[:k-1]
		return b
	}
	return nil
}

// run opens the connection and carries frames until ctx ends (nil) or the
// connection is lost. It calls accepted once the other side took it.
func (o *outbound) run(ctx context.Context, accepted func()) error {
	conn, err := o.dial(ctx)
	if err != nil {
		return o.lost(ctx, "connect", err)
	}
	accepted()
	return o.carry(ctx, conn)
}

// carry runs an accepted connection.
func (o *outbound) carry(ctx context.Context, conn net.Conn) error {
	stop := hurry(ctx, conn)
	defer stop()
	read := make(chan error, 1)
	go func() { read <- o.read(bufio.NewReader(conn)) }()
	err := o.write(ctx, conn, read)
	_ = conn.Close()
	if err == nil {
		return nil
	}
	return o.lost(ctx, "connection", err)
}

// dial opens the connection and waits until it is accepted.
func (o *outbound) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialPatience)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", o.n.config.Workers[o.worker].GetDataAddress())
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	p := o.n.preface(o.worker)
	if _, err = conn.Write(p.append(nil)); err == nil {
		err = o.readAccepted(conn)
	}
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

func (o *outbound) readAccepted(conn net.Conn) error {
	f := frameReader{r: conn}
	kind, _, size, err := f.next()
	switch {
	case err != nil:
		return err
	case kind == frameAccepted && size == 0:
		return nil
	case kind == frameError && size <= maxPreface:
		body := make([]byte, size)
		if _, err := io.ReadFull(conn, body); err != nil {
			return err
		}
		return decodeRefusal(body)
	}
	return fmt.Errorf("%w: kind %d in answer to the preface", errCorrupt, kind)
}

// write sends what is queued, all that there is at once, until ctx ends or the
// reader has ended; it has, when write returns.
func (o *outbound) write(ctx context.Context, conn net.Conn, read chan error) error {
	var sending [][]byte
	var vector net.Buffers
	for {
		select {
		case <-ctx.Done():
			farewell(conn)
			_ = conn.Close()
			<-read
			return nil
		case err := <-read:
			if err == nil {
				// The other side is done; so will we be, when told.
				<-ctx.Done()
			}
			return err
		case <-o.wake:
		}
		o.mu.Lock()
		sending, o.mu.queue = o.mu.queue, sending[:0]
		o.mu.Unlock()
		vector = append(vector[:0], sending...)
		left := vector
		if _, err := left.WriteTo(conn); err != nil {
			_ = conn.Close()
			if readErr := <-read; readErr == nil {
				<-ctx.Done()
				return nil
			}
			return err
		}
		o.recycle(sending)
		clear(sending)
	}
}

func (o *outbound) recycle(buffers [][]byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, b := range buffers {
		if len(o.mu.free) < maxFreeBuffers && cap(b) <= maxFreeBuffer {
			o.mu.free = append(o.mu.free, b[:0])
		}
	}
}

// read takes in credit. It returns nil when the other side said that it ends.
func (o *outbound) read(r *bufio.Reader) error {
	f := frameReader{r: r}
	var body [8]byte
	for {
		kind, channel, size, err := f.next()
		if err != nil {
			return err
		}
		if kind == frameEnd && size == 0 {
			return nil
		}
		c := o.credits[channel]
		if kind != frameCredit || size != len(body) || c == nil {
			return fmt.Errorf("%w: kind %d of %d bytes on channel %d where credit is due", errCorrupt, kind, size, channel)
		}
		if _, err := io.ReadFull(r, body[:]); err != nil {
			return err
		}
		c.bound.Store(int64(binary.LittleEndian.Uint32(body[4:])))
		c.add(binary.LittleEndian.Uint32(body[:]))
	}
}

// lost says which two workers lost each other, unless the attempt ends anyway.
func (o *outbound) lost(ctx context.Context, what string, err error) error {
	var refused *RefusedError
	if !errors.As(err, &refused) {
		select {
		case <-ctx.Done():
		case <-time.After(lossPatience):
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("data plane: %s from worker %s to worker %s (%s): %w", what,
		o.n.workerName(o.n.config.Self), o.n.workerName(o.worker), o.n.config.Workers[o.worker].GetDataAddress(), err)
}

// hurry makes a write that is under way when ctx ends give up soon, even if the
// other side hangs.
func hurry(ctx context.Context, conn net.Conn) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = conn.SetWriteDeadline(time.Now().Add(endPatience)) })
}

// farewell tells the other side that this end of the attempt is over.
func farewell(conn net.Conn) {
	_ = conn.SetWriteDeadline(time.Now().Add(endPatience))
	b, _ := endFrame(beginFrame(nil, frameEnd, 0))
	_, _ = conn.Write(b)
}
