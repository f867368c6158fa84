package shardlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/millrace/millrace/internal/clock"
	"github.com/millrace/millrace/stream"
)

const (
	// maxQueued bounds the writes that wait for the committer.
	maxQueued = 1024
	// groupBytes and groupOps bound one batch.
	groupBytes = 8 << 20
	groupOps   = 512
	// trimEvery is how often retention is looked after.
	trimEvery = 10 * time.Second
)

// Options of a Log; the zero value is for production.
type Options struct {
	// FS is the file system, vfs.Default where nil.
	FS vfs.FS
	// Clock gives arrival times, the system's where nil.
	Clock clock.Clock
	Log   *slog.Logger
	// CacheBytes bounds Pebble's block cache; 0 means 16 MiB.
	CacheBytes int64
	// MemTableBytes bounds what is held in memory before it goes to a table; 0
	// means 16 MiB.
	MemTableBytes uint64

	// withoutSync leaves the fsync out: the negative control of the power-loss
	// test.
	withoutSync bool
}

// Log is the store of a task manager's shards.
type Log struct {
	dir  string
	opt  Options
	db   *pebble.DB
	fs   *files
	lock *pebble.Lock
	room *diskRoom

	queue chan *op
	// stopped is closed when the committer takes nothing more.
	stopped chan struct{}
	fault   fault
	running atomic.Bool

	mu struct {
		sync.RWMutex
		shards map[ID]*shard
		closed bool
	}
	reads sync.WaitGroup // iterators that Close waits for
}

// Run commits writes and looks after retention until ctx ends, when it returns
// nil, or the log fails, when it says why. Writes that still wait then are
// answered with an error. It may be called once.
func (l *Log) Run(ctx context.Context) error {
	if !l.running.CompareAndSwap(false, true) {
		return stream.Errorf(stream.Internal, "shard log %s is run twice", l.dir)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	committed := make(chan struct{})
	go func() {
		// Pebble may hold this goroutine for good once it is beyond repair; Run
		// then leaves it behind, see fault.
		defer close(committed)
		l.commitLoop(ctx)
	}()
	wg.Go(func() { l.trimLoop(ctx) })
	select {
	case <-committed:
	case <-l.fault.raised:
	}
	cancel()
	select {
	case <-committed:
	case <-l.fault.beyond:
	}
	close(l.stopped)
	wg.Wait()
	if err := l.fault.err(); err != nil {
		return err
	}
	return nil
}

// Close releases the folder. Run must have returned. Reads that wait end;
// those under way are waited for. Where Pebble has given up, reads may be stuck and
// are left alone, and only the end of the process releases the folder.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.mu.closed {
		l.mu.Unlock()
		return nil
	}
	l.mu.closed = true
	shards := l.mu.shards
	l.mu.shards = nil
	l.mu.Unlock()
	for _, s := range shards {
		s.retire()
	}
	said := l.fault.err() != nil
	var err error
	if !l.fault.fatal() {
		l.fs.serving.Store(false)
		err = l.fault.guard(func() error {
			l.reads.Wait()
			return l.db.Close()
		})
	}
	if said {
		// What closing the store adds is no news.
		err = nil
	}
	if err := errors.Join(err, l.lock.Close()); err != nil {
		return fmt.Errorf("close the shard log in %s: %w", l.dir, err)
	}
	return nil
}

// shard finds an open shard. release must be called when its use of the store
// is over.
func (l *Log) shard(id ID) (s *shard, release func(), err error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.mu.closed {
		return nil, nil, stream.Errorf(stream.Unavailable, "shard log %s is closed", l.dir)
	}
	s = l.mu.shards[id]
	if s == nil {
		return nil, nil, notHere(id)
	}
	l.reads.Add(1)
	return s, l.reads.Done, nil
}

func notHere(id ID) error {
	return stream.Errorf(stream.NotFound, "%s of stream generation %d is not in this log: its stream was deleted", stream.ShardName(id.Shard), id.Generation)
}

// Shards lists the shards that the log holds.
func (l *Log) Shards() []ID {
	l.mu.RLock()
	defer l.mu.RUnlock()
	ids := make([]ID, 0, len(l.mu.shards))
	for id := range l.mu.shards {
		ids = append(ids, id)
	}
	return ids
}

// Failed is closed when the log has failed for good; Err then says why.
func (l *Log) Failed() <-chan struct{} { return l.fault.raised }

// Err is why the log failed, nil while it has not.
func (l *Log) Err() error { return l.fault.err() }
