package state

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unsafe"

	"github.com/millrace/millrace/internal/planted"
)

// A rescaled job keeps its processes, and a new store takes over from the old
// ones what it owns of their key groups. Pages fit under any parallelism, so
// most go as they are: the new tree points at them. Only a page that holds
// keys of several stores is taken apart.
//
//	old stores   0 ─────────────┬─────────────── max
//	pages        ├──┴──┴──┴──┼──┴──┴──┴──┴──┤     ┼ lies across a border
//	new stores   0 ────────┬─────────┬────────── max
//
// Invariants:
//  1. A page becomes one new store's alone, or nobody's.
//  2. Adopt only reads what is old: the nodes of the trees, and pages across a
//     border. So several stores adopt from one at a time, while pages that went
//     to others are in use already.

// ErrInUse says that a store is not as of its last barrier, or that a snapshot
// still reads it.
var ErrInUse = errors.New("state is in use")

// Detach ends the use of the store by its task, so that others can Adopt what
// it holds: all as of the last Freeze, whose checkpoint is durable. Nothing of
// the store may be called afterwards, and its Frozen only answer ErrAborted.
// With ErrInUse its state has to be restored from the checkpoint.
func (s *Store) Detach() error {
	s.bury()
	if len(s.zombies) > 0 {
		return fmt.Errorf("%w: a snapshot that was given up is still being written", ErrInUse)
	}
	if len(s.changes) > 0 || len(s.drops) > 0 {
		return fmt.Errorf("%w: it changed after the last barrier", ErrInUse)
	}
	for _, f := range s.flying {
		if !f.phase.CompareAndSwap(phaseReady, phaseAborted) && !f.phase.CompareAndSwap(phaseWritten, phaseAborted) {
			return fmt.Errorf("%w: a snapshot is still being written", ErrInUse)
		}
	}
	return s.leaveDisk()
}

// Adopt takes over, from detached stores of other key groups, all keys that
// this store owns. It is called once, after the tables were made and before
// Load, which then gets only the key groups that none of old owned. What it
// took is not part of the next delta: it is in the restored checkpoint.
//
// It costs some steps a page and an insertion for each key on a page across a
// border. Stubs go like pages, to a store with the disk that the old ones have.
// After an error the store is unusable.
func (s *Store) Adopt(old []*Store, how Restore) (err error) {
	defer s.caught(&err)
	old = slices.Clone(old)
	slices.SortFunc(old, func(a, b *Store) int { return a.groups.First - b.groups.First })
	for _, o := range old {
		if o.groups.N != s.groups.N {
			return fmt.Errorf("adopt state: %d key groups cannot become %d", o.groups.N, s.groups.N)
		}
		s.epoch = max(s.epoch, o.epoch)
		for name := range o.states {
			if s.states[name] != nil {
				continue
			}
			if !how.AllowUnmatched {
				return &UnmatchedError{name}
			}
			s.lost = s.epoch
		}
	}
	for name, r := range s.states {
		if planted.TimerLostOnRescale && how.WithoutTimers && strings.HasPrefix(name, "timers") {
			continue
		}
		if err := r.adopt(old); err != nil {
			return stateError(name, err)
		}
	}
	s.changes, s.drops = nil, nil
	s.now = unknownTimes
	s.epoch++
	return nil
}

// adopt implements registered.
func (r *single) adopt(old []*Store) error {
	a := adoption{to: r.t}
	for _, s := range old {
		o, err := sameState[*single](s, r, r.t.of)
		if err != nil {
			return err
		}
		if o != nil {
			if err := a.look(o.t); err != nil {
				return err
			}
		}
	}
	a.take()
	return nil
}

// adopt implements registered. A namespace without keys of this store does not
// come to be.
func (p *spaces) adopt(old []*Store) error {
	by := map[int64]*adoption{}
	for _, s := range old {
		o, err := sameState[*spaces](s, p, p.of)
		if err != nil {
			return err
		}
		if o == nil {
			continue
		}
		for ns, t := range o.tables {
			if by[ns] == nil {
				by[ns] = &adoption{to: &table{tree: tree{s: p.s}, of: p.of}} // not one of the store's yet
			}
			if err := by[ns].look(t); err != nil {
				return err
			}
		}
	}
	for ns, a := range by {
		if a.live > 0 {
			a.to = p.space(ns)
			a.take()
		}
	}
	return nil
}

// sameState is a state of an old store, nil if that does not have it; it is to be
// like one of now.
func sameState[R registered](s *Store, now R, of *kind) (R, error) {
	var none R
	o, ok := s.states[of.name]
	if !ok {
		return none, nil
	}
	r, ok := o.(R)
	if !ok || o.types().entry != of.entry {
		return none, fmt.Errorf("it is kept as %s, and now declared as %s", shown(o), shown(now))
	}
	return r, nil
}

// shown is a state for an error message.
func shown(r registered) string {
	t := r.types()
	return fmt.Sprintf("%s of %v to %v", strings.TrimPrefix(fmt.Sprintf("%T", r), "*state."), t.key, t.value)
}

// adoption is that of one table.
type adoption struct {
	to *table
	// whole are pages that go as they are, in ascending order and apart from
	// each other.
	whole []graft
	// across are pages with keys of several stores, or what the disk has in
	// place of them.
	across []*page
	// live counts the keys that are taken.
	live int
	// pieces are where whole stubs are on the disk.
	pieces []piece
}

