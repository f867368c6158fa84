package exchange

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

const (
	// prefacePatience bounds how long a new connection may keep silent.
	prefacePatience = 10 * time.Second
	// maxPending bounds the connections that are not yet with a network.
	maxPending = 1024
)

// Listener is a worker's data listener. It outlives attempts: each Network
// takes the connections of its own epoch from it while it runs. A connection of
// a newer epoch waits up to a minute for its network; one of an older epoch, of
// another job, or with another token, magic or version is refused.
type Listener struct {
	job string
	ln  net.Listener

	mu struct {
		sync.Mutex
		current *Network
		// epoch is the highest that was ever attached.
		epoch uint64
		// changed is closed and replaced when current changes.
		changed chan struct{}
	}
}

// Listen opens the data port of a worker of a job, at host:port; port 0 is
// chosen by the system.
func Listen(job, address string) (*Listener, error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("data listener of job %s: %w", job, err)
	}
	l := &Listener{job: job, ln: ln}
	l.mu.changed = make(chan struct{})
	return l, nil
}

// Address is where other workers reach the listener.
func (l *Listener) Address() string { return l.ln.Addr().String() }

// Close closes the port, for a listener that does not Run.
func (l *Listener) Close() error { return l.ln.Close() }

// Run accepts connections until ctx ends, then closes the port and returns
// nil; any other end is an error.
func (l *Listener) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var pending sync.WaitGroup
	defer pending.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = l.ln.Close() })
	defer stop()
	slots := make(chan struct{}, maxPending)
	for {
		conn, err := l.ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("data listener of job %s: %w", l.job, err)
		}
		select {
		case slots <- struct{}{}:
		default:
			_ = conn.Close()
			continue
		}
		pending.Go(func() {
			l.admit(ctx, conn)
			<-slots
		})
	}
}

// admit reads what a connection is and hands it to the network that it is for.
func (l *Listener) admit(ctx context.Context, conn net.Conn) {
	ctx, cancel := context.WithTimeout(ctx, dialPatience)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	_ = conn.SetReadDeadline(time.Now().Add(prefacePatience))
	p, err := readPreface(conn)
	if err == nil {
		var n *Network
		if n, err = l.network(ctx, p); err == nil {
			err = n.admit(ctx, p, conn, stop)
		}
	}
	if err == nil {
		return
	}
	if refused, ok := errors.AsType[*RefusedError](err); ok {
		_ = conn.SetWriteDeadline(time.Now().Add(endPatience))
		_, _ = conn.Write(refused.appendFrame(nil))
	}
	_ = conn.Close()
}

// network waits for the network of a connection's epoch.
func (l *Listener) network(ctx context.Context, p preface) (*Network, error) {
	if p.job != l.job {
		return nil, &RefusedError{Code: "stale-epoch", Message: fmt.Sprintf("this worker runs job %s, not %s", l.job, p.job)}
	}
	for {
		l.mu.Lock()
		current, epoch, changed := l.mu.current, l.mu.epoch, l.mu.changed
		l.mu.Unlock()
		if p.epoch < epoch || p.epoch == epoch && current == nil && epoch != 0 {
			return nil, &RefusedError{Code: "stale-epoch", Message: fmt.Sprintf("epoch %d of job %s is over, this worker is at %d", p.epoch, p.job, epoch)}
		}
		if current != nil && p.epoch == epoch {
			if subtle.ConstantTimeCompare([]byte(p.token), []byte(current.config.Token)) != 1 {
				return nil, &RefusedError{Code: "unauthorized", Message: "the connection has another token than this attempt"}
			}
			return current, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-changed:
		}
	}
}

// attach makes a network the one that takes connections.
func (l *Listener) attach(n *Network) error {
	if n.config.JobID != l.job {
		return fmt.Errorf("data listener of job %s cannot serve job %s", l.job, n.config.JobID)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.current != nil || n.config.Epoch <= l.mu.epoch {
		return fmt.Errorf("data listener of job %s: epoch %d after epoch %d: end one attempt before the next", l.job, n.config.Epoch, l.mu.epoch)
	}
	l.mu.current, l.mu.epoch = n, n.config.Epoch
	l.changedLocked()
	return nil
}

func (l *Listener) detach() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.current = nil
	l.changedLocked()
}

func (l *Listener) changedLocked() {
	close(l.mu.changed)
	l.mu.changed = make(chan struct{})
}
