package state

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
type Value[K comparable, V any] struct {
	table *Table[K, V]
	cur   *Current[K]
}

// NewValue adds a value state to a store; there is at most one TTL.
func NewValue[K comparable, V any](s *Store, cur *Current[K], name string, ttl ...TTL) (*Value[K, V], error) {
	t, err := NewTable[K, V](s, name, ttl...)
	if err != nil {
		return nil, err
	}
	s.Describe(name, "value")
	return &Value[K, V]{t, cur}, nil
}

// Get returns the value, zero if there is none.
func (h *Value[K, V]) Get() V {
	v, _ := h.Lookup()
	return v
}

// Lookup returns the value and whether there is one.
func (h *Value[K, V]) Lookup() (V, bool) {
	var v *V
	var ok bool
	if h.table.of.timed {
		v, ok = h.table.Live(h.cur.hash, h.cur.key)
	} else {
		v, ok = h.table.Get(h.cur.hash, h.cur.key)
	}
	if !ok {
		var zero V
		return zero, false
	}
	return *v, true
}

// GetOr returns the value, or def if there is none.
func (h *Value[K, V]) GetOr(def V) V {
	if v, ok := h.Lookup(); ok {
		return v
	}
	return def
}

// Set replaces the value.
func (h *Value[K, V]) Set(v V) {
	p, _ := h.upsert()
	h.table.Set(h.cur.hash, p, v)
}

func (h *Value[K, V]) upsert() (v *V, fresh bool) {
	if h.table.of.timed {
		return h.table.Renew(h.cur.hash, h.cur.key)
	}
	return h.table.Upsert(h.cur.hash, h.cur.key)
}

// Update calls f with the value, zero if there was none, to change in place.
// f must not use other state of the operator.
func (h *Value[K, V]) Update(f func(*V)) {
	v, _ := h.upsert()
	f(v)
}

// Clear removes the value.
func (h *Value[K, V]) Clear() { h.table.Delete(h.cur.hash, h.cur.key) }
