package state

import (
	"iter"
	"unsafe"

	"github.com/millrace/millrace/runtime/keygroup"
)

// ListKey is the key of an element in the table of a List.
type ListKey[K comparable] struct {
	Key   K
	Index uint64
}

// List is a list for the current key. Appending costs the same however long
// it is, and a checkpoint takes only what was added or removed.
//
// Elements have places, counted from the first that came to a list that was
// empty. Those that were removed leave gaps, so nothing moves.
type List[K comparable, E any] struct {
	sizes    *Table[K, uint64] // the place after the last element
	gaps     *Table[K, listGaps]
	elements *Table[ListKey[K], E]
	cur      *Current[K]
	cuts     uint64 // how often a list was cut or emptied, for walks
}

// listGaps are those of a list that has some.
type listGaps struct {
	First uint64 // no place before it has an element, not even one that has expired
	Count uint64 // places without one
}

// NewList adds a list state to a store. With a TTL, of which there is at most
// one, each element lives for itself, and Len counts by a walk.
func NewList[K comparable, E any](s *Store, cur *Current[K], name string, ttl ...TTL) (*List[K, E], error) {
	hash, err := keygroup.HasherOf[K]()
	if err != nil {
		return nil, stateError(name, err)
	}
	elements, err := NewTableHashed[ListKey[K], E](s, name, func(k *ListKey[K]) uint64 {
		return placed(hash(&k.Key), k.Index)
	}, ttl...)
	if err != nil {
		return nil, err
	}
	sizes, err := NewTable[K, uint64](s, name+sizeSuffix)
	if err != nil {
		return nil, err
	}
	gaps, err := NewTable[K, listGaps](s, name+gapsSuffix)
	if err != nil {
		return nil, err
	}
	s.Describe(name, "list")
	s.Describe(name+sizeSuffix, "list")
	s.Describe(name+gapsSuffix, "list")
	h := &List[K, E]{sizes: sizes, gaps: gaps, elements: elements, cur: cur}
	elements.of.counted = true
	elements.expired = func(_ uint64, at unsafe.Pointer) int {
		k := (*ListKey[K])(at)
		h.expired(hash(&k.Key), k.Key)
		return 0
	}
	return h, nil
}

// expired counts an element of some key that is there no more.
func (h *List[K, E]) expired(hash uint64, key K) {
	end, ok := h.sizes.Get(hash, key)
	if !ok {
		return
	}
	g, _ := h.gaps.Upsert(hash, key)
	if g.Count++; g.Count == *end {
		h.cuts++
		h.sizes.Delete(hash, key)
		h.gaps.Delete(hash, key)
	}
}

// placesABlock is how many places in a row lie side by side, so that a walk
// finds many elements on each page.
const placesABlock = 32

// placed is the hash of a place. Its low bits, which choose slots within a page,
// are those of the place, the others those of its block.
func placed(hash, i uint64) uint64 {
	const low = 1<<13 - 1
	return within(hash, i/placesABlock)&^low | within(hash, ^i)&low
}

func (h *List[K, E]) at(i uint64) (uint64, ListKey[K]) {
	return placed(h.cur.hash, i), ListKey[K]{h.cur.key, i}
}

// bounds are the first place that may have an element, the place after the
// last, and how many elements there are.
func (h *List[K, E]) bounds() (first, end, n uint64) {
	p, ok := h.sizes.Get(h.cur.hash, h.cur.key)
	if !ok {
		return 0, 0, 0
	}
	first, end = 0, *p
	if h.gaps.Len() == 0 {
		return 0, end, end
	}
	g, ok := h.gaps.Get(h.cur.hash, h.cur.key)
	if !ok {
		return 0, end, end
	}
	return g.First, end, end - g.Count
}

// Append adds elements at the end.
func (h *List[K, E]) Append(es ...E) {
	if len(es) == 0 {
		return
	}
	n, _ := h.sizes.Upsert(h.cur.hash, h.cur.key)
	for i := range es {
		hash, key := h.at(*n)
		e, _ := h.elements.Renew(hash, key)
		h.elements.Set(hash, e, es[i])
		*n++
	}
}

// Len is the number of elements.
func (h *List[K, E]) Len() int {
	first, end, n := h.bounds()
	if n > 0 && h.elements.of.timed {
		n = 0
		for i := first; i < end; i++ {
			if h.elements.alive(h.at(i)) {
				n++
			}
		}
	}
	return int(n)
}

// All yields the elements that the list has when the walk begins, in order.
// They come from the state one by one: a list may be larger than memory. The
// list may change meanwhile: elements that are removed before their turn do not
// come, nor do those that are appended, and after Set and Clear none do. A walk
// is over with the call of user code in which it began, and is no part of
// Value.Update.
func (h *List[K, E]) All() iter.Seq[E] {
	return func(yield func(E) bool) {
		h.walk(false, func(_ uint64, e *E) bool { return yield(*e) })
	}
}

// walk calls f for the elements in order; f may remove the one that it gets. With
// reap it removes what has expired on the way.
func (h *List[K, E]) walk(reap bool, f func(i uint64, e *E) bool) {
	first, end, _ := h.bounds()
	cuts, on := h.cuts, *h.cur
	for i := first; i < end && h.cuts == cuts; i++ {
		if (i-first)%Stride == Stride-1 {
			h.elements.s.Ease()
		}
		e, ok := h.elements.Live(placed(on.hash, i), ListKey[K]{on.key, i})
		if !ok && reap {
			h.elements.reap(placed(on.hash, i), ListKey[K]{on.key, i})
		}
		if ok && !f(i, e) {
			return
		}
	}
}

// Set replaces the list.
func (h *List[K, E]) Set(es []E) {
	if _, end, n := h.bounds(); n < end || len(es) == 0 || h.elements.of.timed {
		h.Clear()
	} else if uint64(len(es)) < end {
		h.cut(uint64(len(es)), end)
	}
	if len(es) == 0 {
		return
	}
	h.cuts++
	n, _ := h.sizes.Upsert(h.cur.hash, h.cur.key)
	*n = uint64(len(es))
	for i := range es {
		hash, key := h.at(uint64(i))
		e, _ := h.elements.Renew(hash, key)
		h.elements.Set(hash, e, es[i])
	}
}

// Clear removes all elements.
func (h *List[K, E]) Clear() {
	h.cuts++
	first, end, _ := h.bounds()
	h.cut(first, end)
	h.forget()
}

// cut removes the elements at the places from first up to end.
func (h *List[K, E]) cut(first, end uint64) {
	for i := first; i < end; i++ {
		if (i-first)%Stride == Stride-1 {
			h.elements.s.Ease()
		}
		h.elements.Delete(h.at(i))
	}
}

// forget removes what is known of a list without elements.
func (h *List[K, E]) forget() {
	h.sizes.Delete(h.cur.hash, h.cur.key)
	if h.gaps.Len() > 0 {
		h.gaps.Delete(h.cur.hash, h.cur.key)
	}
}

// RemoveFirst removes up to n elements from the front. It costs as much as they
// are, however long the list is.
func (h *List[K, E]) RemoveFirst(n int) {
	if n > 0 {
		h.remove(func(*E) (remove, more bool) { n--; return true, n > 0 })
	}
}

// RemoveWhile removes elements from the front for which f is true, up to the
// first for which it is not. f must not use the list.
func (h *List[K, E]) RemoveWhile(f func(E) bool) {
	h.remove(func(e *E) (remove, more bool) {
		ok := f(*e)
		return ok, ok
	})
}

// Retain removes the elements for which keep is false. Those that stay keep
// their order. keep must not use the list.
func (h *List[K, E]) Retain(keep func(E) bool) {
	h.remove(func(e *E) (remove, more bool) { return !keep(*e), true })
}

func (h *List[K, E]) remove(f func(*E) (remove, more bool)) {
	head, stays, gone := uint64(0), false, uint64(0)
	h.walk(true, func(i uint64, e *E) bool {
		remove, more := f(e)
		if remove {
			h.elements.Delete(h.at(i))
			gone++
		}
		if !stays { // nor does anything before it
			head, stays = i, !remove
			if remove {
				head++
			}
		}
		return more
	})
	first, end, n := h.bounds()
	switch {
	case n == 0:
	case gone == n:
		h.cuts++
		h.forget()
	case gone > 0 || head > first:
		g, _ := h.gaps.Upsert(h.cur.hash, h.cur.key)
		g.First, g.Count = max(first, head), end-n+gone
	}
}
