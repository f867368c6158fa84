package shardlog

import (
	"context"
	"fmt"
	"slices"
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
	sealed   bool
	trimmed  shardMeta
	sinks    map[sinkName]*sinkState
	nextSink uint32

	mu struct {
		sync.Mutex
		tip       uint64 // last readable place
		trim      uint64 // first readable place
		retention time.Duration
		gone      bool
		sealed    bool // durably: tip is the last record ever
		ended     bool // and readers are told so
		waiting   int
		moved     chan struct{} // closed when tip, trim, gone or ended changes
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

// finished says that readers may be told that the tip is the end.
func (s *shard) finished() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.ended
}

// await waits until the tip is at a place or above, the shard is gone or
// finished, or the timer fires: all no error.
func (s *shard) await(ctx context.Context, place uint64, timer <-chan time.Time) error {
	for {
		s.mu.Lock()
		if s.mu.gone || s.mu.ended || s.mu.tip >= place {
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
	// Sealed closes the shard for good: from then on it takes no records, and its
	// tip is fixed.
	Sealed bool
	// Ended tells the readers of a sealed shard when they have read all of it: its
	// children are there. Before that they wait at the tip.
	Ended bool
}

// Create makes the log hold these shards, new ones empty, seals those that are
// to be, and takes over their retention; a shortened one has hidden what it hides
// when Create returns. Shards that are not named are left alone, and none is ever
// opened again. New shards need room on the disk; a seal and a retention that makes
// some do not.
func (l *Log) Create(ctx context.Context, specs ...Spec) error {
	err := l.do(ctx, &op{
		bytes: 64 * len(specs), grows: slices.ContainsFunc(specs, func(s Spec) bool { return l.held(s.ID) == nil }),
		prepare: func(b *pebble.Batch) error {
			for _, spec := range specs {
				s := l.held(spec.ID)
				if s == nil {
					if err := b.Set(shardKey(keyShard, spec.ID), shardMeta{trim: 1}.encode(), nil); err != nil {
						return err
					}
				}
				if err := seal(b, s, spec); err != nil {
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

// seal is the last write to a shard's own entries: what the committer prepares
// after it is refused, what it prepared before is in the same batch or an earlier
// one. s is nil for a new shard.
func seal(b *pebble.Batch, s *shard, spec Spec) error {
	if !spec.Sealed || s != nil && s.sealed {
		return nil
	}
	if s != nil {
		s.sealed = true
	}
	if err := b.Set([]byte{keyFormat}, formatMark(formatSealed), nil); err != nil {
		return err
	}
	return b.Set(shardKey(keySealed, spec.ID), nil, nil)
}

func (l *Log) held(id ID) *shard {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.mu.shards[id]
}

// Sealed says whether a shard is sealed, and then which record is its last.
func (l *Log) Sealed(id ID) (end stream.Sequence, sealed bool, err error) {
	s, release, err := l.shard(id)
	if err != nil {
		return stream.Sequence{}, false, err
	}
	release()
	s.mu.Lock()
	defer s.mu.Unlock()
	return id.sequence(s.mu.tip), s.mu.sealed, nil
}

func closed(id ID) error {
	err := stream.Errorf(stream.Closed, "%s of stream generation %d is closed: it was split or merged, and its children take what is of its range", stream.ShardName(id.Shard), id.Generation)
	err.Subject = fmt.Sprintf("%d/%s", id.Generation, stream.ShardName(id.Shard))
	return err
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
		s.sealed = s.sealed || spec.Sealed
		s.mu.Lock()
		s.mu.retention = spec.Retention
		s.mu.sealed = s.sealed
		if ended := s.sealed && spec.Ended; ended && !s.mu.ended {
			s.mu.ended = true
			s.movedLocked()
		}
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
