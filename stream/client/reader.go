package client

import (
	"context"
	"sync"
	"time"

	"github.com/millrace/millrace/stream"
	"github.com/millrace/millrace/stream/block"
)

const (
	defaultPrefetch = 4 << 20
	// pollWait is how long a host holds a read at the tip.
	pollWait = 2 * time.Second
	// overdue is how long after that an answer may come: later, the shard is not
	// known to be empty any more. Both together are well below the time after
	// which an empty shard no longer holds event time back.
	overdue = time.Second
)

// Status is what a Reader answers.
type Status uint8

const (
	// Ready: the block is valid.
	Ready Status = iota
	// CaughtUp: the shard had no more a few seconds ago, as its host said.
	CaughtUp
	// Fetching: there is more, or it is not known; it has not arrived.
	Fetching
	// Ended: the shard is closed and everything was handed out.
	Ended
	// Failed: see Err.
	Failed
)

// Reader prefetches one shard. Next, Err and Lag never block and may be called
// from any goroutine; blocks come in order, each once.
type Reader struct {
	c      *Client
	cfg    ReaderConfig
	cancel context.CancelFunc
	ended  chan struct{}
	// read is the client's.
	read func(context.Context, Shard, ReadRequest) (ReadAnswer, error)
	room chan struct{} // signalled when Next made room

	mu struct {
		sync.Mutex
		blocks   []block.Block
		bytes    int
		caughtUp bool
		waiting  bool // Next had nothing: Wake is due
		end      bool
		err      error
		behind   int64 // of the last answer
		tip      stream.Sequence
		given    stream.Sequence // last record handed out
		next     stream.Sequence // last record fetched or skipped
		skipped  uint64
	}
}

// OpenReader starts prefetching. The reader ends with ctx, Close, or the
// client.
func (c *Client) OpenReader(ctx context.Context, cfg ReaderConfig) *Reader {
	if cfg.MaxBytes <= 0 {
		cfg.MaxBytes = defaultPrefetch
	}
	ctx, cancel := context.WithCancel(ctx)
	r := &Reader{c: c, cfg: cfg, cancel: cancel, ended: make(chan struct{}), read: c.Read, room: make(chan struct{}, 1)}
	stop := context.AfterFunc(c.ctx, cancel)
	if !c.start(func() { defer close(r.ended); defer stop(); r.fetch(ctx) }) {
		r.mu.err = stream.Errorf(stream.Unavailable, "the client of the shards is closed")
		close(r.ended)
	}
	return r
}

// Close ends the prefetching and waits for it.
func (r *Reader) Close() error {
	r.cancel()
	<-r.ended
	return nil
}

// Next returns the next block if it has arrived. After any other status than
// Ready, Wake is called once when that has changed.
func (r *Reader) Next() (block.Block, Status) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.mu.blocks) == 0 {
		r.mu.waiting = true
		switch {
		case r.mu.err != nil:
			return nil, Failed
		case r.mu.end:
			return nil, Ended
		case r.mu.caughtUp:
			return nil, CaughtUp
		}
		return nil, Fetching
	}
	b := r.mu.blocks[0]
	r.mu.blocks[0] = nil
	r.mu.blocks = r.mu.blocks[1:]
	r.mu.bytes -= len(b)
	if first, ok := b.First(); ok {
		r.mu.given = first.Sequence.WithPlace(first.Sequence.Place() + uint64(b.Count()) - 1)
	}
	select {
	case r.room <- struct{}{}:
	default:
	}
	return b, Ready
}

// Err is why the reader failed, once the blocks before that are handed out.
func (r *Reader) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.mu.blocks) > 0 {
		return nil
	}
	return r.mu.err
}

// Lag is how far what Next handed out is behind the tip as last heard:
// milliseconds and records. Records is -1 before the first block.
func (r *Reader) Lag() (millis, records int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.mu.blocks) == 0 && r.mu.caughtUp {
		return 0, 0
	}
	millis, records = r.mu.behind, -1
	if len(r.mu.blocks) > 0 {
		if first, ok := r.mu.blocks[0].First(); ok {
			millis = max(millis, time.Now().UnixMilli()-first.Arrival)
		}
	}
	if !r.mu.given.IsZero() && r.mu.tip.Place() >= r.mu.given.Place() {
		records = int64(r.mu.tip.Place() - r.mu.given.Place())
	}
	return millis, records
}

// Skipped counts records that retention removed before they could be read.
func (r *Reader) Skipped() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.skipped
}

// Passed is the last record that Next handed out or that retention removed
// before it; zero before the first answer.
func (r *Reader) Passed() stream.Sequence {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.mu.blocks) == 0 {
		return r.mu.next
	}
	if first, ok := r.mu.blocks[0].First(); ok && first.Sequence.Place() > 0 {
		return first.Sequence.WithPlace(first.Sequence.Place() - 1)
	}
	return r.mu.given
}

func (r *Reader) fetch(ctx context.Context) {
	at := r.cfg.At
	for ctx.Err() == nil {
		if !r.awaitRoom(ctx) {
			return
		}
		wait := r.wait()
		late := time.AfterFunc(wait+overdue, r.doubt)
		a, err := r.read(ctx, r.cfg.Shard, ReadRequest{At: at, Wait: wait})
		late.Stop()
		if ctx.Err() != nil {
			return
		}
		wake, end := r.take(a, err)
		if wake && r.cfg.Wake != nil {
			r.cfg.Wake()
		}
		if end {
			return
		}
		at = stream.Position{From: stream.FromAfterSequence, Sequence: a.Next}
	}
}

// wait is 0 until a read has come to the tip, so that the reader knows at once
// whether it has caught up.
func (r *Reader) wait() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.caughtUp {
		return pollWait
	}
	return 0
}

// doubt takes back that the reader has caught up: its host is away, or cut off,
// and may take records that are not seen here.
func (r *Reader) doubt() {
	r.mu.Lock()
	wake := r.mu.caughtUp && r.mu.waiting
	r.mu.caughtUp = false
	r.mu.waiting = r.mu.waiting && !wake
	r.mu.Unlock()
	if wake && r.cfg.Wake != nil {
		r.cfg.Wake()
	}
}

func (r *Reader) awaitRoom(ctx context.Context) bool {
	for {
		r.mu.Lock()
		full := r.mu.bytes >= r.cfg.MaxBytes
		r.mu.Unlock()
		if !full {
			return true
		}
		select {
		case <-r.room:
		case <-ctx.Done():
			return false
		}
	}
}

// take queues an answer. wake says that somebody who had nothing has something
// now.
func (r *Reader) take(a ReadAnswer, err error) (wake, end bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.mu.caughtUp
	if err != nil {
		r.mu.err = err
	} else {
		if len(a.Records) > 0 {
			r.mu.blocks = append(r.mu.blocks, a.Records)
			r.mu.bytes += len(a.Records)
		}
		r.mu.behind, r.mu.tip, r.mu.end = a.MillisBehind, a.Tip, a.End
		r.mu.next = a.Next
		r.mu.skipped += a.Skipped
		r.mu.caughtUp = a.Next.Compare(a.Tip) >= 0
	}
	end = r.mu.err != nil || r.mu.end
	if changed := len(r.mu.blocks) > 0 || end || r.mu.caughtUp != before; changed && r.mu.waiting {
		r.mu.waiting = false
		wake = true
	}
	return wake, end
}
