package state

import "iter"

// Current is the key that an operator's handles work on. The operator sets it
// before it calls user code.
type Current[K comparable] struct {
	hash uint64
	key  K
}

// Set makes key the current one.
func (c *Current[K]) Set(hash uint64, key K) { c.hash, c.key = hash, key }

// Key is the current key.
func (c *Current[K]) Key() K { return c.key }

// Hash is the current key's hash.
func (c *Current[K]) Hash() uint64 { return c.hash }

// Value is one value for the current key.
type Value[K comparable, V any] struct{}

// NewValue adds a value state to a store.
func NewValue[K comparable, V any](s *Store, cur *Current[K], name string) (*Value[K, V], error) {
	panic("state: not yet")
}

// Get returns the value, zero if there is none.
func (h *Value[K, V]) Get() V { panic("state: not yet") }

// Lookup returns the value and whether there is one.
func (h *Value[K, V]) Lookup() (V, bool) { panic("state: not yet") }

// GetOr returns the value, or def if there is none.
func (h *Value[K, V]) GetOr(def V) V { panic("state: not yet") }

// Set replaces the value.
func (h *Value[K, V]) Set(v V) { panic("state: not yet") }

// Update calls f with the value, zero if there was none, to change in place.
// f must not use other state of the operator.
func (h *Value[K, V]) Update(f func(*V)) { panic("state: not yet") }

// Clear removes the value.
func (h *Value[K, V]) Clear() { panic("state: not yet") }

// List is a list for the current key. Appending costs the same however long
// it is, and a checkpoint takes only what was added.
type List[K comparable, E any] struct{}

// NewList adds a list state to a store.
func NewList[K comparable, E any](s *Store, cur *Current[K], name string) (*List[K, E], error) {
	panic("state: not yet")
}

// Append adds elements at the end.
func (h *List[K, E]) Append(es ...E) { panic("state: not yet") }

// All yields the elements in order. The list must not change meanwhile.
func (h *List[K, E]) All() iter.Seq[E] { panic("state: not yet") }

// Len is the number of elements.
func (h *List[K, E]) Len() int { panic("state: not yet") }

// Set replaces the list.
func (h *List[K, E]) Set(es []E) { panic("state: not yet") }

// Clear removes all elements.
func (h *List[K, E]) Clear() { panic("state: not yet") }

// Map is a map for the current key. Each of its entries is state of its own:
// its size costs neither updates nor checkpoints.
type Map[K, MK comparable, MV any] struct{}

// NewMap adds a map state to a store.
func NewMap[K, MK comparable, MV any](s *Store, cur *Current[K], name string) (*Map[K, MK, MV], error) {
	panic("state: not yet")
}

// Get returns the value of a key and whether there is one.
func (h *Map[K, MK, MV]) Get(k MK) (MV, bool) { panic("state: not yet") }

// Put sets the value of a key.
func (h *Map[K, MK, MV]) Put(k MK, v MV) { panic("state: not yet") }

// Delete removes a key and says whether it was there.
func (h *Map[K, MK, MV]) Delete(k MK) bool { panic("state: not yet") }

// All yields the entries in no order. The map must not change meanwhile.
func (h *Map[K, MK, MV]) All() iter.Seq2[MK, MV] { panic("state: not yet") }

// Len is the number of entries.
func (h *Map[K, MK, MV]) Len() int { panic("state: not yet") }

// Clear removes all entries.
func (h *Map[K, MK, MV]) Clear() { panic("state: not yet") }
