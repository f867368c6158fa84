package window

import (
	"github.com/millrace/millrace/runtime/codec"
	"github.com/millrace/millrace/runtime/keygroup"
	"github.com/millrace/millrace/runtime/state"
)

// combiner keeps, for every key, the merge of the slices that the current
// window covers. It is derived from the slices and never checkpointed. The
// accumulators that it is given belong to the slices: it copies them.
type combiner[K comparable, A any] interface {
	// prepare does work that is due before slices expire, within the budget;
	// false says that there is more.
	prepare(budget *int) bool
	// include adds a key of a slice that joins the window; slices come in
	// ascending order.
	include(slice int64, hash uint64, key *K, acc *A)
	// late adds a value to a slice that is in the window already; fresh says
	// that the slice did not hold the key before.
	late(slice int64, hash uint64, key K, fresh bool, add func(acc *A, fresh bool))
	// expire takes a key of a slice out of the window; slices leave in
	// ascending order, and expired is called when one has left.
	expire(slice int64, hash uint64, key *K, acc *A)
	expired(slice int64)
	// settle does work that is due before scan, within the budget; false says
	// that there is more.
	settle(budget *int) bool
	// get is the accumulator of a key, valid until the next call.
	get(hash uint64, key *K) (acc *A, ok bool)
	// scan visits the keys of the window in hash order, as state.Table.Scan.
	// The accumulator is valid during the call of f.
	scan(from uint64, max int, f func(hash uint64, key *K, acc *A) bool) (next uint64, done bool)
}

// newCombiner chooses by what the windows are and what the aggregate can do.
func (c *Config[K, T, A, R]) newCombiner(parts *state.Spaces[K, A], accs codec.Codec[A], r keygroup.Range) (inner combiner[K, A], err error) {
	// Its tables live in a store of their own that is never frozen, so they
	// cost no copy at a barrier.
	s := state.NewStore(r)
	switch {
	case !c.Assigner.overlaps():
		if c.Rank == nil {
			return nil, nil
		}
		inner = &direct[K, A]{parts: parts}
	case c.Assigner.Cumulate: // slices leave all at once
		inner, err = newRunning[K](s, c.Aggregate.Merge, func(_, _ *A) {}, accs)
	case c.Aggregate.Subtract != nil:
		inner, err = newRunning[K](s, c.Aggregate.Merge, c.Aggregate.Subtract, accs)
	default:
		inner, err = newStacks(s, parts, c.Aggregate.Merge, accs)
	}
	if err != nil || c.Rank == nil {
		return inner, err
	}
	rank := c.Rank()
	return &ranked[K, A]{inner, rank, !c.Assigner.overlaps()}, rank.open(r)
}

// held is the set of slices that a combiner covers: a contiguous stretch.
type held struct {
	first, last int64
	any         bool
}

func (h *held) add(slice int64) {
	if !h.any {
		h.first, h.last, h.any = slice, slice, true
	}
	h.first, h.last = min(h.first, slice), max(h.last, slice)
}

// drop forgets the slices up to and including one.
func (h *held) drop(slice int64) {
	h.first = slice + 1
	h.any = h.first <= h.last
}
