package state

import (
	"cmp"
	"math"
	"slices"
)

// This chapter is where on the disk a table has its pages, so that they can be
// taken away without a look at the tree.

// leave takes a table out of the tier that is gone with all its pages.
func (t *table) leave() {
	tier := t.s.tier
	tier.leave(t.place)
	t.grow(-t.bytes)
	tier.grow(-t.heap)
	for _, c := range t.onDisk(nil, 0, math.MaxUint64) {
		tier.garbage.push(garbage{epoch: t.s.epoch, key: PageKey{Table: c.table, Hash: c.first}, last: c.last})
	}
}

// piece is where a table has pages on the disk: under a number, with the hashes
// from first to last.
type piece struct{ table, first, last uint64 }

// onDisk adds the pieces of a table that have hashes in a range, as far as they do.
func (t *table) onDisk(into []piece, first, last uint64) []piece {
	if t.id > 0 {
		into = append(into, piece{t.id, first, last})
	}
	for _, c := range t.adopted {
		if c.first, c.last = max(c.first, first), min(c.last, last); c.first <= c.last {
			into = append(into, c)
		}
	}
	return into
}

// takeOver counts a page of another store that this table has now.
func (t *table) takeOver(p *page) {
	if p.class == 0 {
		t.grow(stubSize)
		t.stored += int(p.live)
		t.disk += int(p.used)
		return
	}
	p.marks, p.groups = 0, uint32(p.capacity()/groupSize)
	t.grow(t.of.size(p))
}

// leaveDisk takes away what is on the disk for no snapshot any more, when the
// store ends.
func (s *Store) leaveDisk() error {
	t := s.tier
	if t == nil {
		return nil
	}
	if t.err != nil {
		return t.err
	}
	b := t.disk.Batch()
	for t.garbage.len()+t.unknown.len()+t.retired.len() > 0 {
		t.settle(b, true)
	}
	if err := b.Commit(); err != nil {
		return &DiskError{"", err}
	}
	return nil
}

// Forsake takes away what detached stores have on the disk and none of now has
// adopted: all that adopt from them in this process, and have done so.
func Forsake(old, now []*Store) error {
	taken := map[uint64][]piece{} // by table
	for _, s := range now {
		for _, p := range s.pieces() {
			taken[p.table] = append(taken[p.table], p)
		}
	}
	for _, s := range old {
		if s.tier == nil {
			continue
		}
		b := s.tier.disk.Batch()
		for _, p := range s.pieces() {
			eachGap(p, taken[p.table], func(first, last uint64) { b.RemoveTable(p.table, first, last) })
		}
		if err := b.Commit(); err != nil {
			return &DiskError{"", err}
		}
	}
	return nil
}

// pieces are where the tables of a store have pages on the disk.
func (s *Store) pieces() (all []piece) {
	if s.tier != nil {
		for _, t := range s.tier.tables {
			all = t.onDisk(all, 0, math.MaxUint64)
		}
	}
	return all
}

// eachGap calls f for the stretches of a piece that others do not have.
func eachGap(p piece, others []piece, f func(first, last uint64)) {
	slices.SortFunc(others, func(a, b piece) int { return cmp.Compare(a.first, b.first) })
	at := p.first
	for _, o := range others {
		if o.last < at || o.first > p.last {
			continue
		}
		if o.first > at {
			f(at, o.first-1)
		}
		if o.last >= p.last {
			return
		}
		at = o.last + 1
	}
	f(at, p.last)
}
