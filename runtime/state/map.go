package state

import (
	"iter"
	"unsafe"

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

// NewMap adds a map state to a store. With a TTL, of which there is at most one,
// each entry lives for itself, and Len counts by a walk.
func NewMap[K, MK comparable, MV any](s *Store, cur *Current[K], name string, ttl ...TTL) (*Map[K, MK, MV], error) {
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
	}, ttl...)
	if err != nil {
		return nil, err
	}
	sizes, err := NewTable[K, uint64](s, name+sizeSuffix)
	if err != nil {
		return nil, err
	}
	s.Describe(name, "map")
	s.Describe(name+sizeSuffix, "map")
	h := &Map[K, MK, MV]{sizes: sizes, entries: entries, hash: of, cur: cur}
	entries.of.counted = true
	entries.expired = func(_ uint64, at unsafe.Pointer) int {
		k := (*MapKey[K, MK])(at)
		h.less(hash(&k.Key), k.Key)
		return 0
	}
	return h, nil
}

// less counts an entry of some key that is there no more.
func (h *Map[K, MK, MV]) less(hash uint64, key K) {
	n, _ := h.sizes.Upsert(hash, key)
	if *n--; *n == 0 {
		h.sizes.Delete(hash, key)
	}
}

func (h *Map[K, MK, MV]) at(k MK) (uint64, MapKey[K, MK]) {
	key := MapKey[K, MK]{h.cur.key, k}
	return within(h.cur.hash, h.hash(&key.Of)), key
}

// Get returns the value of a key and whether there is one.
func (h *Map[K, MK, MV]) Get(k MK) (MV, bool) {
	v, ok := h.live(k)
	if !ok {
		var zero MV
		return zero, false
	}
	return *v, true
}

// Has says whether a key is there.
func (h *Map[K, MK, MV]) Has(k MK) bool {
	_, ok := h.live(k)
	return ok
}

func (h *Map[K, MK, MV]) live(k MK) (*MV, bool) {
	if h.entries.of.timed {
		return h.entries.Live(h.at(k))
	}
	return h.entries.Get(h.at(k))
}

// Put sets the value of a key.
func (h *Map[K, MK, MV]) Put(k MK, v MV) {
	h.edits++
	hash, key := h.at(k)
	p, fresh := h.entries.Renew(hash, key)
	h.entries.Set(hash, p, v)
	if fresh {
		n, _ := h.sizes.Upsert(h.cur.hash, h.cur.key)
		*n++
	}
}

// Delete removes a key and says whether it was there.
func (h *Map[K, MK, MV]) Delete(k MK) bool {
	was := true
	if h.entries.of.timed {
		was = h.entries.alive(h.at(k))
	}
	if !h.entries.Delete(h.at(k)) {
		return false
	}
	h.edits++
	h.less(h.cur.hash, h.cur.key)
	return was
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
		uses := h.entries.of.life.onRead
		for left > 0 && c.read() {
			for i := range c.keys {
				v := c.values[i]
				if left--; uses || h.edits != edits {
					left = 1 // not known any more
					now, ok := h.entries.Live(c.hashes[i], c.keys[i])
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
	return c, h.stored(), h.edits
}

func (h *Map[K, MK, MV]) end(c *cursor[MapKey[K, MK], MV]) {
	c.reset()
	c.dead = false
	h.spare = c
}

// Len is the number of entries.
func (h *Map[K, MK, MV]) Len() int {
	n := h.stored()
	if n > 0 && h.entries.of.timed {
		n = 0
		c, _, _ := h.begin()
		for c.read() {
			n += len(c.keys)
		}
		h.end(c)
	}
	return n
}

// stored is the number of entries, with those that have expired and are still
// there.
func (h *Map[K, MK, MV]) stored() int {
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
	c.dead = true
	for left > 0 && c.read() {
		for i := range c.keys {
			h.entries.Delete(c.hashes[i], c.keys[i])
			left--
		}
	}
	h.sizes.Delete(h.cur.hash, h.cur.key)
}
