package state

import (
	"sync/atomic"
	"unsafe"
)

// coldPage is where a page became cold.
type coldPage struct {
	of   *table
	hash uint64
	size int
}

// leaving is a page whose content is part of a batch that is not committed.
type leaving struct {
	of      *table
	p, stub *page
	retired bool
}

// garbage is content of the disk that the task needs no more: a page's, or with a
// version of 0 all of the table's from Hash to last.
type garbage struct {
	epoch uint32
	key   PageKey
	last  uint64
}

// retiredPage is a page that a copy replaced while a layer may read it.
type retiredPage struct {
	of        *table
	p         *page
	pageEpoch uint32
	epoch     uint32 // of the copy
	size      int
}

// settledAt says whether no layer is left that knows what the task ceased to
// need in an epoch: invariant 8.
func (s *Store) settledAt(epoch uint32) bool {
	return len(s.layers) == 0 || s.layers[0].epoch >= epoch
}

// forget says that the task needs a page's content on the disk no more.
func (t *tier) forget(key PageKey) {
	t.garbage.push(garbage{epoch: t.s.epoch, key: key})
}

// retire counts a page that was replaced by a copy.
func (t *tier) retire(of *table, p *page, size int) {
	for _, l := range t.s.layers {
		if l.full && p.epoch <= l.epoch {
			return // a full snapshot's: it holds its pages until it is written
		}
	}
	t.grow(size)
	t.retired.push(retiredPage{of: of, p: p, pageEpoch: p.epoch, epoch: t.s.epoch, size: size})
}

// ease takes pages out of memory: as many as came in, and some more.
func (t *tier) ease(more int) {
	if t.err != nil {
		panic(t.err)
	}
	quota := t.came + min(more, t.more)
	t.came = 0
	b := t.disk.Batch()
	t.settle(b, false)
	for steps := swept * quota; quota > 0 && t.over() && steps > 0; quota-- {
		if t.spillOne(b) {
			continue
		}
		steps -= t.coolSome(steps)
		t.takeOne(b)
	}
	if err := b.Commit(); err != nil {
		t.raise("", err)
	}
	t.evicted += uint64(len(t.leaving))
	t.more = 2*len(t.leaving) + 1 // little, where there is little to find
	for _, l := range t.leaving {
		if l.retired {
			l.of.unlist(l.p, l.stub)
		} else {
			l.of.put(l.p, l.stub)
		}
	}
	clear(t.leaving)
	t.leaving = t.leaving[:0]
}

// settle takes garbage away that no layer knows, or some of all.
func (t *tier) settle(b DiskBatch, all bool) {
	for n := 0; n < settled && t.unknown.len() > 0; n++ {
		b.Remove(t.unknown.pop())
	}
	for n := 0; n < settled && t.garbage.len() > 0 && (all || t.s.settledAt(t.garbage.front().epoch)); n++ {
		if g := t.garbage.pop(); g.key.Version > 0 {
			b.Remove(g.key)
		} else {
			b.RemoveTable(g.key.Table, g.key.Hash, g.last)
		}
	}
	for n := 0; n < settled && t.retired.len() > 0 && (all || t.s.settledAt(t.retired.front().epoch)); n++ {
		t.grow(-t.retired.pop().size)
	}
}

// spillOne takes the oldest retired page out of memory: nobody but a snapshot
// will ask for it, once.
func (t *tier) spillOne(b DiskBatch) bool {
	for t.retired.len() > 0 {
		r := t.retired.pop()
		t.grow(-r.size)
		if !r.p.retired || r.p.epoch != r.pageEpoch || !t.s.pinned(r.p) {
			continue // released meanwhile, and maybe used again
		}
		stub, err := r.of.spill(r.p, b)
		if err != nil {
			t.raise(r.of.of.name, err)
		}
		t.leaving = append(t.leaving, leaving{r.of, r.p, stub, true})
		return true
	}
	return false
}

// coolSome lets the hand go on while too little is cold.
func (t *tier) coolSome(steps int) (used int) {
	for n := 0; n < 4 && t.chill < t.bytes/coolShare && len(t.tables) > 0 && used < min(steps, swept); n++ {
		if t.hand >= len(t.tables) {
			t.hand, t.at = 0, 0
		}
		next, steps, done := t.tables[t.hand].cool(t.at, swept)
		t.at, used = next, used+steps+1
		if done {
			t.hand, t.at = t.hand+1, 0
		}
	}
	return used
}

// takeOne packs the page that is cold for the longest.
func (t *tier) takeOne(b DiskBatch) {
	for t.cold.len() > 0 {
		c := t.cold.pop()
		t.chill -= int64(c.size)
		l, ok, err := c.of.take(c.hash, b)
		if err != nil {
			t.raise(c.of.of.name, err)
		}
		if ok {
			t.leaving = append(t.leaving, l)
			return
		}
	}
}

// enter counts a new table in.
func (t *tier) enter(of *table) {
	if len(t.tables) == 0 && !t.counted {
		t.budget.stores.Add(1)
		t.counted = true
	}
	of.place = len(t.tables)
	t.tables = append(t.tables, of)
}

