package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"

	pb "github.com/millrace/millrace/proto/millrace/v1"
	"github.com/millrace/millrace/stream"
	"github.com/millrace/millrace/stream/block"
	"github.com/millrace/millrace/stream/shardlog"
	"github.com/millrace/millrace/stream/wire"
)

const (
	// maxRequests and maxBytes bound what one connection has under way.
	maxRequests = 512
	maxBytes    = 64 << 20
	// maxConnections bounds the connections of one listener.
	maxConnections = 4096
)

// Host is what a server serves.
type Host interface {
	// Current is the catalog as of now.
	Current() *pb.Catalog
	// Command changes the catalog.
	Command(ctx context.Context, cmd *pb.StreamCommand) error
	// Local names the shard in the log if this host owns it with the epoch of
	// ref; else the error is NotOwner or NotFound.
	Local(ref *pb.ShardRef) (shardlog.ID, error)
	// Move commits in the children of a closed shard what was staged there.
	Move(ctx context.Context, ref *pb.ShardRef, id shardlog.ID, tx *pb.Transaction, counts []*pb.StagedCount) (records uint64, already bool, err error)
}

// Server serves the shards of one log.
type Server struct {
	host Host
	log  *shardlog.Log
	note *slog.Logger
}

// New returns a server; note may be nil.
func New(host Host, log *shardlog.Log, note *slog.Logger) *Server {
	if note == nil {
		note = slog.New(slog.DiscardHandler)
	}
	return &Server{host: host, log: log, note: note}
}

// Serve accepts connections until ctx ends, closes the listener, and waits for
// its goroutines.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	slots := make(chan struct{}, maxConnections)
	for {
		nc, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("accept shard connections on %v: %w", ln.Addr(), err)
		}
		select {
		case slots <- struct{}{}:
		default:
			s.note.Warn("shard connection refused: too many", "limit", maxConnections, "peer", nc.RemoteAddr())
			_ = nc.Close()
			continue
		}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := s.serve(ctx, nc); err != nil && ctx.Err() == nil {
				s.note.Warn("shard connection ended", "peer", nc.RemoteAddr(), "error", err)
			}
		})
	}
}

// session is one connection.
type session struct {
	s   *Server
	ctx context.Context
	nc  net.Conn
	out chan outFrame // has room for every request under way

	requests chan struct{} // a slot each
	mu       struct {
		sync.Mutex
		bytes   int
		room    chan struct{} // closed and replaced when bytes falls
		cancels map[uint64]context.CancelFunc
	}
}

type outFrame struct {
	head    []byte
	records block.Block
	done    func()
}

func (s *Server) serve(ctx context.Context, nc net.Conn) error {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { _ = nc.Close() })
	defer stop()
	defer cancel()
	if err := wire.WritePreface(nc); err != nil {
		return err
	}
	c := &session{s: s, ctx: ctx, nc: nc, out: make(chan outFrame, maxRequests), requests: make(chan struct{}, maxRequests)}
	c.mu.room = make(chan struct{})
	c.mu.cancels = make(map[uint64]context.CancelFunc)
	var handlers, writer sync.WaitGroup
	ended := make(chan struct{})
	writer.Go(func() { c.write(ended, cancel) })
	err := c.read(&handlers)
	cancel()
	handlers.Wait()
	close(ended)
	writer.Wait()
	return err
}

func (c *session) read(handlers *sync.WaitGroup) error {
	r := wire.NewReader(c.nc)
	if err := r.Preface(); err != nil {
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	}
	for {
		req := &pb.ShardRequest{}
		records, err := r.Next(req)
		if errors.Is(err, io.EOF) || c.ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if cancel := req.GetCancel(); cancel != nil {
			c.cancel(cancel.GetRequest())
			continue
		}
		if !c.admit(len(records)) {
			return nil
		}
		ctx, release := c.begin(req)
		handlers.Go(func() {
			resp, answer := c.s.answer(ctx, req, records)
			resp.Id = req.GetId()
			release()
			c.reply(resp, answer, len(records))
		})
	}
}

// begin makes the context of a request. Reads and catalog commands, which wait
// for others, end with their connection; a write that was begun is finished.
func (c *session) begin(req *pb.ShardRequest) (context.Context, func()) {
	if req.GetRead() == nil && req.GetCommand() == nil {
		return context.WithoutCancel(c.ctx), func() {}
	}
	ctx, cancel := context.WithCancel(c.ctx)
	id := req.GetId()
	c.mu.Lock()
	c.mu.cancels[id] = cancel
	c.mu.Unlock()
	return ctx, func() {
		c.mu.Lock()
		delete(c.mu.cancels, id)
		c.mu.Unlock()
		cancel()
	}
}

func (c *session) cancel(request uint64) {
	c.mu.Lock()
	cancel := c.mu.cancels[request]
	c.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

// admit waits for a slot and for room of n bytes; false when the connection
// has ended.
func (c *session) admit(n int) bool {
	select {
	case c.requests <- struct{}{}:
	case <-c.ctx.Done():
		return false
	}
	for {
		c.mu.Lock()
		if c.mu.bytes == 0 || c.mu.bytes+n <= maxBytes {
			c.mu.bytes += n
			c.mu.Unlock()
			return true
		}
		room := c.mu.room
		c.mu.Unlock()
		select {
		case <-room:
		case <-c.ctx.Done():
			return false
		}
	}
}

// reply queues an answer, for which there is room, and gives back what its
// request took: the slot once the answer has been written.
func (c *session) reply(resp *pb.ShardResponse, records block.Block, took int) {
	head, err := wire.AppendMessage(nil, resp, records)
	if err != nil {
		records = nil
		head, _ = wire.AppendMessage(nil, &pb.ShardResponse{Id: resp.GetId(), Error: stream.ToProto(err)}, nil)
	}
	c.out <- outFrame{head: head, records: records, done: func() {
		c.mu.Lock()
		c.mu.bytes -= took
		close(c.mu.room)
		c.mu.room = make(chan struct{})
		c.mu.Unlock()
		<-c.requests
	}}
}

// write sends answers, those that wait together in one system call.
func (c *session) write(ended <-chan struct{}, cancel context.CancelFunc) {
	var buffers net.Buffers
	var frames []outFrame
	broken := false
	for {
		select {
		case f := <-c.out:
			frames = append(frames[:0], f)
		case <-ended:
			return
		}
	more:
		for len(frames) < 128 {
			select {
			case f := <-c.out:
				frames = append(frames, f)
			default:
				break more
			}
		}
		buffers = buffers[:0]
		for _, f := range frames {
			buffers = append(buffers, f.head)
			if len(f.records) > 0 {
				buffers = append(buffers, f.records)
			}
		}
		sending := buffers
		if !broken {
			if _, err := sending.WriteTo(c.nc); err != nil {
				// Whoever still works on an answer must not hang on it.
				broken = true
				cancel()
			}
		}
		for _, f := range frames {
			f.done()
		}
		clear(buffers)
		clear(frames)
	}
}
