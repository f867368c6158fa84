package state

import (
	"math"
	"unsafe"
)

// table is a Table of whatever types: all of it but the searches.
type table struct {
	tree
	owning bool   // values are mutable: see page, invariant 3
	groups uint32 // of a page of full size, and
	slots  uint32 // where its slots begin
	count  int
	bytes  int
	now    *changes // those of the current epoch, or older ones
	born   uint32
	// expired is told of an entry that expired, once it is removed, and says how
	// many it has removed along with it in other tables; it may be nil.
	expired func(hash uint64, key unsafe.Pointer) int
	expect  int // keys that it may come to have
	ns      int64
	of      *kind

	// With a tier:
	id      uint64  // on the disk, 0 when nothing of it was there yet
	adopted []piece // of other stores, on the disk
	place   int     // among the tables of the tier
	stored  int     // entries on the disk, and
	disk    int     // their bytes
	heap    int     // bytes that entries in memory point to
}

// Len is the number of keys.
func (t *table) Len() int { return t.count }

// Bytes estimates the memory of the table's pages.
func (t *table) Bytes() int { return t.bytes }

func (t *table) size() Stats {
	return Stats{Entries: t.count, Bytes: t.bytes + t.heap, Disk: t.disk}
}

// seat returns the page for a hash, in memory; nil if the table has none.
func (t *table) seat(hash uint64) *page {
	p := t.leaf(hash)
	if p != nil && p.groups == 0 {
		p = t.awake(p)
	}
	return p
}

// writable returns the page for a hash, in memory and of this epoch; p is the one
// in the tree.
func (t *table) writable(p *page, hash uint64) *page {
	if p == nil {
		p = t.plant()
		if t.expect > t.of.full {
			// Else all keys of it would move at each of many splits.
			t.spread(t.s.base, t.s.top, min(t.expect, mostSpread))
			p = t.leaf(hash)
		}
	}
	if p.groups == 0 {
		p = t.awake(p)
	}
	if p.epoch != t.s.epoch {
		p = t.touch(p)
	}
	return p
}

// found makes a value that was found ready for reading, and returns the page that
// has it now.
func (t *table) found(p *page, i uint32) *page {
	if t.owning && len(t.s.layers) > 0 {
		p = t.own(p, i)
	}
	return p
}

// changed marks an entry, of a page of this epoch, and returns the page that has
// it now.
func (t *table) changed(p *page, i uint32) *page {
	*p.dirtyWord(i) |= 1 << (i & 63)
	if t.owning {
		p = t.own(p, i)
	}
	return p
}

// find is Table.find.
func (t *table) find(p *page, hash uint64, key unsafe.Pointer) (uint32, bool) {
	tag := uint8(hash) | tagFull
	for g := p.home(hash) / groupSize; ; g = (g + 1) & (p.groups - 1) {
		w := p.tags(g)
		for m := matching(w, tag); m != 0; m &= m - 1 {
			if i := slotOf(g, m); t.of.equal(t.of.at(p, i), key) {
				return i, true
			}
		}
		if empties(w) != 0 {
			return 0, false
		}
	}
}

// upsert is Table.Upsert.
func (t *table) upsert(hash uint64, key unsafe.Pointer) (v unsafe.Pointer, fresh bool) {
	p := t.writable(t.leaf(hash), hash)
	i, ok := t.find(p, hash, key)
	if ok {
		return t.of.val(t.changed(p, i), i), false
	}
	p, at := t.insert(p, hash)
	t.of.clearEntries(at, 1)
	t.of.moveKeys(at, key, 1)
	if len(t.of.keyTexts) > 0 {
		t.of.keep(p, at, t.of.keyTexts, nil)
	}
	return unsafe.Add(at, t.of.valueAt), true
}

// insert makes room for a key that is not there, in a page of this epoch, and
// returns the page and the slot, in which there may be anything without pointers.
func (t *table) insert(p *page, hash uint64) (*page, unsafe.Pointer) {
	for p.used >= p.limit() {
		t.makeRoom(p)
		p = t.leaf(hash)
	}
	i := p.free(hash)
	if *p.tag(i) == 0 {
		p.used++
	}
	p.live++
	t.count++
	*p.tag(i) = uint8(hash) | tagFull
	*p.hash(i) = hash
	bit := uint64(1) << (i & 63)
	*p.dirtyWord(i) |= bit
	*p.freshWord(i) |= bit
	*p.ownedWord(i) |= bit
	if t.of.timed {
		t.of.stamp(p, i, t.s.now[t.of.life.domain])
	}
	return p, t.of.at(p, i)
}

// had are the strings of a value.
func (t *table) had(v unsafe.Pointer) []string {
	had := t.of.had[:0]
	for _, off := range t.of.valueTexts {
		had = append(had, *(*string)(unsafe.Add(v, off)))
	}
	t.of.had = had
	return had
}

