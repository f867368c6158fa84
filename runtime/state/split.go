package state

import "math/bits"

// makeRoom grows, cleans or splits a page that is full.
func (t *table) makeRoom(p *page) {
	if t.s.tier != nil {
		t.weighOne(p)
	}
	capacity := p.capacity()
	switch {
	case p.live <= p.limit()*3/4: // many deleted slots
		t.rebuild(p, capacity)
	case capacity < t.of.full || !t.worthSplitting(p):
		t.rebuild(p, 2*capacity)
	default:
		t.split(p)
	}
}

// mostSpread bounds the keys for which a new table gets its pages at once, which
// is a pause: some hundred pages.
const mostSpread = 1 << 14

const (
	// easySplit is how many levels of the tree a split may always add.
	easySplit = 2
	// largePage is the capacity at which a page splits however many
	// levels that adds; the nodes are small beside it.
	largePage = 4096
)

// worthSplitting says whether a split parts the entries without many new nodes
// for few pages; if not, hashes are crowded here, and a larger page is better.
// Levels that part the page's share of the store's hashes from those of others
// do not count: there are few such pages.
func (t *table) worthSplitting(p *page) bool {
	common := commonBits(p)
	if common == 64 {
		return false // one hash for all: nothing can part them
	}
	first, last := max(p.prefix, t.s.base), min(p.last(), t.s.top)
	depth := max(int(p.depth), bits.LeadingZeros64(first^last))
	return common-depth < easySplit || p.capacity() >= largePage
}

// rebuild moves the entries of a page to one of another capacity.
func (t *table) rebuild(p *page, capacity int) {
	q := t.of.make(capacity, p.prefix, p.depth)
	for i := range uint32(p.capacity()) {
		if *p.tag(i) >= tagFull {
			t.of.move(q, p, i)
		}
	}
	t.replace(p, q)
	t.swap(p, q)
}

// swap puts q in the place of p in the current changes, and recycles p.
func (t *table) swap(p, q *page) {
	q.pos = p.pos
	t.now.pages[p.pos] = q
	t.grow(t.of.size(q) - t.of.size(p))
	t.of.recycle(p)
}

// split puts two pages, each for half of the hashes, in the place of one.
func (t *table) split(p *page) {
	bit := uint64(1) << (63 - p.depth)
	high := uint32(0)
	for i := range uint32(p.capacity()) {
		if *p.tag(i) >= tagFull && *p.hash(i)&bit != 0 {
			high++
		}
	}
	left := t.of.make(t.fitting(p, p.live-high), p.prefix, p.depth+1)
	right := t.of.make(t.fitting(p, high), p.prefix|bit, p.depth+1)
	for i := range uint32(p.capacity()) {
		if *p.tag(i) < tagFull {
			continue
		}
		if *p.hash(i)&bit == 0 {
			t.of.move(left, p, i)
		} else {
			t.of.move(right, p, i)
		}
	}
	t.divide(p, left, right)
	t.swap(p, left)
	t.grow(t.of.size(right))
	t.list(right)
	// Where a page had become large, its entries are parted at last, down to
	// pages of full size: a large one costs as much to copy and to evict.
	for _, half := range [...]*page{left, right} {
		if half.capacity() > t.of.full && half.live > 0 && t.worthSplitting(half) {
			t.split(half)
		}
	}
}

// fitting is a capacity for entries of a page that splits: smaller than the
// page's if they would fill no quarter of it.
func (t *table) fitting(p *page, entries uint32) int {
	capacity := p.capacity()
	for capacity > groupSize && entries <= uint32(capacity)/4 {
		capacity /= 2
	}
	return capacity
}
