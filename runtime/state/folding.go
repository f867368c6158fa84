package state

// Reducing is one value for the current key, to which others are reduced.
type Reducing[K comparable, V any] struct {
	value *Value[K, V]
	f     func(sofar, v V) V
}

// NewReducing adds a reducing state to a store. f must depend on its arguments
// alone, and use no state.
func NewReducing[K comparable, V any](s *Store, cur *Current[K], name string, f func(sofar, v V) V, ttl ...TTL) (*Reducing[K, V], error) {
	v, err := NewValue[K, V](s, cur, name, ttl...)
	if err != nil {
		return nil, err
	}
	s.Describe(name, "reducing")
	return &Reducing[K, V]{v, f}, nil
}

// Add reduces the value and v to one. The first v of a key is its own reduction.
func (h *Reducing[K, V]) Add(v V) {
	sofar, fresh := h.value.upsert()
	if !fresh {
		v = h.f(*sofar, v)
	}
	h.value.table.Set(h.value.cur.hash, sofar, v)
}

// Get returns the reduction, zero if there is none.
func (h *Reducing[K, V]) Get() V { return h.value.Get() }

// Lookup returns the reduction and whether there is one.
func (h *Reducing[K, V]) Lookup() (V, bool) { return h.value.Lookup() }

// Clear removes the reduction.
func (h *Reducing[K, V]) Clear() { h.value.Clear() }

// Aggregating is an accumulator for the current key, into which values are
// folded.
type Aggregating[K comparable, T, A any] struct {
	value *Value[K, A]
	begin func() A
	add   func(acc *A, v T)
}

// NewAggregating adds an aggregating state to a store: begin makes an empty
// accumulator, add folds a value in. Both must depend on their arguments alone,
// and use no state.
func NewAggregating[K comparable, T, A any](s *Store, cur *Current[K], name string, begin func() A, add func(acc *A, v T), ttl ...TTL) (*Aggregating[K, T, A], error) {
	v, err := NewValue[K, A](s, cur, name, ttl...)
	if err != nil {
		return nil, err
	}
	s.Describe(name, "aggregating")
	return &Aggregating[K, T, A]{v, begin, add}, nil
}

// Add folds v in.
func (h *Aggregating[K, T, A]) Add(v T) {
	acc, fresh := h.value.upsert()
	if fresh {
		*acc = h.begin()
	}
	h.add(acc, v)
}

// Get returns the accumulator, an empty one if there is none. Its memory is the
// state's: what it holds is for reading.
func (h *Aggregating[K, T, A]) Get() A {
	if acc, ok := h.value.Lookup(); ok {
		return acc
	}
	return h.begin()
}

// Lookup returns the accumulator and whether there is one.
func (h *Aggregating[K, T, A]) Lookup() (A, bool) { return h.value.Lookup() }

// Clear removes the accumulator.
func (h *Aggregating[K, T, A]) Clear() { h.value.Clear() }