// leave takes the table at a place out.
func (t *tier) leave(place int) {
	last := len(t.tables) - 1
	t.tables[place] = t.tables[last]
	t.tables[place].place = place
	t.tables[last] = nil
	t.tables = t.tables[:last]
	if t.hand == place {
		t.at = 0
	}
}

// cool makes the pages from a hash on cold, but for those that are warm, until
// one has become so or steps are over.
func (t *table) cool(from uint64, steps int) (next uint64, used int, done bool) {
	if t.root == nil {
		return 0, 0, true
	}
	for from = max(from, t.s.base); used < steps; used++ {
		p := t.leaf(from)
		from = p.last() + 1
		done = p.last() >= t.s.top
		switch {
		case p.groups == 0 && (p.class == 0 || p.marks&markQueued != 0):
		case p.marks&markWarm != 0:
			p.marks &^= markWarm
		case p.marks&markQueued == 0:
			p.groups = 0
			p.marks |= markQueued
			size := t.of.size(p)
			t.s.tier.cold.push(coldPage{t, p.prefix, size})
			t.s.tier.chill += int64(size)
			return from, used + 1, done
		}
		if done {
			return 0, used + 1, true
		}
	}
	return from, used, false
}

// take says whether the page at a hash is cold still, and packs it.
func (t *table) take(hash uint64, b DiskBatch) (leaving, bool, error) {
	if t.root == nil {
		return leaving{}, false, nil
	}
	p := t.leaf(hash)
	if p.prefix != hash || p.class == 0 {
		return leaving{}, false, nil
	}
	p.marks &^= markQueued
	if p.groups != 0 || p.marks&markLeaving != 0 {
		return leaving{}, false, nil
	}
	stub, err := t.pack(p, b)
	if err != nil {
		return leaving{}, false, err
	}
	p.marks |= markLeaving
	t.grow(stubSize - t.of.size(p))
	t.stored += int(stub.live)
	t.disk += int(stub.used)
	t.weigh()
	return leaving{t, p, stub, false}, true, nil
}

// pack puts the content of a page on the disk and returns a stub for it.
func (t *table) pack(p *page, b DiskBatch) (*page, error) {
	oldest := int64(0)
	if t.of.timed {
		oldest = *p.oldest()
	}
	if p.epoch == 0 {
		return newStub(p, p.key(), int(p.pos), oldest), nil // invariant 6
	}
	tier := t.s.tier
	var err error
	if tier.buf, err = t.of.pack(tier.buf[:0], p); err != nil {
		return nil, err
	}
	if t.id == 0 {
		t.id = tier.disk.Number()
	}
	key := PageKey{t.id, p.prefix, tier.disk.Number()}
	b.Put(key, tier.buf)
	return newStub(p, key, len(tier.buf), oldest), nil
}

// put puts a stub in the place of a page that leaves memory.
func (t *table) put(p, stub *page) {
	t.replace(p, stub)
	if p.epoch > 0 {
		t.unlist(p, stub)
	}
	if !t.s.pinned(p) {
		t.of.recycle(p)
	}
}

// spill packs a retired page that a list of changes has.
func (t *table) spill(p *page, b DiskBatch) (*page, error) {
	stub, err := t.pack(p, b)
	if err == nil {
		t.s.tier.forget(stub.key())
	}
	return stub, err
}

// unlist puts a stub in the place of a page in the list of its epoch, if there
// still is one: invariant 7.
func (t *table) unlist(p, stub *page) {
	for c := t.now; c != nil && c.epoch >= p.epoch; c = c.before {
		if c.epoch != p.epoch {
			continue
		}
		if int(p.pos) < len(c.pages) && c.pages[p.pos] == p {
			atomic.StorePointer((*unsafe.Pointer)(unsafe.Pointer(&c.pages[p.pos])), unsafe.Pointer(stub))
		}
		return
	}
}

// grow counts memory of the table.
func (t *table) grow(n int) {
	t.bytes += n
	if t.s.tier != nil {
		t.s.tier.grow(n)
	}
}

// awake returns the page for a hash in memory, where p is the one in the tree.
func (t *table) awake(p *page) *page {
	if p.class > 0 {
		p.groups = uint32(p.capacity() / groupSize)
		p.marks |= markWarm
		return p
	}
	q := t.peek(p)
	t.replace(p, q)
	if p.epoch == t.s.epoch {
		// No layer knows this epoch's content, and the page may change unseen.
		q.pos = p.pos
		t.now.pages[q.pos] = q
		t.s.tier.unknown.push(p.key())
	} else {
		q.clearBits(false)
		q.epoch, q.fresh, q.dirty, q.pos = 0, p.fresh, p.dirty, p.used
	}
	q.marks = markWarm
	t.s.tier.came++
	t.stored -= int(p.live)
	t.disk -= int(p.used)
	t.grow(t.of.size(q) - stubSize)
	t.weigh()
	return q
}

// peek returns a page with the content of a stub, outside of the tree.
func (t *table) peek(p *page) *page {
	q, err := t.of.open(p, t.of.room)
	if err != nil {
		t.s.tier.raise(t.of.name, err)
	}
	return q
}

// listed says whether a layer has the lists of changes of an epoch.
func (s *Store) listed(epoch uint32) bool {
	for _, l := range s.layers {
		if l.epoch == epoch && !l.full {
			return true
		}
	}
	return false
}
