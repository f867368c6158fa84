package state

import (
	"iter"

	"github.com/millrace/millrace/runtime/keygroup"
)

// MapKey is the key of an entry in the table of a Map.
type MapKey[K, MK comparable] struct {
	Key K
	Of  MK
}

// Map is a map for the current key. Each of its entries is state of its own:
// its size costs neither updates nor checkpoints.
type Map[K, MK comparable, MV any] struct {
	sizes   *Table[K, uint64]
	entries *Table[MapKey[K, MK], MV]
	hash    func(*MK) uint64
	cur     *Current[K]
	edits   uint64                     // for walks
	spare   *cursor[MapKey[K, MK], MV] // of the last walk
}

// NewMap adds a map state to a store.
func NewMap[K, MK comparable, MV any](s *Store, cur *Current[K], name string) (*Map[K, MK, MV], error) {
	hash, err := keygroup.HasherOf[K]()
	if err != nil {
		return nil, stateError(name, err)
	}
	of, err := keygroup.HasherOf[MK]()
	if err != nil {
		return nil, stateError(name, err)
	}
	entries, err := NewTableHashed[MapKey[K, MK], MV](s, name, func(k *MapKey[K, MK]) uint64 {
		return within(hash(&k.Key), of(&k.Of))
	})
	if err != nil {
		return nil, err
	}
	sizes, err := NewTable[K, uint64](s, name+sizeSuffix)
	if err != nil {
		return nil, err
	}
	s.Describe(name, "map")
	s.Describe(name+sizeSuffix, "map")
	return &Map[K, MK, MV]{sizes: sizes, entries: entries, hash: of, cur: cur}, nil
}

func (h *Map[K, MK, MV]) at(k MK) (uint64, MapKey[K, MK]) {
	key := MapKey[K, MK]{h.cur.key, k}
	return within(h.cur.hash, h.hash(&key.Of)), key
}

// Get returns the value of a key and whether there is one.
func (h *Map[K, MK, MV]) Get(k MK) (MV, bool) {
	v, ok := h.entries.Get(h.at(k))
	if !ok {
		var zero MV
		return zero, false
	}
	return *v, true
}

// Has says whether a key is there.
func (h *Map[K, MK, MV]) Has(k MK) bool {
	_, ok := h.entries.Get(h.at(k))
	return ok
}

// Put sets the value of a key.
func (h *Map[K, MK, MV]) Put(k MK, v MV) {
	h.edits++
	hash, key := h.at(k)
	if h.entries.Put(hash, key, v) {
		n, _ := h.sizes.Upsert(h.cur.hash, h.cur.key)
		*n++
	}
}

// Delete removes a key and says whether it was there.
func (h *Map[K, MK, MV]) Delete(k MK) bool {
	if !h.entries.Delete(h.at(k)) {
		return false
	}
	h.edits++
	n, _ := h.sizes.Upsert(h.cur.hash, h.cur.key)
	if *n--; *n == 0 {
		h.sizes.Delete(h.cur.hash, h.cur.key)
	}
	return true
}

// All yields the entries, each once, in no order. They come from the state a
// page at a time: a map may be larger than memory. The map may change meanwhile,
// as Go's may: an entry that is removed before its turn does not come, one that is
// put before its turn comes with the value that it has then, and a new one may
// come or not. A walk is over with the call of user code in which it began, and
// is no part of Value.Update.
func (h *Map[K, MK, MV]) All() iter.Seq2[MK, MV] {
	return func(yield func(MK, MV) bool) {
		c, left, edits := h.begin()
		defer h.end(c)
		for left > 0 && c.read() {
			for i := range c.keys {
				v := c.values[i]
				if left--; h.edits != edits {
					left = 1 // not known any more
					now, ok := h.entries.Get(c.hashes[i], c.keys[i])
					if !ok {
						continue
					}
					v = *now
				}
				if !yield(c.keys[i].Of, v) {
					return
				}
			}
		}
	}
}

// Keys is All without the values.
func (h *Map[K, MK, MV]) Keys() iter.Seq[MK] {
	return func(yield func(MK) bool) {
		for k := range h.All() {
			if !yield(k) {
				return
			}
		}
	}
}

// begin returns a cursor for all entries, and how many those are.
func (h *Map[K, MK, MV]) begin() (c *cursor[MapKey[K, MK], MV], left int, edits uint64) {
	if c = h.spare; c == nil {
		c = &cursor[MapKey[K, MK], MV]{}
		on := &c.key
		c.wanted = func(k *MapKey[K, MK]) bool { return k.Key == on.Key }
	}
	h.spare = nil
	c.key.Key = h.cur.key
	// All entries of the key have the high half of its hash.
	c.begin(h.entries, h.cur.hash&^0xffffffff, h.cur.hash|0xffffffff)
	return c, h.Len(), h.edits
}

func (h *Map[K, MK, MV]) end(c *cursor[MapKey[K, MK], MV]) {
	c.reset()
	h.spare = c
}

// Len is the number of entries.
func (h *Map[K, MK, MV]) Len() int {
	n, ok := h.sizes.Get(h.cur.hash, h.cur.key)
	if !ok {
		return 0
	}
	return int(*n)
}

// Clear removes all entries.
func (h *Map[K, MK, MV]) Clear() {
	c, left, _ := h.begin()
	defer h.end(c)
	if left == 0 {
		return
	}
	h.edits++
	for left > 0 && c.read() {
		for i := range c.keys {
			h.entries.Delete(c.hashes[i], c.keys[i])
			left--
		}
	}
	h.sizes.Delete(h.cur.hash, h.cur.key)
}
