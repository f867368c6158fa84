package state

import (
	"math"
	"math/bits"
	"reflect"
	"unsafe"
)

// The pages of a table hang in a tree over the hash, from the first bit in which
// the hashes of the store differ. A node has 2^width places for the next bits of
// the hash, and a page that needs fewer stands in
// several places side by side. A node whose bits do not tell two pages apart
// doubles, up to nodeBits; beyond that a place holds a node, whose depth is then
// nodeBits more. So the tree grows a place or a small node at a time, whatever
// its size.
//
// Like a page, a node that a full snapshot reads is copied before it changes.

const (
	// nodeBits bounds a node: 1024 places, 8 KiB.
	nodeBits = 10
	// leastBits are those of a new node: 16 places.
	leastBits = 4
)

// node is the head of a node; the places follow it.
type node struct {
	epoch uint32 // in which it was made
	depth uint8
}

const nodeHead = 16

// ref is a place: a pointer to a page, or to the inside of a node's head, one
// byte in for leastBits, two for one bit more, and so on. So a search needs
// neither the head of a node nor a flag that says what it has come to. Memory
// is aligned to 8 bytes, which leaves these offsets unused by pages; the pointer
// is within its object always, so the collector sees it.
type ref = unsafe.Pointer

// width is the number of bits of a node, 0 for a page.
func width(r ref) uint {
	if w := uint(uintptr(r) & 7); w > 0 {
		return w + leastBits - 1
	}
	return 0
}

func nodeOf(r ref) *node { return (*node)(unsafe.Add(r, -int(uintptr(r)&7))) }

var nodeTypes [nodeBits + 1]reflect.Type

func init() {
	for b := range nodeTypes {
		nodeTypes[b] = reflect.StructOf([]reflect.StructField{
			{Name: "Head", Type: reflect.TypeFor[[nodeHead / 8]uint64]()},
			{Name: "Places", Type: reflect.ArrayOf(1<<b, reflect.TypeFor[ref]())},
		})
	}
}

func newNode(epoch uint32, width uint, depth uint8) ref {
	at := reflect.New(nodeTypes[width]).UnsafePointer()
	n := (*node)(at)
	n.epoch, n.depth = epoch, depth
	return unsafe.Add(at, width-leastBits+1)
}

func placesOf(r ref) []ref {
	return unsafe.Slice((*ref)(unsafe.Add(unsafe.Pointer(nodeOf(r)), nodeHead)), 1<<width(r))
}

// tree is the part of a table that does not depend on its types.
type tree struct {
	s    *Store
	root ref
	// common is the number of leading bits that all hashes of the store share,
	// the depth of root.
	common uint8
}

// leaf returns the page for a hash, nil if the table has none.
func (t *tree) leaf(hash uint64) *page {
	r := t.root
	rel := hash << (t.common & 63)
	for {
		w := uintptr(r) & 7
		if w == 0 {
			return (*page)(r)
		}
		i := uintptr(rel >> ((64 - leastBits + 1 - w) & 63))
		rel <<= nodeBits
		r = *(*ref)(unsafe.Add(r, nodeHead-w+i*8))
	}
}

// path makes the nodes on the way to a hash the table's own, and returns the
// pointer to the last of them; nil if the root is a page.
func (t *tree) path(hash uint64) (link *ref) {
	for at := &t.root; width(*at) > 0; {
		if n := nodeOf(*at); t.s.shared(n) {
			c := newNode(t.s.epoch, width(*at), n.depth)
			copy(placesOf(c), placesOf(*at))
			*at = c
		}
		link = at
		at = &placesOf(*at)[hash<<(nodeOf(*at).depth&63)>>(64-width(*at))]
	}
	return link
}

// replace puts page q in the places of p, which covers the same hashes.
func (t *tree) replace(p, q *page) {
	link := t.path(p.prefix)
	if link == nil {
		t.root = ref(q)
		return
	}
	places := placesFor(*link, p)
	for i := range places {
		places[i] = ref(q)
	}
}

// placesFor are the places of a page in a node.
func placesFor(r ref, p *page) []ref {
	depth := nodeOf(r).depth
	first := p.prefix << (depth & 63) >> (64 - width(r))
	return placesOf(r)[first : first+1<<(width(r)-uint(p.depth-depth))]
}

// divide puts two pages in the places of p, each for half of its hashes.
func (t *tree) divide(p, left, right *page) {
	link := t.path(p.prefix)
	if link == nil {
		t.root = t.fork(p, left, right)
		return
	}
	switch depth := nodeOf(*link).depth; uint(p.depth - depth) {
	case nodeBits:
		placesFor(*link, p)[0] = t.fork(p, left, right)
		return
	case width(*link):
		wide := newNode(t.s.epoch, width(*link)+1, depth)
		for i, r := range placesOf(*link) {
			placesOf(wide)[2*i], placesOf(wide)[2*i+1] = r, r
		}
		*link = wide
	}
	halve(placesFor(*link, p), left, right)
}

// join puts page p in the places of the two pages for half of its hashes each.
func (t *tree) join(p *page) {
	link := t.path(p.prefix)
	if nodeOf(*link).depth == p.depth { // all of the node
		*link = ref(p)
		return
	}
	places := placesFor(*link, p)
	for i := range places {
		places[i] = ref(p)
	}
}

// fork is a node for the two halves of a page.
func (t *tree) fork(p, left, right *page) ref {
	r := newNode(t.s.epoch, leastBits, p.depth)
	halve(placesOf(r), left, right)
	return r
}

func halve(places []ref, left, right *page) {
	for i := range places {
		places[i] = ref(left)
		if i >= len(places)/2 {
			places[i] = ref(right)
		}
	}
}

// lastOf is the highest hash below a prefix of some bits.
func lastOf(prefix uint64, depth uint8) uint64 { return prefix | math.MaxUint64>>depth }

// placePrefix is what a place adds to the prefix of its node.
func placePrefix(place int, depth uint8, width uint) uint64 {
	return uint64(place) << (64 - width) >> (depth & 63)
}

// eachLeaf calls f for the pages of a tree, in ascending order, that stand for
// any hash from first to last. It reads nodes and no pages.
func eachLeaf(r ref, prefix uint64, depth uint8, first, last uint64, f func(graft)) {
	w := width(r)
	if w == 0 {
		f(graft{(*page)(r), prefix, depth})
		return
	}
	places := placesOf(r)
	for i := 0; i < len(places); {
		n := 1
		for i+n < len(places) && places[i+n] == places[i] {
			n++
		}
		p, d := prefix|placePrefix(i, depth, w), depth+uint8(w)-uint8(log2(n))
		if p <= last && lastOf(p, d) >= first {
			eachLeaf(places[i], p, d, first, last, f)
		}
		i += n
	}
}

func log2(n int) int { return bits.TrailingZeros(uint(n)) }

// eachHash calls f for the entries of a page.
func eachHash(p *page, f func(i uint32, hash uint64)) {
	for g := range uint32(p.capacity() / groupSize) {
		for m := p.tags(g) & highBits; m != 0; m &= m - 1 {
			i := slotOf(g, m)
			f(i, *p.hash(i))
		}
	}
}

// commonBits says how many leading bits all entries of a page have in common.
func commonBits(p *page) int {
	var first, diff uint64
	seen := false
	for i := range uint32(p.capacity()) {
		if *p.tag(i) < tagFull {
			continue
		}
		h := *p.hash(i)
		if !seen {
			first, seen = h, true
		}
		diff |= h ^ first
	}
	return bits.LeadingZeros64(diff)
}