// delete is Table.Delete.
func (t *table) delete(hash uint64, key unsafe.Pointer) bool {
	p := t.seat(hash)
	if p == nil {
		return false
	}
	i, ok := t.find(p, hash, key)
	if ok {
		t.drop(p, i)
	}
	return ok
}

// drop removes an entry. The page is not valid after it.
func (t *table) drop(p *page, i uint32) {
	if p.epoch != t.s.epoch {
		p = t.touch(p) // slots keep their places
	}
	t.remove(p, i)
	if p.sparse() {
		t.shrink(p)
	}
}

// remove removes an entry, of a page of this epoch.
func (t *table) remove(p *page, i uint32) {
	bit := uint64(1) << (i & 63)
	if *p.freshWord(i)&bit == 0 {
		t.now.deleted.add(t.of, *p.hash(i), t.of.at(p, i))
	}
	*p.dirtyWord(i) &^= bit
	*p.freshWord(i) &^= bit
	*p.ownedWord(i) &^= bit
	if !t.of.plain {
		t.of.clearEntries(t.of.at(p, i), 1)
	}
	if empties(p.tags(i/groupSize)) != 0 {
		*p.tag(i) = 0 // no search goes on beyond this group
		p.used--
	} else {
		*p.tag(i) = tagDeleted
	}
	p.live--
	t.count--
}

// plant makes the first page, for all hashes of the store: large enough for the
// keys expected or of full size.
func (t *table) plant() *page {
	capacity := groupSize
	for capacity < t.of.full && capacity*(groupSize-1)/groupSize < t.expect {
		capacity *= 2
	}
	p := t.of.make(capacity, t.s.base&^lastOf(0, t.common), t.common)
	t.grow(t.of.size(p))
	t.root = ref(p)
	t.list(p)
	return p
}

// touch makes a page of an earlier epoch ready for writing: a copy takes its
// place if a snapshot may still read it.
func (t *table) touch(p *page) *page {
	q := p
	if t.s.tier != nil {
		t.weighOne(p)
	}
	if p.epoch == 0 {
		t.s.tier.forget(p.key())
	}
	if t.s.pinned(p) {
		q = t.of.copyOf(p)
		t.replace(p, q)
		p.retired = true
		if t.s.tier != nil {
			t.s.tier.retire(t, p, t.of.size(p))
		}
	} else {
		q.clearBits(false)
		q.epoch = t.s.epoch
	}
	t.list(q)
	return q
}

// list adds a page of this epoch to the current changes.
func (t *table) list(p *page) {
	if t.now == nil || t.now.epoch != t.s.epoch {
		t.now = t.newChanges()
		t.s.changes = append(t.s.changes, t.now)
	}
	p.pos = uint32(len(t.now.pages))
	t.now.pages = append(t.now.pages, p)
}

// own makes the memory that a value refers to the table's alone, by a copy if
// a snapshot may read it. It returns the page that holds the value now.
func (t *table) own(p *page, i uint32) *page {
	if p.epoch != t.s.epoch && t.s.pinned(p) {
		p = t.touch(p)
	}
	if w, bit := p.ownedWord(i), uint64(1)<<(i&63); *w&bit == 0 {
		*w |= bit
		t.of.values.Own(t.of.val(p, i))
	}
	return p
}

// scan is Table.Scan; f gets the addresses of entries.
func (t *table) scan(from uint64, limit int, f func(hash uint64, entry unsafe.Pointer) bool) (next uint64, done bool) {
	if t.root == nil {
		return math.MaxUint64, true
	}
	if from = max(from, t.s.base); from > t.s.top {
		return math.MaxUint64, true
	}
	for calls := 0; ; {
		p := t.leaf(from)
		peeked := false
		if p.groups == 0 {
			// The first page may be all that is asked for, the next ones are likely
			// to be passed once.
			if peeked = calls > 0 && p.class == 0; peeked {
				p = t.peek(p)
			} else {
				p = t.awake(p)
			}
		}
		for g := range p.capacity() / groupSize {
			for m := p.tags(uint32(g)) & highBits; m != 0; m &= m - 1 {
				i := slotOf(uint32(g), m)
				if *p.hash(i) < from || t.of.timed && t.gone(p, i) {
					continue
				}
				if !peeked {
					p = t.found(p, i)
				}
				calls++
				if !f(*p.hash(i), t.of.at(p, i)) {
					return from, false
				}
			}
		}
		last := p.last()
		if peeked {
			t.of.recycle(p)
		}
		if last >= t.s.top {
			return math.MaxUint64, true
		}
		from = last + 1
		if calls >= limit {
			return from, false
		}
	}
}
