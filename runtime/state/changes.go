package state

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"reflect"
	"sync/atomic"
	"unsafe"

	"github.com/millrace/millrace/checkpoint/snapshot"
	"github.com/millrace/millrace/runtime/keygroup"
)

// changes are those of one table in one epoch.
type changes struct {
	of    *kind
	ns    int64
	epoch uint32
	// pages have been written to. Those of an older list may meanwhile have
	// been written to again; the ones of a frozen list have not, as copies
	// took their places.
	pages []*page
	// deleted are keys that older snapshots have. Some may be back.
	deleted tombs
	// before are the table's changes before these, as long as a layer has
	// them; only with a tier.
	before *changes
}

// tombs are keys that were removed, with their hashes.
type tombs struct {
	hashes []uint64
	keys   unsafe.Pointer // room for
	room   int
}

func (d *tombs) add(k *kind, hash uint64, key unsafe.Pointer) {
	n := len(d.hashes)
	if n == d.room {
		d.room = max(8, 2*n)
		keys := reflect.MakeSlice(reflect.SliceOf(k.key), d.room, d.room).UnsafePointer()
		k.moveKeys(keys, d.keys, n)
		d.keys = keys
	}
	d.hashes = append(d.hashes, hash)
	k.moveKeys(d.at(k, n), key, 1)
}

func (d *tombs) at(k *kind, i int) unsafe.Pointer { return unsafe.Add(d.keys, uintptr(i)*k.keySize) }

func (t *table) newChanges() *changes {
	c := &changes{of: t.of, ns: t.ns, epoch: t.s.epoch}
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

func (c *changes) place() place { return place{c.of.name, c.ns} }

func (c *changes) release() {
	c.of.release(c.pages, c.epoch)
	c.pages, c.deleted = nil, tombs{}
}

// discard empties the changes of a table that is gone.
func (c *changes) discard() { c.pages, c.deleted = nil, tombs{} }

func (c *changes) write(w *snapshot.Writer, f *Frozen) (changed int, err error) {
	e := encoder{kind: c.of, w: w, groups: f.groups, ns: c.ns, asOf: f.passed[c.of.life.domain], tombs: true}
	// Deletes first: of several changes of a key the writer takes the last.
	for i, hash := range c.deleted.hashes {
		if err := e.delete(hash, c.deleted.at(c.of, i)); err != nil {
			return 0, err
		}
	}
	for i := range c.pages {
		p := (*page)(atomic.LoadPointer((*unsafe.Pointer)(unsafe.Pointer(&c.pages[i]))))
		if p.class == 0 {
			if err := e.putStub(p, true); err != nil {
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
type image struct {
	of   *kind
	ns   int64
	root ref
}

func (m *image) place() place { return place{m.of.name, m.ns} }

func (m *image) release() {}

func (m *image) write(w *snapshot.Writer, f *Frozen) (changed int, err error) {
	e := encoder{kind: m.of, w: w, groups: f.groups, ns: m.ns, asOf: f.passed[m.of.life.domain]}
	if m.root == nil {
		return 0, nil
	}
	for pages := (walk{stack: []ref{m.root}}); ; {
		p := pages.next()
		if p == nil {
			return changed, nil
		}
		if p.class == 0 {
			if err := e.putStub(p, false); err != nil {
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
type encoder struct {
	*kind
	w          *snapshot.Writer
	groups     keygroup.Range
	ns         int64
	key, value []byte
	content    *page // of the last stub
	puts       int
	asOf       int64 // the time as of the barrier
	tombs      bool  // older runs may have what expired meanwhile
}

// put writes an entry unless it has expired.
func (e *encoder) put(p *page, i uint32) error {
	hash, key := *p.hash(i), e.at(p, i)
	age := int64(0)
	if e.timed {
		age = *p.age(i)
		if !e.counted && e.life.over(age, e.asOf) {
			if !e.tombs {
				return nil
			}
			return e.delete(hash, key)
		}
	}
	group, err := e.group(hash, key)
	if err != nil {
		return err
	}
	e.key = e.keys.Append(e.key[:0], key)
	e.value = e.value[:0]
	if e.timed {
		e.value = binary.LittleEndian.AppendUint64(e.value, uint64(age))
	}
	e.value = e.values.Append(e.value, unsafe.Add(key, e.valueAt))
	e.w.Put(group, e.name, e.ns, e.key, e.value)
	e.puts++
	return nil
}

// putStub puts the entries of a stub, or those of them that are dirty.
func (e *encoder) putStub(stub *page, dirty bool) error {
	p, err := e.open(stub, e.room)
	if err != nil {
		return &DiskError{e.name, err}
	}
	e.content = p
	for i := range uint32(p.capacity()) {
		if *p.tag(i) < tagFull || dirty && *p.dirtyWord(i)>>(i&63)&1 == 0 {
			continue
		}
		if err := e.put(p, i); err != nil {
			return err
		}
	}
	return nil
}

// room returns an empty page, the last one again if it has the class.
func (e *encoder) room(class int) *page {
	if p := e.content; p != nil && int(p.class) == class {
		e.empty(p)
		return p
	}
	return e.allocate(class)
}

func (e *encoder) delete(hash uint64, key unsafe.Pointer) error {
	group, err := e.group(hash, key)
	if err != nil {
		return err
	}
	e.key = e.keys.Append(e.key[:0], key)
	e.w.Delete(group, e.name, e.ns, e.key)
	return nil
}

func (e *encoder) group(hash uint64, key unsafe.Pointer) (int, error) {
	group := keygroup.Of(hash, e.groups.N)
	if !e.groups.Contains(group) {
		return 0, fmt.Errorf("write state %q: key %v is of key group %d, this subtask owns %v: the record did not come by its key's hash",
			e.name, e.show(key), group, e.groups)
	}
	return group, nil
}

var _, _ changeSet = (*changes)(nil), (*image)(nil)
