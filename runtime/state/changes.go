package state

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"sync/atomic"
	"unsafe"

	"github.com/millrace/millrace/checkpoint/snapshot"
	"github.com/millrace/millrace/runtime/keygroup"
)

// changes are those of one table in one epoch.
type changes[K comparable, V any] struct {
	of    *kind[K, V]
	ns    int64
	epoch uint32
	// pages have been written to. Those of an older list may meanwhile have
	// been written to again; the ones of a frozen list have not, as copies
	// took their places.
	pages []*page
	// deleted are keys that older snapshots have. Some may be back.
	deleted []deletedKey[K]
	// before are the table's changes before these, as long as a layer has
	// them; only with a tier.
	before *changes[K, V]
}

type deletedKey[K comparable] struct {
	hash uint64
	key  K
}

func (t *Table[K, V]) newChanges() *changes[K, V] {
	c := &changes[K, V]{of: t.of, ns: t.ns, epoch: t.s.epoch}
	if t.now != nil {
		// About as many as last time.
		c.pages = make([]*page, 0, len(t.now.pages))
	}
	if t.s.tier != nil {
		c.before = t.now
		for l := c; l.before != nil; {
			if t.s.listed(l.before.epoch) {
				l = l.before
			} else {
				l.before = l.before.before
			}
		}
	}
	return c
}

func (c *changes[K, V]) place() place { return place{c.of.name, c.ns} }

func (c *changes[K, V]) release() {
	c.of.release(c.pages, c.epoch)
	c.pages, c.deleted = nil, nil
}

// discard empties the changes of a table that is gone.
func (c *changes[K, V]) discard() { c.pages, c.deleted = nil, nil }

func (c *changes[K, V]) write(w *snapshot.Writer, f *Frozen) (changed int, err error) {
	e := encoder[K, V]{kind: c.of, w: w, groups: f.groups, ns: c.ns, asOf: f.passed[c.of.life.domain], tombs: true}
	// Deletes first: of several changes of a key the writer takes the last.
	for i := range c.deleted {
		if err := e.delete(&c.deleted[i]); err != nil {
			return 0, err
		}
	}
	for i := range c.pages {
		p := (*page)(atomic.LoadPointer((*unsafe.Pointer)(unsafe.Pointer(&c.pages[i]))))
		if p.class == 0 {
			if err := e.putStub(p, packedDirty); err != nil {
				return 0, err
			}
			continue
		}
		for word := range p.words() {
			for m := *p.dirtyWord(word * 64); m != 0; m &= m - 1 {
				if err := e.put(p, word*64+uint32(bits.TrailingZeros64(m))); err != nil {
					return 0, err
				}
			}
		}
	}
	if c.epoch == f.epoch {
		changed = e.puts
	}
	return changed, nil
}

// image is all of one table as of a barrier.
type image[K comparable, V any] struct {
	of   *kind[K, V]
	ns   int64
	root ref
}

func (m *image[K, V]) place() place { return place{m.of.name, m.ns} }

func (m *image[K, V]) release() {}

func (m *image[K, V]) write(w *snapshot.Writer, f *Frozen) (changed int, err error) {
	e := encoder[K, V]{kind: m.of, w: w, groups: f.groups, ns: m.ns, asOf: f.passed[m.of.life.domain]}
	if m.root == nil {
		return 0, nil
	}
	for pages := (walk{stack: []ref{m.root}}); ; {
		p := pages.next()
		if p == nil {
			return changed, nil
		}
		if p.class == 0 {
			if err := e.putStub(p, 0); err != nil {
				return 0, err
			}
			continue
		}
		if p.epoch == f.epoch {
			for word := range p.words() {
				changed += bits.OnesCount64(*p.dirtyWord(word * 64))
			}
		}
		for i := range uint32(p.capacity()) {
			if *p.tag(i) < tagFull {
				continue
			}
			if err := e.put(p, i); err != nil {
				return 0, err
			}
		}
	}
}

// encoder writes entries of one table.
type encoder[K comparable, V any] struct {
	*kind[K, V]
	w        *snapshot.Writer
	groups   keygroup.Range
	ns       int64
	key, val []byte
	content  packed[K, V] // of a stub
	puts     int
	asOf     int64 // the time as of the barrier
	tombs    bool  // older runs may have what expired meanwhile
}

func (e *encoder[K, V]) put(p *page, i uint32) error {
	s := e.at(p, i)
	age := int64(0)
	if e.timed {
		age = *p.age(i)
	}
	return e.putEntry(*p.hash(i), age, &s.key, &s.val)
}

// putStub puts those entries of a stub that have all of the flags.
func (e *encoder[K, V]) putStub(p *page, flags uint8) error {
	defer e.content.reset()
	if err := e.open(p, &e.content); err != nil {
		return &DiskError{e.name, err}
	}
	for i, h := range e.content.hashes {
		if e.content.flags[i]&flags != flags {
			continue
		}
		age := int64(0)
		if e.timed {
			age = e.content.ages[i]
		}
		if err := e.putEntry(h, age, &e.content.keys[i], &e.content.values[i]); err != nil {
			return err
		}
	}
	return nil
}

// putEntry writes an entry unless it has expired.
func (e *encoder[K, V]) putEntry(hash uint64, age int64, key *K, val *V) error {
	if e.timed && !e.counted && e.life.over(age, e.asOf) {
		if !e.tombs {
			return nil
		}
		return e.delete(&deletedKey[K]{hash, *key})
	}
	group, err := e.group(hash, key)
	if err != nil {
		return err
	}
	e.key = e.keys.Append(e.key[:0], key)
	e.val = e.val[:0]
	if e.timed {
		e.val = binary.LittleEndian.AppendUint64(e.val, uint64(age))
	}
	e.val = e.values.Append(e.val, val)
	e.w.Put(group, e.name, e.ns, e.key, e.val)
	e.puts++
	return nil
}

func (e *encoder[K, V]) delete(d *deletedKey[K]) error {
	group, err := e.group(d.hash, &d.key)
	if err != nil {
		return err
	}
	e.key = e.keys.Append(e.key[:0], &d.key)
	e.w.Delete(group, e.name, e.ns, e.key)
	return nil
}

func (e *encoder[K, V]) group(hash uint64, key *K) (int, error) {
	group := keygroup.Of(hash, e.groups.N)
	if !e.groups.Contains(group) {
		return 0, fmt.Errorf("write state %q: key %v is of key group %d, this subtask owns %v: the record did not come by its key's hash",
			e.name, *key, group, e.groups)
	}
	return group, nil
}

var _, _ changeSet = (*changes[int, int])(nil), (*image[int, int])(nil)
