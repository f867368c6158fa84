package state

import (
	"math/bits"
	"slices"
)

// Pages that nobody uses any more come from dropped namespaces and from lists of
// changes that were released. Both wait as they are and are looked through page
// by page, as pages are needed, so that dropping and releasing cost the same
// whatever their size.

// keepSpare bounds the spare pages of one capacity, keepDropped how many
// dropped tables wait.
const (
	keepSpare   = 256
	keepDropped = 256
)

// recycle takes back a page that is in no tree and in no snapshot.
func (l *layout) recycle(p *page) {
	class := bits.TrailingZeros(uint(p.capacity()))
	if l.lasting && len(l.spare[class]) < keepSpare {
		l.spare[class] = append(l.spare[class], p)
	}
}

// drop takes the pages of a table that is gone, if nothing is kept alive by them. If
// too many wait, the oldest goes to the collector.
func (l *layout) drop(root ref) {
	if !l.plain || root == nil || l.s.tier.short() {
		return
	}
	if len(l.dropped) == keepDropped {
		l.dropped = append(l.dropped[:0], l.dropped[1:]...)
	}
	l.dropped = append(l.dropped, walk{stack: []ref{root}})
}

// release takes the pages of changes that a durable checkpoint holds, in place
// of those of the one before.
func (l *layout) release(pages []*page, epoch uint32) {
	if !l.lasting || len(pages) == 0 || l.s.tier.short() {
		return
	}
	if len(l.released) > 0 && l.released[0].epoch != epoch {
		l.released = l.released[:0]
	}
	if len(l.released) < keepDropped {
		l.released = append(l.released, released{pages: pages, epoch: epoch})
	}
}

// recycled returns an empty page of a class, or nil.
func (l *layout) recycled(class int) *page {
	// A few steps a page, so that a caller never waits for long.
	for tries := 0; len(l.spare[class]) == 0 && tries < 8; tries++ {
		var p *page
		if last := len(l.released) - 1; last >= 0 {
			if p = l.released[last].next(); p == nil && len(l.released[last].pages) == 0 {
				l.released = l.released[:last]
			}
		} else if last := len(l.dropped) - 1; last >= 0 {
			if p = l.dropped[last].next(); p == nil {
				l.dropped = l.dropped[:last]
			}
		} else {
			break
		}
		if p != nil && p.class > 0 && !l.s.pinned(p) {
			l.recycle(p)
		}
	}
	n := len(l.spare[class])
	if n == 0 {
		return nil
	}
	p := l.spare[class][n-1]
	l.spare[class] = l.spare[class][:n-1]
	l.empty(p)
	return p
}

// walk goes through the pages of a tree.
type walk struct {
	stack []ref
	last  ref
}

// next returns the next page, in ascending order, nil at the end.
func (d *walk) next() *page {
	for len(d.stack) > 0 {
		n := len(d.stack) - 1
		p := d.stack[n]
		d.stack = d.stack[:n]
		if p == d.last { // one page may have several places in a node
			continue
		}
		d.last = p
		if width(p) == 0 {
			return (*page)(p)
		}
		for _, r := range slices.Backward(placesOf(p)) {
			d.stack = append(d.stack, r)
		}
	}
	return nil
}

// released walks the pages of released changes for those that a copy has
// replaced.
type released struct {
	pages []*page
	epoch uint32
}

// next looks at a few pages and returns one to reuse, or nil.
func (r *released) next() *page {
	for range min(4, len(r.pages)) {
		p := r.pages[0]
		r.pages = r.pages[1:]
		// A page of a later epoch is in a later list, too.
		if p.retired && p.epoch == r.epoch {
			return p
		}
	}
	return nil
}
