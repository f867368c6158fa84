package state

import (
	"math"

	"github.com/millrace/millrace/checkpoint/snapshot"
)

// hashesOf are the lowest and the highest hash of a key group: the first one is
// the least h with (h>>32)*n>>32 >= group.
func hashesOf(group, n int) (first, last uint64) {
	from := func(g int) uint64 { return (uint64(g)<<32 + uint64(n) - 1) / uint64(n) << 32 }
	return from(group), from(group+1) - 1 // wraps to the highest for the last group
}

// coming sizes the table of a restore before the entries of a key group come:
// they come in the order of keys, to hashes all over the group, and would fill
// and split each of its pages. One group is much like the one before it.
type coming struct {
	table  *table
	group  int
	before int // keys of the table when the group began
}

// begin is called with the first entry of a key group, of n, or of a table.
func (c *coming) begin(t *table, group, n int, from *snapshot.Replay) {
	expect := t.count - c.before
	if t != c.table {
		expect = 0
	}
	c.table, c.group, c.before = t, group, t.count
	if expect > t.of.full {
		first, last := hashesOf(group, n)
		t.spread(first, last, min(expect, from.Entries(group)))
	}
}

// spread makes the pages from a first to a last hash, about as many as so many
// keys would come to have one by one.
func (t *table) spread(first, last uint64, expect int) {
	depth := t.common
	least := float64(t.of.full) * (groupSize - 1) / groupSize * 5 / 8
	for each := math.Ldexp(float64(expect), 64-int(depth)) / float64(last-first); each >= 2*least; each /= 2 {
		depth++
	}
	for at := first; ; {
		p := t.leaf(at)
		if p == nil {
			p = t.plant()
		}
		if p.groups == 0 && p.depth < depth {
			p = t.awake(p)
		}
		switch {
		case p.epoch != t.s.epoch:
			return // taken over from another store
		case p.depth >= depth:
			if p.last() >= last {
				return
			}
			at = p.last() + 1
		case p.live == 0:
			t.sow(p, p, depth, first, last)
		default:
			t.split(p)
		}
	}
}

// sow puts pages of some depth in the place of an empty one; those without any
// hash from first to last are larger and have few slots. old is the page whose
// place in the current changes the first of them takes, nil if that is taken.
// It returns old as it is then.
func (t *table) sow(p, old *page, depth uint8, first, last uint64) *page {
	if p.depth >= depth || p.prefix > last || p.last() < first {
		capacity := t.of.full
		if p.depth < depth {
			capacity = groupSize
		}
		q := t.of.make(capacity, p.prefix, p.depth)
		t.replace(p, q)
		if old != nil {
			t.swap(old, q)
			return nil
		}
		t.grow(t.of.size(q))
		t.list(q)
		return nil
	}
	// Heads without slots, which only stand for their hashes.
	left := &page{prefix: p.prefix, depth: p.depth + 1}
	right := &page{prefix: p.prefix | 1<<(63-p.depth), depth: p.depth + 1}
	t.divide(p, left, right)
	return t.sow(right, t.sow(left, old, depth, first, last), depth, first, last)
}
