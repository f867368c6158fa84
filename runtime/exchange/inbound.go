package exchange

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// inbound is a connection that another worker opened: frames come in, credit
// goes back. Its reader only hands frames to the queues of their channels.
type inbound struct {
	n      *Network
	worker int
	conn   net.Conn
	wake   chan struct{}

	mu struct {
		sync.Mutex
		// out holds credit frames to be written. Its size is bounded: each
		// stands for a quarter of a channel's credit.
		out  []byte
		free [][]byte
	}
}

func newInbound(n *Network, worker int, conn net.Conn) *inbound {
	return &inbound{n: n, worker: worker, conn: conn, wake: make(chan struct{}, 1)}
}

// credit gives bytes back to the sender of a channel, and says how many the
// channel may hold now.
func (c *inbound) credit(channel uint32, bytes, bound int) {
	c.mu.Lock()
	c.mu.out = appendCredit(c.mu.out, channel, uint32(bytes), uint32(bound))
	c.mu.Unlock()
	signal(c.wake)
}

// recycle takes back the body of a batch frame.
func (c *inbound) recycle(body []byte) {
	if cap(body) > maxFreeBuffer {
		return
	}
	c.mu.Lock()
	if len(c.mu.free) < maxFreeBuffers {
		c.mu.free = append(c.mu.free, body)
	}
	c.mu.Unlock()
}

func (c *inbound) buffer(size int) []byte {
	c.mu.Lock()
	if k := len(c.mu.free); k > 0 {
		b := c.mu.free[k-1]
		c.mu.free = c.mu.free[:k-1]
		c.mu.Unlock()
		if cap(b) >= size {
			return b[:size]
		}
		return make([]byte, size, max(size, min(2*cap(b), maxFreeBuffer)))
	}
	c.mu.Unlock()
	return make([]byte, size)
}

// run accepts the connection and carries frames until ctx ends (nil) or the
// connection is lost.
func (c *inbound) run(ctx context.Context) error {
	accepted, _ := endFrame(beginFrame(nil, frameAccepted, 0))
	c.mu.Lock()
	c.mu.out = append(c.mu.out, accepted...)
	c.mu.Unlock()
	signal(c.wake)

	stop := hurry(ctx, c.conn)
	defer stop()
	read := make(chan error, 1)
	go func() { read <- c.read() }()
	err := c.write(ctx, read)
	if err == nil {
		return nil
	}
	if !errors.Is(err, errCorrupt) {
		select {
		case <-ctx.Done():
		case <-time.After(lossPatience):
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("data plane: connection from worker %s to worker %s: %w", c.n.workerName(c.worker), c.n.workerName(c.n.config.Self), err)
}

func (c *inbound) write(ctx context.Context, read chan error) error {
	var out []byte
	for {
		select {
		case <-ctx.Done():
			farewell(c.conn)
			_ = c.conn.Close()
			<-read
			return nil
		case err := <-read:
			_ = c.conn.Close()
			if err == nil {
				<-ctx.Done()
			}
			return err
		case <-c.wake:
		}
		c.mu.Lock()
		out, c.mu.out = c.mu.out, out[:0]
		c.mu.Unlock()
		if _, err := c.conn.Write(out); err != nil {
			_ = c.conn.Close()
			if readErr := <-read; readErr == nil {
				<-ctx.Done()
				return nil
			}
			return err
		}
	}
}

// read hands frames to their channels. It returns nil when the other side said
// that it ends.
func (c *inbound) read() error {
	r := bufio.NewReaderSize(c.conn, 64<<10)
	f := frameReader{r: r}
	var event [17]byte
	for {
		kind, number, size, err := f.next()
		if err != nil {
			return err
		}
		if kind == frameEnd && size == 0 {
			return nil
		}
		to, ok := c.n.mu.ends[number]
		if !ok || c.n.Worker(to.gate.sender(to.channel)) != c.worker {
			return fmt.Errorf("%w: kind %d on channel %d, which does not come from worker %s", errCorrupt, kind, number, c.n.workerName(c.worker))
		}
		if kind == frameBatch {
			body := c.buffer(size)
			if _, err := io.ReadFull(r, body); err != nil {
				return err
			}
			if err := to.gate.frame(to.channel, body, cost(frameHead+size)); err != nil {
				return err
			}
			continue
		}
		if size > len(event) {
			return fmt.Errorf("%w: kind %d with a body of %d bytes", errCorrupt, kind, size)
		}
		if _, err := io.ReadFull(r, event[:size]); err != nil {
			return err
		}
		what, at, b, err := decodeEvent(kind, event[:size])
		if err != nil {
			return err
		}
		if err := to.gate.event(to.channel, what, at, b, cost(frameHead+size)); err != nil {
			return err
		}
	}
}
