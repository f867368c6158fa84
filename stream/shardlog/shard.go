package shardlog

import (
	"context"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/millrace/millrace/stream"
)

// maxWaiting bounds the readers that wait at the tip of one shard.
const maxWaiting = 1024

// shard is the state of one shard. What is outside mu belongs to the
// committer and runs ahead of what is durable; mu holds what readers may see.
type shard struct {
	id ID

	// next is the place of the next record.
	next uint64
	// arrival of the newest record: the next one's is not below it.
	arrival  int64
	dropped  bool
	trimmed  shardMeta
	sinks    map[sinkName]*sinkState
	nextSink uint32

	mu struct {
		sync.Mutex
		tip       uint64 // last readable place
		trim      uint64 // first readable place
		retention time.Duration
		gone      bool
		waiting   int
		moved     chan struct{} // closed when tip, trim or gone changes
	}
}

func newShard(id ID, m shardMeta) *shard {
	s := &shard{id: id, trimmed: m, next: max(m.trim, 1), arrival: m.arrival, sinks: make(map[sinkName]*sinkState)}
	s.mu.moved = make(chan struct{})
	s.mu.trim = max(m.trim, 1)
	s.mu.tip = s.next - 1
	return s
}

// extend makes records up to a place readable.
func (s *shard) extend(tip uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.tip = tip
	s.movedLocked()
}

func (s *shard) movedLocked() {
	if s.mu.waiting > 0 {
		close(s.mu.moved)
		s.mu.moved = make(chan struct{})
		s.mu.waiting = 0
	}
}

// retire ends the readers of a shard that is gone.
func (s *shard) retire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.gone = true
	s.movedLocked()
}

// bounds are the readable places: from trim to tip, none if trim is above.
func (s *shard) bounds() (trim, tip uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.gone {
		return 0, 0, notHere(s.id)
	}
	return s.mu.trim, s.mu.tip, nil
}

// await waits until the tip is at a place or above, the shard is gone, or the
// timer fires: all no error.
func (s *shard) await(ctx context.Context, place uint64, timer <-chan time.Time) error {
	for {
		s.mu.Lock()
		if s.mu.gone || s.mu.tip >= place {
			s.mu.Unlock()
			return nil
		}
		if s.mu.waiting >= maxWaiting {
			s.mu.Unlock()
			return stream.Errorf(stream.LimitExceeded, "%s has %d readers that wait at its tip: wait with fewer, or poll", stream.ShardName(s.id.Shard), maxWaiting)
		}
		s.mu.waiting++
		moved := s.mu.moved
		s.mu.Unlock()
		select {
		case <-moved:
		case <-timer:
			s.unwait(moved)
			return nil
		case <-ctx.Done():
			s.unwait(moved)
			return stream.Errorf(stream.Unavailable, "wait at the tip of %s: %w", stream.ShardName(s.id.Shard), ctx.Err())
		}
	}
}

func (s *shard) unwait(moved chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if moved == s.mu.moved {
		s.mu.waiting--
	}
}

// Spec describes a shard that the log is to hold.
type Spec struct {
	ID ID
	// Retention hides records older than that; 0 keeps all.
	Retention time.Duration
}

// Create makes the log hold these shards, new ones empty, and takes over their
// retention; a shortened one has hidden what it hides when Create returns.
// Shards that are not named are left alone.
func (l *Log) Create(ctx context.Context, specs ...Spec) error {
	err := l.do(ctx, &op{
		bytes: 64 * len(specs), grows: true,
		prepare: func(b *pebble.Batch) error {
			for _, spec := range specs {
				if l.has(spec.ID) {
					continue
				}
				if err := b.Set(shardKey(keyShard, spec.ID), shardMeta{trim: 1}.encode(), nil); err != nil {
					return err
				}
			}
			return nil
		},
		publish: func() { l.open(specs) },
	})
	if err != nil {
		return err
	}
	return l.trimShards(ctx, specs)
}

func (l *Log) has(id ID) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.mu.shards[id] != nil
}

func (l *Log) open(specs []Spec) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.closed {
		return
	}
	for _, spec := range specs {
		s := l.mu.shards[spec.ID]
		if s == nil {
			s = newShard(spec.ID, shardMeta{trim: 1})
			l.mu.shards[spec.ID] = s
		}
		s.mu.Lock()
		s.mu.retention = spec.Retention
		s.mu.Unlock()
	}
}

// Drop removes all shards of a generation with everything in them. Their
// readers are told that the stream was deleted.
func (l *Log) Drop(ctx context.Context, generation uint64) error {
	return l.do(ctx, &op{
		bytes: 256,
		prepare: func(b *pebble.Batch) error {
			// Gone before the batch is applied, or readers would take what is
			// deleted for damage.
			l.mu.Lock()
			var gone []*shard
			for id, s := range l.mu.shards {
				if id.Generation == generation {
					gone = append(gone, s)
					delete(l.mu.shards, id)
				}
			}
			l.mu.Unlock()
			for _, s := range gone {
				s.dropped = true
				s.retire()
				for _, kind := range shardKinds {
					prefix := shardKey(kind, s.id)
					if err := b.DeleteRange(prefix, after(prefix), nil); err != nil {
						return err
					}
				}
			}
			return nil
		},
	})
}
