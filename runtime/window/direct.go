package window

import (
	"github.com/millrace/millrace/runtime/state"
)

// direct is the combiner of windows that share no slices: a window is the slice
// that it covers.
type direct[K comparable, A any] struct {
	held
	parts *state.Spaces[K, A]
}

func (c *direct[K, A]) prepare(*int) bool { return true }

func (c *direct[K, A]) settle(*int) bool { return true }

func (c *direct[K, A]) include(slice int64, _ uint64, _ *K, _ *A) { c.add(slice) }

func (c *direct[K, A]) late(slice int64, _ uint64, _ K, _ bool, _ func(*A, bool)) { c.add(slice) }

func (c *direct[K, A]) expire(int64, uint64, *K, *A) {}

func (c *direct[K, A]) expired(slice int64) { c.drop(slice) }

func (c *direct[K, A]) get(hash uint64, key *K) (*A, bool) {
	t := c.parts.Lookup(c.first)
	if t == nil || !c.any {
		return nil, false
	}
	return t.Get(hash, *key)
}

func (c *direct[K, A]) scan(from uint64, max int, f func(hash uint64, key *K, acc *A) bool) (uint64, bool) {
	return c.parts.Lookup(c.first).Scan(from, max, f)
}
