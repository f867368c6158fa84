package client

import (
	"context"
	"sync"

	pb "github.com/millrace/millrace/proto/millrace/v1"
	"github.com/millrace/millrace/stream"
	"github.com/millrace/millrace/stream/block"
)

const (
	defaultBlockBytes = 64 << 10
	defaultStageBytes = 8 << 20
)

// Stager collects the records of one subtask of a transactional sink into
// blocks and stages them, many at once. Add, Flush, Finish and Held belong to
// one goroutine, the task's; what they return may be waited for on another.
type Stager struct {
	c   *Client
	cfg StagerConfig
	ctx context.Context
	// cancel ends the sending; Close calls it.
	cancel context.CancelFunc
	wg     sync.WaitGroup

	router *stream.Router
	shards []stagedShard
	cut    *cut

	mu struct {
		sync.Mutex
		bytes int
		err   error
		// room is closed when bytes falls; nil while nobody waits for that.
		room chan struct{}
	}
}

// stagedShard is what is collected for one shard in the running transaction.
type stagedShard struct {
	shard   Shard
	builder block.Builder
	count   ShardCount
}

// cut is one transaction: the blocks of it that are not acknowledged.
type cut struct {
	tx      *pb.Transaction
	pending sync.WaitGroup
}

// OpenStager returns a stager for the open shards of a stream. It ends with
// ctx, Close, or the client.
func (c *Client) OpenStager(ctx context.Context, cfg StagerConfig) (*Stager, error) {
	if cfg.BlockBytes <= 0 {
		cfg.BlockBytes = defaultBlockBytes
	}
	if cfg.MaxBytes <= 0 {
		cfg.MaxBytes = defaultStageBytes
	}
	router, open, err := stream.RouteOf(cfg.Stream)
	if err != nil {
		return nil, err
	}
	s := &Stager{c: c, cfg: cfg, router: router}
	for _, sh := range open {
		shard := Shard{cfg.Stream.GetName(), cfg.Stream.GetGeneration(), sh.GetIndex()}
		s.shards = append(s.shards, stagedShard{shard: shard, count: ShardCount{Shard: shard}})
	}
	s.ctx, s.cancel = context.WithCancel(ctx)
	s.cut = s.begin(cfg.Transaction)
	return s, nil
}

func (s *Stager) begin(number uint64) *cut {
	return &cut{tx: &pb.Transaction{Lineage: s.cfg.Lineage, Sink: s.cfg.Sink, Epoch: s.cfg.Epoch, Checkpoint: number}}
}

// Add takes a record into the running transaction, to the shard of hash. It
// waits while more than MaxBytes are not acknowledged, and returns the first
// error of what was sent before.
func (s *Stager) Add(key string, hash stream.HashKey, data []byte) error {
	e := stream.Entry{PartitionKey: key, Hash: hash, Data: data}
	if err := stream.CheckEntry(&e); err != nil {
		return err
	}
	place, _ := s.router.Shard(hash)
	sh := &s.shards[place]
	sh.builder.Add(key, hash, data)
	if sh.builder.Len() >= s.cfg.BlockBytes {
		return s.send(sh)
	}
	return nil
}

// Held says that the running transaction has records.
func (s *Stager) Held() bool {
	for i := range s.shards {
		if s.shards[i].builder.Count() > 0 || s.shards[i].count.Blocks > 0 {
			return true
		}
	}
	return false
}

// Flush sends what is collected, without waiting for it to be acknowledged.
func (s *Stager) Flush() error {
	for i := range s.shards {
		if s.shards[i].builder.Count() == 0 {
			continue
		}
		if err := s.send(&s.shards[i]); err != nil {
			return err
		}
	}
	return s.Err()
}

// Finish ends the running transaction; later records belong to the one
// numbered next. wait returns what was staged, by shard, once all of it is
// durable: shards without a record are left out. The transaction is the one to
// commit with these counts.
func (s *Stager) Finish(next uint64) (tx *pb.Transaction, wait func(context.Context) ([]ShardCount, error), err error) {
	if err := s.Flush(); err != nil {
		return nil, nil, err
	}
	done := s.cut
	s.cut = s.begin(next)
	var counts []ShardCount
	for i := range s.shards {
		if c := &s.shards[i].count; c.Blocks > 0 {
			counts = append(counts, *c)
			*c = ShardCount{Shard: c.Shard}
		}
	}
	wait = func(ctx context.Context) ([]ShardCount, error) {
		// Giving up on one transaction gives up the stager: its blocks are of no
		// use without the others.
		stop := context.AfterFunc(ctx, s.cancel)
		defer stop()
		done.pending.Wait()
		if err := s.Err(); err != nil {
			return nil, err
		}
		return counts, nil
	}
	return done.tx, wait, nil
}

// Err is the first error of what was sent.
func (s *Stager) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.err
}

// Close gives up what is under way and waits for its goroutines. What is
// staged and not committed stays until the next fence drops it.
func (s *Stager) Close() error {
	s.cancel()
	s.wg.Wait()
	return nil
}

func (s *Stager) send(sh *stagedShard) error {
	records := sh.builder.Finish()
	req := StageRequest{Transaction: s.cut.tx, Block: sh.count.Blocks, Subtask: s.cfg.Subtask, Records: records}
	if err := s.reserve(len(records)); err != nil {
		return err
	}
	sh.count.Blocks++
	sh.count.Records += uint64(records.Count())
	c := s.cut
	c.pending.Add(1)
	s.wg.Add(1)
	shard := sh.shard
	started := s.c.start(func() {
		defer s.wg.Done()
		defer c.pending.Done()
		s.release(len(records), s.c.Stage(s.ctx, shard, req))
	})
	if !started {
		s.wg.Done()
		c.pending.Done()
		s.release(len(records), stream.Errorf(stream.Unavailable, "the client of the shards is closed"))
	}
	return nil
}

// reserve waits for room among the unacknowledged bytes. A block larger than
// MaxBytes goes alone.
func (s *Stager) reserve(n int) error {
	for {
		s.mu.Lock()
		if s.mu.err != nil {
			defer s.mu.Unlock()
			return s.mu.err
		}
		if s.mu.bytes == 0 || s.mu.bytes+n <= s.cfg.MaxBytes {
			s.mu.bytes += n
			s.mu.Unlock()
			return nil
		}
		if s.mu.room == nil {
			s.mu.room = make(chan struct{})
		}
		room := s.mu.room
		s.mu.Unlock()
		if s.cfg.Park != nil {
			if err := s.cfg.Park(room); err != nil {
				return stream.Errorf(stream.Unavailable, "stage for stream %s: %w", s.cfg.Stream.GetName(), err)
			}
			continue
		}
		select {
		case <-room:
		case <-s.ctx.Done():
			return stream.Errorf(stream.Unavailable, "stage for stream %s: %w", s.cfg.Stream.GetName(), s.ctx.Err())
		}
	}
}

func (s *Stager) release(n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.bytes -= n
	if err != nil && s.mu.err == nil {
		s.mu.err = err
	}
	if s.mu.room != nil {
		close(s.mu.room)
		s.mu.room = nil
	}
}
