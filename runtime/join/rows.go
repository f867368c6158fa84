package join

import (
	"github.com/millrace/millrace/runtime/keygroup"
	"github.com/millrace/millrace/runtime/state"
)

// Row is a kept record.
type Row[V any] struct {
	// Time is its event time.
	Time int64
	// Mark is what a join notes of it: Keyed, when it came in processing time;
	// Window, of a first row, the end of the last window that its key fired for.
	Mark int64
	// Matched says that it needs not come out unmatched any more.
	Matched bool
	Value   V
}

// Head begins the rows of a key: the row at place First is in it, as most keys
// have but one; those behind it up to Next are entries of their own.
type Head[V any] struct {
	First, Next uint64
	Row         Row[V]
}

// rows are the kept rows of all keys, of each in order of arrival. Rows leave from
// the front.
type rows[K comparable, V any] struct {
	s     *state.Store
	heads *state.Table[K, Head[V]]
	rest  *state.Table[state.ListKey[K], Row[V]]
}

// restSuffix names the state of rows behind the first.
const restSuffix = "/rest"

func newRows[K comparable, V any](s *state.Store, name string) (r rows[K, V], err error) {
	hash, err := restHash[K]()
	if err != nil {
		return r, err
	}
	r.s = s
	if r.heads, err = state.NewTable[K, Head[V]](s, name); err != nil {
		return r, err
	}
	r.rest, err = state.NewTableHashed[state.ListKey[K], Row[V]](s, name+restSuffix, hash)
	describe(s, name)
	return r, err
}

// describe says how the states of rows are to be read: the keys of those behind
// the first are as of a list, of the stream's key and a place.
func describe(s *state.Store, name string) {
	s.Describe(name, "join")
	s.Describe(name+restSuffix, "list")
}

func restHash[K comparable]() (func(*state.ListKey[K]) uint64, error) {
	hash, err := keygroup.HasherOf[K]()
	return func(k *state.ListKey[K]) uint64 { return placed(hash(&k.Key), k.Index) }, err
}

// placed is the hash of a place: the high half is that of the key, which keeps the
// row in the key's group; the low half has places in a row side by side.
func placed(hash, i uint64) uint64 {
	x := (hash ^ i>>5) * 0x9e3779b97f4a7c15
	x ^= x >> 29
	return hash&^0xffffffff | x<<13&0xffffe000 | (hash+i)&0x1fff
}

// append adds a row behind those of a key and says whether it is the first.
func (r *rows[K, V]) append(hash uint64, key K, row Row[V]) (first bool) {
	h, fresh := r.heads.Upsert(hash, key)
	if fresh {
		r.heads.Set(hash, h, Head[V]{Next: 1, Row: row})
		return true
	}
	i := h.Next
	h.Next++
	r.rest.Put(placed(hash, i), state.ListKey[K]{Key: key, Index: i}, row)
	return false
}

// set makes a row the only one of a key that had one at most. One that was matched
// has come out already.
func (r *rows[K, V]) set(hash uint64, key K, row Row[V]) {
	h, fresh := r.heads.Upsert(hash, key)
	row.Matched = row.Matched || !fresh && h.Row.Matched
	r.heads.Set(hash, h, Head[V]{Next: 1, Row: row})
}

// first returns the first row of a key, or nil, with its place and the end. A row
// is for reading, until the next call that concerns the store:
//
//	for row, i, end := r.first(hash, key); row != nil; row, i = r.after(hash, key, i, end) {
func (r *rows[K, V]) first(hash uint64, key K) (row *Row[V], i, end uint64) {
	h, ok := r.heads.Get(hash, key)
	if !ok {
		return nil, 0, 0
	}
	return &h.Row, h.First, h.Next
}

// after returns the row behind place i, or nil.
func (r *rows[K, V]) after(hash uint64, key K, i, end uint64) (*Row[V], uint64) {
	if i++; i >= end {
		return nil, i
	}
	if i%state.Stride == 0 {
		r.s.Ease()
	}
	row, ok := r.rest.Get(placed(hash, i), state.ListKey[K]{Key: key, Index: i})
	if !ok {
		return nil, i
	}
	return row, i
}

// at returns the row at a place, which has one.
func (r *rows[K, V]) at(hash uint64, key K, i uint64) *Row[V] {
	if h, ok := r.heads.Get(hash, key); ok && h.First == i {
		return &h.Row
	}
	row, _ := r.rest.Get(placed(hash, i), state.ListKey[K]{Key: key, Index: i})
	return row
}

// match marks the row at a place as matched, and returns it where it is now.
func (r *rows[K, V]) match(hash uint64, key K, i uint64) *Row[V] {
	if h, _ := r.heads.Upsert(hash, key); h.First == i {
		h.Row.Matched = true
		return &h.Row
	}
	row, _ := r.rest.Upsert(placed(hash, i), state.ListKey[K]{Key: key, Index: i})
	row.Matched = true
	return row
}

// removeFirst removes the first row of a key that has one.
func (r *rows[K, V]) removeFirst(hash uint64, key K) {
	h, ok := r.heads.Get(hash, key)
	if !ok {
		return
	}
	i, end := h.First+1, h.Next
	if i == end {
		r.heads.Delete(hash, key)
		return
	}
	at := state.ListKey[K]{Key: key, Index: i}
	next, _ := r.rest.Get(placed(hash, i), at)
	row := *next
	p, _ := r.heads.Upsert(hash, key)
	r.heads.Set(hash, p, Head[V]{First: i, Next: end, Row: row})
	r.rest.Delete(placed(hash, i), at)
}

// clear removes all rows of a key.
func (r *rows[K, V]) clear(hash uint64, key K) {
	h, ok := r.heads.Get(hash, key)
	if !ok {
		return
	}
	first, end := h.First, h.Next
	for i := first + 1; i < end; i++ {
		r.rest.Delete(placed(hash, i), state.ListKey[K]{Key: key, Index: i})
	}
	r.heads.Delete(hash, key)
}

// unmatched goes through the rows that are not matched, from a place on and a
// bounded number of steps far, marks each, and calls f with it. It returns where to
// go on, done when there are none left.
type unmatched struct {
	rest bool // the first rows are done
	from uint64
}

func (r *rows[K, V]) takeUnmatched(u *unmatched, budget *int, f func(v *V, time int64)) (done bool) {
	for *budget > 0 {
		var end bool
		if n := *budget; u.rest {
			u.from, end = r.rest.Scan(u.from, n, func(hash uint64, key *state.ListKey[K], row *Row[V]) bool {
				*budget--
				if !row.Matched {
					row, _ = r.rest.Upsert(hash, *key)
					row.Matched = true
					f(&row.Value, row.Time)
				}
				return true
			})
		} else {
			u.from, end = r.heads.Scan(u.from, n, func(hash uint64, key *K, h *Head[V]) bool {
				*budget--
				if !h.Row.Matched {
					h, _ = r.heads.Upsert(hash, *key)
					h.Row.Matched = true
					f(&h.Row.Value, h.Row.Time)
				}
				return true
			})
		}
		if end && u.rest {
			return true
		}
		if end {
			*u = unmatched{rest: true}
		}
		*budget-- // an empty stretch is work too
	}
	return false
}
