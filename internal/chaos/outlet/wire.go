package outlet

import (
	"context"
	"encoding/gob"
	"fmt"
	"net"
	"sync"
	"time"
)

// Op is what a request asks for.
type Op uint8

// Requests.
const (
	Fence Op = 1 + iota
	Stage
	Commit
)

func (o Op) String() string {
	if o < Fence || o > Commit {
		return fmt.Sprintf("op %d", uint8(o))
	}
	return [...]string{"fence", "stage", "commit"}[o-1]
}

// Handle names what one subtask staged in one transaction.
type Handle struct {
	Epoch, Transaction uint64
	Subtask            int
	Blocks, Rows       int
}

// Request is one call.
type Request struct {
	Op            Op
	Lineage, Sink string
	Epoch         uint64
	// Checkpoint that is committed, or that was restored (Fence).
	Checkpoint uint64
	// Handles to commit; with Fence to commit too, all else is dropped.
	Handles []Handle
	// Of Stage.
	Transaction uint64
	Subtask     int
	Block       int
	Rows        []byte
}

// Answer of a request.
type Answer struct {
	// Stale says that the request was refused as of an epoch that is over.
	Stale bool
	Err   string
}

// StaleError is a refusal of an older epoch.
type StaleError struct{ Text string }

func (e *StaleError) Error() string { return e.Text }

// ErrorCode is the code in the product's catalogue.
func (*StaleError) ErrorCode() string { return "stale-epoch" }

// patience bounds one call.
const patience = 20 * time.Second

// Client is one connection to a store. Call may be used by several goroutines, one
// after the other.
type Client struct {
	mu   sync.Mutex
	conn net.Conn
	enc  *gob.Encoder
	dec  *gob.Decoder
}

// Dial connects to a store.
func Dial(ctx context.Context, address string) (*Client, error) {
	d := net.Dialer{Timeout: patience}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("outlet: %w", err)
	}
	return &Client{conn: conn, enc: gob.NewEncoder(conn), dec: gob.NewDecoder(conn)}, nil
}

// Call sends a request and returns what became of it. After an error of the
// connection the client is of no more use, and the request may have been done.
func (c *Client) Call(ctx context.Context, r *Request) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Unix(1, 0)) })()
	if err := c.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return fmt.Errorf("outlet: %w", err)
	}
	var a Answer
	err := c.enc.Encode(r)
	if err == nil {
		err = c.dec.Decode(&a)
	}
	switch {
	case err != nil:
		return fmt.Errorf("outlet: %v of epoch %d: %w", r.Op, r.Epoch, err)
	case a.Stale:
		return &StaleError{a.Err}
	case a.Err != "":
		return fmt.Errorf("outlet: %s", a.Err)
	}
	return nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }
