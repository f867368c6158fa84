package window

import (
	"cmp"
	"math"
	"slices"

	"github.com/millrace/millrace/runtime/keygroup"
)

// Ranking keeps the keys of the current window in the order of a score of their
// accumulators. Like a combiner it is derived from the slices and never
// checkpointed. Greatest makes one.
type Ranking[K comparable, A any] interface {
	open(r keygroup.Range) error
	// touch says that the accumulator of a key has changed, or gone.
	touch(hash uint64, key *K)
	// settle scores the keys that were touched, within the budget, and chooses;
	// false says that there is more.
	settle(budget *int, value func(hash uint64, key *K) (*A, bool)) bool
	// best are the keys chosen by the last settle, in order of hashes.
	best() []place[K]
	reset()
}

// place is a key that was chosen.
type place[K comparable] struct {
	hash uint64
	key  K
}

// ranked is a combiner whose scan visits the chosen keys only. A window costs
// it the keys whose slices have entered or left since the one before.
type ranked[K comparable, A any] struct {
	combiner[K, A]
	rank Ranking[K, A]
	// alone says that windows share no slices: then all keys change with each.
	alone bool
}

func (r *ranked[K, A]) include(slice int64, hash uint64, key *K, acc *A) {
	r.combiner.include(slice, hash, key, acc)
	r.rank.touch(hash, key)
}

func (r *ranked[K, A]) late(slice int64, hash uint64, key K, fresh bool, add func(acc *A, fresh bool)) {
	r.combiner.late(slice, hash, key, fresh, add)
	r.rank.touch(hash, &key)
}

func (r *ranked[K, A]) expire(slice int64, hash uint64, key *K, acc *A) {
	r.combiner.expire(slice, hash, key, acc)
	if !r.alone {
		r.rank.touch(hash, key)
	}
}

func (r *ranked[K, A]) expired(slice int64) {
	r.combiner.expired(slice)
	if r.alone {
		r.rank.reset()
	}
}

func (r *ranked[K, A]) settle(budget *int) bool { return r.rank.settle(budget, r.combiner.get) }

func (r *ranked[K, A]) scan(from uint64, max int, f func(hash uint64, key *K, acc *A) bool) (uint64, bool) {
	best := r.rank.best()
	i, _ := slices.BinarySearchFunc(best, from, func(p place[K], h uint64) int { return cmp.Compare(p.hash, h) })
	for n := 0; i < len(best); i, n = i+1, n+1 {
		p := &best[i]
		if n >= max && p.hash != best[i-1].hash {
			return p.hash, false
		}
		if acc, ok := r.combiner.get(p.hash, &p.key); ok && !f(p.hash, &p.key, acc) {
			return p.hash, false
		}
	}
	return math.MaxUint64, true
}