// eachEntry calls f for the entries of a page; those that do not expire have no age.
func (k *kind) eachEntry(p *page, f func(hash uint64, age int64, key unsafe.Pointer)) {
	age := unknownTime
	eachHash(p, func(i uint32, h uint64) {
		if k.timed {
			age = *p.age(i)
		}
		f(h, age, k.at(p, i))
	})
}

// graft is a page with the hashes that it stands for. They are known from its
// place in the old tree: pages of others are not looked at.
type graft struct {
	p      *page
	prefix uint64
	depth  uint8
}

func (g graft) last() uint64 { return lastOf(g.prefix, g.depth) }

// look finds what an old table has for this one. Tables come in the order of
// their stores.
func (a *adoption) look(o *table) (err error) {
	if o.of.life.span > 0 != a.to.of.timed || o.of.life.domain != a.to.of.life.domain {
		return errors.New("its time to live was declared in another way")
	}
	if o.root == nil {
		return nil
	}
	now, was := a.to.s, o.s
	first, last := max(now.base, was.base), min(now.top, was.top)
	if first > last {
		return nil
	}
	before := len(a.whole)
	eachLeaf(o.root, was.base&^lastOf(0, was.common), was.common, first, last, func(g graft) {
		// All its keys are ours, and all of our hashes that it stands for are
		// in it.
		ours := max(g.prefix, was.base) >= now.base && min(g.last(), was.top) <= now.top
		alone := max(g.prefix, now.base) >= was.base && min(g.last(), now.top) <= was.top
		if ours && alone && g.depth >= now.common {
			a.whole = append(a.whole, g)
			a.live += int(g.p.live)
			return
		}
		p := g.p
		if p.class == 0 {
			var e error
			if p, e = a.to.of.open(p, a.to.of.room); e != nil {
				err = cmp.Or(err, error(&DiskError{o.of.name, e}))
				return
			}
		}
		a.across = append(a.across, p)
		eachHash(p, func(_ uint32, h uint64) {
			if h >= first && h <= last {
				a.live++
			}
		})
	})
	if a.to.of.heap == 0 {
		a.to.of.heap = o.of.heap
	}
	if whole := a.whole[before:]; len(whole) > 0 {
		a.pieces = o.onDisk(a.pieces, whole[0].prefix, whole[len(whole)-1].last())
	}
	return err
}

// take makes the table out of what was found.
func (a *adoption) take() {
	t := a.to
	if len(a.whole) > 0 {
		t.root = t.graft(a.whole, t.s.base&^lastOf(0, t.common), t.common)
	}
	for _, g := range a.whole {
		t.count += int(g.p.live)
		t.takeOver(g.p)
	}
	t.adopted = a.pieces
	for _, p := range a.across {
		t.of.eachEntry(p, func(h uint64, age int64, key unsafe.Pointer) {
			// The old store holds no keys but its own.
			if h >= t.s.base && h <= t.s.top {
				t.s.now[t.of.life.domain] = age // the old store has each key once
				v, _ := t.upsert(h, key)
				t.of.copyEntries(unsafe.Add(v, -int(t.of.valueAt)), key, 1)
			}
		})
	}
	if t.s.tier != nil {
		t.weigh()
	}
}

// graft makes the tree of the pages for the hashes below a prefix. Where there
// are none an empty page stands.
func (t *table) graft(pages []graft, prefix uint64, depth uint8) ref {
	switch {
	case len(pages) == 0:
		p := t.of.make(groupSize, prefix, depth)
		t.grow(t.of.size(p))
		t.list(p)
		return ref(p)
	case pages[0].depth == depth:
		return ref(pages[0].p)
	}
	deepest := depth
	for _, g := range pages {
		deepest = max(deepest, g.depth)
	}
	w := uint(max(leastBits, min(nodeBits, deepest-depth)))
	r := newNode(t.s.epoch, w, depth)
	places := placesOf(r)
	// at is the first free place, below that with the next page.
	fill := func(at, below int) int {
		for at < below {
			n := 1 // the largest aligned stretch
			for at&(2*n-1) == 0 && at+2*n <= below {
				n *= 2
			}
			d := depth + uint8(w) - uint8(log2(n))
			set(places[at:at+n], t.graft(nil, prefix|placePrefix(at, depth, w), d))
			at += n
		}
		return at
	}
	at := 0
	for len(pages) > 0 {
		g := pages[0]
		place := int(g.prefix << (depth & 63) >> (64 - w))
		at = fill(at, place)
		if g.depth <= depth+uint8(w) {
			n := 1 << (w - uint(g.depth-depth))
			set(places[at:at+n], ref(g.p))
			at, pages = at+n, pages[1:]
			continue
		}
		n := 1
		for n < len(pages) && int(pages[n].prefix<<(depth&63)>>(64-w)) == place {
			n++
		}
		places[at] = t.graft(pages[:n], prefix|placePrefix(at, depth, w), depth+uint8(w))
		at, pages = at+1, pages[n:]
	}
	fill(at, len(places))
	return r
}

func set(places []ref, r ref) {
	for i := range places {
		places[i] = r
	}
}
