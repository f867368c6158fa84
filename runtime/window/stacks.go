package window

import (
	"math"
	"slices"

	"github.com/millrace/millrace/runtime/codec"
	"github.com/millrace/millrace/runtime/state"
)

// stacks is the combiner of aggregates that only merge: two stacks a key.
//
//	      front: suffix merges            back: one merge
//	┌────────┬────────┬────────┐   ┌──────────────────────────┐
//	│ s1..mid│ s2..mid│ s3..mid│mid│ s4 + s5 + …              │
//	└────────┴────────┴────────┘   └──────────────────────────┘
//
// front[s] holds, for each key of slice s, the merge of the key's slices from s
// up to mid, and the key's next slice before mid. A head points at a key's
// first one and holds its back. The value of the window is front[first] + back.
// When a slice expires, its keys' heads move on. When the oldest slice lies in
// the back, the slices of the back are turned into a new front, newest first;
// each slice of a key is merged twice in its life.
type stacks[K comparable, A any] struct {
	held
	merge func(a, b *A)
	accs  codec.Codec[A]
	parts *state.Spaces[K, A] // the operator's slices

	front *state.Spaces[K, suffix[A]]
	heads *state.Table[K, head[A]]
	back  []int64 // slices of the back, ascending
	mid   int64   // slices before mid are in the front
	at    uint64  // where the turn of the last of back goes on

	seen      int64 // the front slice that table is
	seenTable *state.Table[K, suffix[A]]
	value     A // what scan hands out
}

type suffix[A any] struct {
	Acc  A
	Next int64 // noSlice at the last
}

type head[A any] struct {
	First int64 // noSlice when the key is in the back only
	Back  int32 // slices of the back that have the key
	Acc   A     // their merge, if any
}

const noSlice = math.MaxInt64

func newStacks[K comparable, A any](s *state.Store, parts *state.Spaces[K, A], merge func(a, b *A), accs codec.Codec[A]) (_ *stacks[K, A], err error) {
	c := &stacks[K, A]{merge: merge, accs: accs, parts: parts, mid: math.MinInt64, seen: noSlice}
	if c.front, err = state.NewSpaces[K, suffix[A]](s, "front"); err != nil {
		return nil, err
	}
	if c.heads, err = state.NewTable[K, head[A]](s, "heads"); err != nil {
		return nil, err
	}
	s.Describe("front", "window")
	s.Describe("heads", "window")
	return c, nil
}

// prepare turns the back over, from its newest slice to its oldest, when the
// oldest slice of the window lies in it.
func (c *stacks[K, A]) prepare(budget *int) bool {
	if !c.any || c.first < c.mid {
		return true
	}
	for len(c.back) > 0 {
		if *budget <= 0 {
			return false
		}
		s := c.back[len(c.back)-1]
		to := c.front.Space(s)
		next, done := c.parts.Lookup(s).Scan(c.at, *budget, func(hash uint64, key *K, acc *A) bool {
			*budget--
			c.turn(s, to, hash, key, acc)
			return true
		})
		if c.at = next; !done {
			return false
		}
		c.back, c.at = c.back[:len(c.back)-1], 0
	}
	c.mid = c.last + 1
	return true
}

// turn moves one key of slice s from the back to the front.
func (c *stacks[K, A]) turn(s int64, to *state.Table[K, suffix[A]], hash uint64, key *K, acc *A) {
	h, _ := c.heads.Upsert(hash, *key)
	e, _ := to.Upsert(hash, *key)
	e.Acc, e.Next = c.accs.Clone(acc), h.First
	if h.First != noSlice {
		rest, _ := c.suffixes(h.First).Get(hash, *key)
		c.merge(&e.Acc, &rest.Acc)
	}
	h.First = s
	if h.Back--; h.Back == 0 {
		var none A
		h.Acc = none
	}
}

// suffixes is the front's table of a slice; consecutive keys often share it.
func (c *stacks[K, A]) suffixes(slice int64) *state.Table[K, suffix[A]] {
	if slice != c.seen {
		c.seen, c.seenTable = slice, c.front.Lookup(slice)
	}
	return c.seenTable
}

func (c *stacks[K, A]) include(slice int64, hash uint64, key *K, acc *A) {
	c.join(slice)
	h := c.head(hash, *key)
	if h.Back == 0 {
		h.Acc = c.accs.Clone(acc)
	} else {
		c.merge(&h.Acc, acc)
	}
	h.Back++
}

// join notes a slice of the back.
func (c *stacks[K, A]) join(slice int64) {
	c.add(slice)
	if i, found := slices.BinarySearch(c.back, slice); !found {
		c.back = slices.Insert(c.back, i, slice)
	}
}

func (c *stacks[K, A]) head(hash uint64, key K) *head[A] {
	h, fresh := c.heads.Upsert(hash, key)
	if fresh {
		h.First = noSlice
	}
	return h
}

func (c *stacks[K, A]) late(slice int64, hash uint64, key K, fresh bool, add func(acc *A, fresh bool)) {
	h := c.head(hash, key)
	if slice >= c.mid {
		c.join(slice)
		if fresh {
			h.Back++
		}
		add(&h.Acc, fresh && h.Back == 1)
		return
	}
	c.add(slice)
	// The value belongs to the suffixes of the slice and of all before it.
	link := &h.First
	for *link < slice {
		e, _ := c.suffixes(*link).Upsert(hash, key)
		add(&e.Acc, false)
		link = &e.Next
	}
	if *link == slice {
		e, _ := c.suffixes(slice).Upsert(hash, key)
		add(&e.Acc, false)
		return
	}
	next := *link
	*link = slice
	c.seen = noSlice
	e, _ := c.front.Space(slice).Upsert(hash, key)
	e.Next = next
	add(&e.Acc, true)
	if next != noSlice {
		rest, _ := c.suffixes(next).Get(hash, key)
		c.merge(&e.Acc, &rest.Acc)
	}
}

func (c *stacks[K, A]) expire(slice int64, hash uint64, key *K, _ *A) {
	h, _ := c.heads.Upsert(hash, *key)
	e, _ := c.suffixes(slice).Get(hash, *key)
	if h.First = e.Next; h.First == noSlice && h.Back == 0 {
		c.heads.Delete(hash, *key)
	}
}

func (c *stacks[K, A]) expired(slice int64) {
	c.front.Drop(slice)
	c.seen = noSlice
	c.drop(slice)
}

func (c *stacks[K, A]) scan(from uint64, max int, f func(hash uint64, key *K, acc *A) bool) (uint64, bool) {
	return c.heads.Scan(from, max, func(hash uint64, key *K, h *head[A]) bool {
		return f(hash, key, c.merged(hash, key, h))
	})
}

func (c *stacks[K, A]) settle(*int) bool { return true }

func (c *stacks[K, A]) get(hash uint64, key *K) (*A, bool) {
	h, ok := c.heads.Get(hash, *key)
	if !ok {
		return nil, false
	}
	return c.merged(hash, key, h), true
}

// merged is the value of a key over both stacks.
func (c *stacks[K, A]) merged(hash uint64, key *K, h *head[A]) *A {
	if h.First == noSlice {
		return &h.Acc
	}
	e, _ := c.suffixes(h.First).Get(hash, *key)
	if h.Back == 0 {
		return &e.Acc
	}
	c.value = c.accs.Clone(&e.Acc)
	c.merge(&c.value, &h.Acc)
	return &c.value
}
