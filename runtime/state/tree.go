package state

import (
	"math/bits"
	"reflect"
	"unsafe"
)

// The pages of a table hang in a tree over the relative hash. A node covers the
// hashes of a prefix; it has 2^bits places for the next bits, and a page that
// needs fewer stands in several places side by side. A node whose bits do not
// tell two pages apart doubles, up to nodeBits; beyond that a place holds a
// node. So the tree grows a place or a small node at a time, whatever its size.
//
// Like a page, a node that a full snapshot reads is copied before it changes.

// nodeBits bounds a node: 1024 places, 8 KiB.
const nodeBits = 10

// node is the head of a node; the places follow it. Its page fields mean:
// depth, prefix and epoch (of its last copy) as ever, groups the bits.
type node = page

var nodeTypes [nodeBits + 1]reflect.Type

func init() {
	for b := range nodeTypes {
		nodeTypes[b] = reflect.StructOf([]reflect.StructField{
			{Name: "Head", Type: reflect.TypeFor[page]()},
			{Name: "Places", Type: reflect.ArrayOf(1<<b, reflect.TypeFor[*page]())},
		})
	}
}

func newNode(epoch uint32, width uint32, prefix uint64, depth uint8) *node {
	n := (*node)(reflect.New(nodeTypes[width]).UnsafePointer())
	n.inner, n.groups, n.prefix, n.depth, n.epoch = true, width, prefix, depth, epoch
	return n
}

func children(n *node) []*page {
	return unsafe.Slice((**page)(unsafe.Add(unsafe.Pointer(n), headSize)), 1<<n.groups)
}

// child is the place for a relative hash.
func child(n *node, rel uint64) **page {
	i := rel << (n.depth & 63) >> ((64 - n.groups) & 63)
	return (**page)(unsafe.Add(unsafe.Pointer(n), headSize+i*8))
}

// tree is the part of a table that does not depend on its types.
type tree struct {
	s    *Store
	root *page
}

// path makes the nodes on the way to a relative hash the table's own, and
// returns the last of them and the pointer to it; nil if the root is a page.
func (t *tree) path(rel uint64) (n *node, link **page) {
	at := &t.root
	for (*at).inner {
		if t.s.shared(*at) {
			c := newNode(t.s.epoch, (*at).groups, (*at).prefix, (*at).depth)
			copy(children(c), children(*at))
			*at = c
		}
		n, link = *at, at
		at = child(n, rel)
	}
	return n, link
}

// replace puts page q in the places of p, which covers the same hashes.
func (t *tree) replace(p, q *page) {
	n, _ := t.path(p.prefix)
	if n == nil {
		t.root = q
		return
	}
	places := placesOf(n, p)
	for i := range places {
		places[i] = q
	}
}

func placesOf(n *node, p *page) []*page {
	first := p.prefix << (n.depth & 63) >> ((64 - n.groups) & 63)
	return children(n)[first : first+1<<(n.groups-uint32(p.depth-n.depth))]
}

// divide puts two pages in the places of p, each for half of its hashes.
func (t *tree) divide(p, left, right *page) {
	n, link := t.path(p.prefix)
	switch {
	case n == nil:
		link = &t.root
		fallthrough
	case uint32(p.depth-n.depth) == nodeBits:
		if n != nil {
			link = child(n, p.prefix)
		}
		c := newNode(t.s.epoch, 1, p.prefix, p.depth)
		copy(children(c), []*page{left, right})
		*link = c
		return
	case uint32(p.depth-n.depth) == n.groups:
		wide := newNode(t.s.epoch, n.groups+1, n.prefix, n.depth)
		for i, c := range children(n) {
			children(wide)[2*i], children(wide)[2*i+1] = c, c
		}
		*link, n = wide, wide
	}
	places := placesOf(n, p)
	for i := range places {
		places[i] = left
		if i >= len(places)/2 {
			places[i] = right
		}
	}
}

// commonBits says how many leading bits all entries of a page have in common.
func commonBits(p *page, rel func(uint64) uint64) int {
	var first, diff uint64
	seen := false
	for i := range uint32(p.capacity()) {
		if *p.tag(i) < tagFull {
			continue
		}
		r := rel(*p.hash(i))
		if !seen {
			first, seen = r, true
		}
		diff |= r ^ first
	}
	return bits.LeadingZeros64(diff)
}
