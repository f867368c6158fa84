package state

// Where keys leave, pages do. Two pages that lie side by side and have few
// entries become one, so that a table which had many keys for a while is small
// again, and hashes that were crowded leave no empty pages behind. A page that
// became one of two has to grow to four times its entries before it splits again.

// sparse says whether a page has few entries for its size.
func (p *page) sparse() bool { return 8*p.live <= uint32(p.capacity()) }

// shrink gives back memory around a sparse page of this epoch. The page is not
// valid after it.
func (t *table) shrink(p *page) {
	for p.sparse() {
		q := t.sibling(p)
		if q == nil {
			if p.capacity() > t.of.full {
				t.rebuild(p, max(t.of.full, roomFor(p.live)))
			}
			return
		}
		p = t.merge(p, q)
	}
}

// sibling is the page, in memory, that a page may become one with; nil if there
// is none.
func (t *table) sibling(p *page) *page {
	if p.depth == t.common {
		return nil
	}
	q := t.leaf(p.prefix ^ 1<<(64-p.depth))
	if q.depth != p.depth || 4*(p.live+q.live) > uint32(t.of.full) {
		return nil
	}
	if q.groups == 0 {
		if q.class == 0 && q.live > 0 {
			return nil // not worth reading
		}
		q = t.awake(q)
	}
	return q
}

// merge puts one page in the place of two, and returns it.
func (t *table) merge(p, q *page) *page {
	if q.epoch != t.s.epoch {
		q = t.touch(q)
	}
	r := t.of.make(roomFor(p.live+q.live), min(p.prefix, q.prefix), p.depth-1)
	for _, from := range [...]*page{p, q} {
		for i := range uint32(from.capacity()) {
			if *from.tag(i) >= tagFull {
				t.of.move(r, from, i)
			}
		}
	}
	t.join(r)
	t.swap(p, r)
	t.unchange(q)
	t.grow(-t.of.size(q))
	t.of.recycle(q)
	return r
}

// unchange takes a page of this epoch out of the current changes.
func (t *table) unchange(p *page) {
	last := len(t.now.pages) - 1
	moved := t.now.pages[last]
	t.now.pages[p.pos] = moved
	moved.pos = p.pos
	t.now.pages[last] = nil
	t.now.pages = t.now.pages[:last]
}

// roomFor is a capacity that entries fill half of, at most.
func roomFor(entries uint32) int {
	capacity := groupSize
	for capacity < 2*int(entries) {
		capacity *= 2
	}
	return capacity
}
