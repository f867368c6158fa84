package state

import (
	"iter"

	"github.com/millrace/millrace/runtime/keygroup"
)

// A list or a map is a table of its elements, keyed by the stream's key and
// their place in it, beside a table of sizes. The high half of an element's
// hash is that of the stream's key, which keeps it in the key's group; the low
// half spreads the elements. None of this is stored: hashes are computed again on
// restore.

// sizeSuffix names the table of sizes.
const sizeSuffix = "/size"

func within(hash, sub uint64) uint64 {
	x := hash ^ sub*0x9e3779b97f4a7c15
	x ^= x >> 32
	x *= 0xd6e8feb86659fd93
	x ^= x >> 32
	return hash&^0xffffffff | x&0xffffffff
}

// ListKey is the key of an element in the table of a List.
type ListKey[K comparable] struct {
	Key   K
	Index uint64
}

// List is a list for the current key. Appending costs the same however long
// it is, and a checkpoint takes only what was added.
type List[K comparable, E any] struct {
	sizes    *Table[K, uint64]
	elements *Table[ListKey[K], E]
	cur      *Current[K]
}

// NewList adds a list state to a store.
func NewList[K comparable, E any](s *Store, cur *Current[K], name string) (*List[K, E], error) {
	hash, err := keygroup.HasherOf[K]()
	if err != nil {
		return nil, stateError(name, err)
	}
	elements, err := NewTableHashed[ListKey[K], E](s, name, func(k *ListKey[K]) uint64 {
		return within(hash(&k.Key), k.Index)
	})
	if err != nil {
		return nil, err
	}
	sizes, err := NewTable[K, uint64](s, name+sizeSuffix)
	if err != nil {
		return nil, err
	}
	s.Describe(name, "list")
	s.Describe(name+sizeSuffix, "list")
	return &List[K, E]{sizes, elements, cur}, nil
}

func (h *List[K, E]) at(i uint64) (uint64, ListKey[K]) {
	return within(h.cur.hash, i), ListKey[K]{h.cur.key, i}
}

// Append adds elements at the end.
func (h *List[K, E]) Append(es ...E) {
	if len(es) == 0 {
		return
	}
	n, _ := h.sizes.Upsert(h.cur.hash, h.cur.key)
	for i := range es {
		e, _ := h.elements.Upsert(h.at(*n))
		*e = es[i]
		*n++
	}
}

// All yields the elements in order. The list must not change meanwhile.
func (h *List[K, E]) All() iter.Seq[E] {
	return func(yield func(E) bool) {
		for i := range uint64(h.Len()) {
			e, ok := h.elements.Get(h.at(i))
			if !ok || !yield(*e) {
				return
			}
		}
	}
}

// Len is the number of elements.
func (h *List[K, E]) Len() int {
	n, ok := h.sizes.Get(h.cur.hash, h.cur.key)
	if !ok {
		return 0
	}
	return int(*n)
}

// Set replaces the list.
func (h *List[K, E]) Set(es []E) {
	h.cut(uint64(len(es)))
	if len(es) == 0 {
		return
	}
	n, _ := h.sizes.Upsert(h.cur.hash, h.cur.key)
	*n = uint64(len(es))
	for i := range es {
		e, _ := h.elements.Upsert(h.at(uint64(i)))
		*e = es[i]
	}
}

// Clear removes all elements.
func (h *List[K, E]) Clear() { h.cut(0) }

// cut removes the elements from n on.
func (h *List[K, E]) cut(n uint64) {
	for i := uint64(h.Len()); i > n; i-- {
		h.elements.Delete(h.at(i - 1))
	}
	if n == 0 {
		h.sizes.Delete(h.cur.hash, h.cur.key)
	}
}

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
	return &Map[K, MK, MV]{sizes, entries, of, cur}, nil
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

// Put sets the value of a key.
func (h *Map[K, MK, MV]) Put(k MK, v MV) {
	p, fresh := h.entries.Upsert(h.at(k))
	*p = v
	if fresh {
		n, _ := h.sizes.Upsert(h.cur.hash, h.cur.key)
		*n++
	}
}

// Delete removes a key and says whether it was there.
func (h *Map[K, MK, MV]) Delete(k MK) bool {
	if !h.entries.Delete(h.at(k)) {
		return false
	}
	n, _ := h.sizes.Upsert(h.cur.hash, h.cur.key)
	if *n--; *n == 0 {
		h.sizes.Delete(h.cur.hash, h.cur.key)
	}
	return true
}

// All yields the entries in no order. The map must not change meanwhile, but
// for the entry that was yielded.
func (h *Map[K, MK, MV]) All() iter.Seq2[MK, MV] {
	return func(yield func(MK, MV) bool) {
		left := h.Len()
		if left == 0 {
			return
		}
		// All entries of the key have the high half of its hash.
		from, cur := h.cur.hash&^0xffffffff, h.cur.key
		last := from | 0xffffffff
		for done := false; left > 0 && !done && from <= last; {
			from, done = h.entries.Scan(from, 1, func(hash uint64, k *MapKey[K, MK], v *MV) bool {
				if hash > last || k.Key != cur {
					return true
				}
				left--
				if !yield(k.Of, *v) {
					left = 0
				}
				return left > 0
			})
		}
	}
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
	if h.Len() == 0 {
		return
	}
	keys := make([]MK, 0, h.Len())
	for k := range h.All() {
		keys = append(keys, k)
	}
	for _, k := range keys {
		h.entries.Delete(h.at(k))
	}
	h.sizes.Delete(h.cur.hash, h.cur.key)
}
