package window

import (
	"github.com/millrace/millrace/runtime/codec"
	"github.com/millrace/millrace/runtime/state"
)

// running is the combiner of aggregates that subtract: one accumulator a key,
// with the number of slices that are in it.
type running[K comparable, A any] struct {
	merge, subtract func(a, b *A)
	accs            codec.Codec[A]
	sums            *state.Table[K, sum[A]]
}

type sum[A any] struct {
	Acc    A
	Slices int32
}

func newRunning[K comparable, A any](s *state.Store, merge, subtract func(a, b *A), accs codec.Codec[A]) (*running[K, A], error) {
	t, err := state.NewTable[K, sum[A]](s, "sums")
	if err != nil {
		return nil, err
	}
	s.Describe("sums", "window")
	return &running[K, A]{merge: merge, subtract: subtract, accs: accs, sums: t}, nil
}

func (r *running[K, A]) prepare(*int) bool { return true }

func (r *running[K, A]) settle(*int) bool { return true }

func (r *running[K, A]) get(hash uint64, key *K) (*A, bool) {
	s, ok := r.sums.Get(hash, *key)
	if !ok {
		return nil, false
	}
	return &s.Acc, true
}

func (r *running[K, A]) expired(int64) {}

func (r *running[K, A]) include(_ int64, hash uint64, key *K, acc *A) {
	s, fresh := r.sums.Upsert(hash, *key)
	if fresh {
		s.Acc = r.accs.Clone(acc)
	} else {
		r.merge(&s.Acc, acc)
	}
	s.Slices++
}

func (r *running[K, A]) late(_ int64, hash uint64, key K, fresh bool, add func(acc *A, fresh bool)) {
	s, first := r.sums.Upsert(hash, key)
	add(&s.Acc, first)
	if fresh {
		s.Slices++
	}
}

func (r *running[K, A]) expire(_ int64, hash uint64, key *K, acc *A) {
	s, _ := r.sums.Upsert(hash, *key)
	if s.Slices--; s.Slices <= 0 {
		r.sums.Delete(hash, *key)
		return
	}
	r.subtract(&s.Acc, acc)
}

func (r *running[K, A]) scan(from uint64, max int, f func(hash uint64, key *K, acc *A) bool) (uint64, bool) {
	return r.sums.Scan(from, max, func(hash uint64, key *K, s *sum[A]) bool { return f(hash, key, &s.Acc) })
}
