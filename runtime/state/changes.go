package state

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"reflect"
	"sync/atomic"
	"unsafe"

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

func (c *changes) size() int { return len(c.pages) + len(c.deleted.hashes)/64 }

func (c *changes) begin(f *Frozen, steps steps) writing {
	return &changesWriting{
		of:      c,
		encoder: encoder{kind: c.of, ns: c.ns, asOf: f.passed[c.of.life.domain], tombs: true},
		pages:   steps.sort(len(c.pages), func(i int) (first, last uint64) { p := c.page(i); return p.prefix, p.last() }),
		deleted: steps.sort(len(c.deleted.hashes), func(i int) (first, last uint64) { return c.deleted.hashes[i], c.deleted.hashes[i] }),
		counts:  c.epoch == f.epoch,
	}
}

func (c *changes) page(i int) *page {
	return (*page)(atomic.LoadPointer((*unsafe.Pointer)(unsafe.Pointer(&c.pages[i]))))
}

// changesWriting is how far changes are written.
type changesWriting struct {
	encoder
	of             *changes
	pages, deleted parted
	counts         bool
}

func (c *changesWriting) write(s *step) error {
	c.step = s
	// Deletes first: of several changes of a key the writer takes the last.
	for i := range c.deleted.of(s) {
		if err := c.delete(c.of.deleted.hashes[i], c.of.deleted.at(c.kind, i)); err != nil {
			return err
		}
	}
	puts := c.puts
	for i := range c.pages.of(s) {
		p := c.of.page(i)
		if p.class == 0 {
			if err := c.putStub(p, true); err != nil {
				return err
			}
			continue
		}
		for word := range p.words() {
			for m := *p.dirtyWord(word * 64); m != 0; m &= m - 1 {
				if err := c.put(p, word*64+uint32(bits.TrailingZeros64(m))); err != nil {
					return err
				}
			}
		}
	}
	if c.counts {
		s.changed += c.puts - puts
	}
	return nil
}

// image is all of one table as of a barrier.
type image struct {
	of    *kind
	ns    int64
	root  ref
	bytes int
}

func (m *image) place() place { return place{m.of.name, m.ns} }

func (m *image) release() {}

func (m *image) size() int { return m.bytes / 4096 }

func (m *image) begin(f *Frozen, _ steps) writing {
	c := &imageWriting{encoder: encoder{kind: m.of, ns: m.ns, asOf: f.passed[m.of.life.domain]}, epoch: f.epoch}
	if m.root != nil {
		c.rest.stack = []ref{m.root}
	}
	return c
}

// imageWriting is how far an image is written.
type imageWriting struct {
	encoder
	epoch uint32
	rest  walk
	p     *page // of key groups of this step and later ones
}

func (c *imageWriting) write(s *step) error {
	c.step = s
	for {
		fresh := c.p == nil
		if fresh {
			c.p = c.rest.next()
		}
		if c.p == nil || c.p.prefix > s.last {
			return nil
		}
		p := c.p
		if fresh && p.class > 0 && p.epoch == c.epoch {
			for word := range p.words() {
				s.changed += bits.OnesCount64(*p.dirtyWord(word * 64))
			}
		}
		if err := c.putPage(p); err != nil {
			return err
		}
		if p.last() > s.last {
			return nil
		}
		c.p = nil
	}
}

func (c *imageWriting) putPage(p *page) error {
	if p.class == 0 {
		return c.putStub(p, false)
	}
	for i := range uint32(p.capacity()) {
		if *p.tag(i) < tagFull {
			continue
		}
		if err := c.put(p, i); err != nil {
			return err
		}
	}
	return nil
}

// encoder writes entries of one table.
type encoder struct {
	*kind
	*step
	ns         int64
	key, value []byte
	content    *page // of the last stub
	puts       int
	asOf       int64 // the time as of the barrier
	tombs      bool  // older runs may have what expired meanwhile
}

// put writes an entry, unless it has expired, or is of another step.
func (e *encoder) put(p *page, i uint32) error {
	hash, key := *p.hash(i), e.at(p, i)
	if hash < e.first || hash > e.last {
		return e.foreign(hash, key)
	}
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
	e.key = e.keys.Append(e.key[:0], key)
	e.value = e.value[:0]
	if e.timed {
		e.value = binary.LittleEndian.AppendUint64(e.value, uint64(age))
	}
	e.value = e.values.Append(e.value, unsafe.Add(key, e.valueAt))
	e.w.Put(keygroup.Of(hash, e.groups.N), e.name, e.ns, e.key, e.value)
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
	if hash < e.first || hash > e.last {
		return e.foreign(hash, key)
	}
	e.key = e.keys.Append(e.key[:0], key)
	e.w.Delete(keygroup.Of(hash, e.groups.N), e.name, e.ns, e.key)
	return nil
}

// foreign refuses a key of another subtask.
func (e *encoder) foreign(hash uint64, key unsafe.Pointer) error {
	group := keygroup.Of(hash, e.groups.N)
	if e.groups.Contains(group) {
		return nil // of another step
	}
	return fmt.Errorf("write state %q: key %v is of key group %d, this subtask owns %v: the record did not come by its key's hash",
		e.name, e.show(key), group, e.groups)
}

var _, _ changeSet = (*changes)(nil), (*image)(nil)
