package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"github.com/millrace/millrace/runtime/codec"
)

// stubSize is the memory of a stub: a head, and some bytes after it, for whoever
// asks memory ahead asks for what follows a head too.
const stubSize = headSize + 16

type stub struct {
	page
	_ [stubSize - headSize]byte
}

// newStub is a stub for the content of a page, which is on the disk under key;
// oldest is that of the page.
func newStub(p *page, key PageKey, size int, oldest int64) *page {
	q := &new(stub).page
	q.epoch, q.pos, q.live, q.prefix, q.depth = p.epoch, p.pos, p.live, p.prefix, p.depth
	q.fresh, q.dirty, q.used = key.Table, key.Version, uint32(size)
	q.owned = uint64(oldest)
	return q
}

// key is where the disk has the content of a stub, or of a page of epoch 0.
func (p *page) key() PageKey { return PageKey{p.fresh, p.prefix, p.dirty} }

// packed is the content of a page, outside of it.
type packed[K comparable, V any] struct {
	class  uint8
	hashes []uint64
	flags  []uint8 // of each entry
	ages   []int64 // if timed
	keys   []K
	values []V
}

const (
	packedDirty = 1 << iota
	packedFresh
)

func (c *packed[K, V]) reset() {
	clear(c.keys) // what they refer to is not to live on here
	clear(c.values)
	c.hashes, c.flags, c.ages, c.keys, c.values = c.hashes[:0], c.flags[:0], c.ages[:0], c.keys[:0], c.values[:0]
}

// pack appends the content of a page: its class, how many entries it has, then
// their hashes, ages if they have some, flags, keys and values, in the encoding of the state's codecs. It
// is read by the process that wrote it, only.
func (k *kind[K, V]) pack(dst []byte, p *page, c *packed[K, V]) (_ []byte, err error) {
	defer c.reset()
	defer func() {
		if r, ok := recover().(*codec.MarshalError); ok {
			err = r
		} else if r != nil {
			panic(r)
		}
	}()
	for i := range uint32(p.capacity()) {
		if *p.tag(i) < tagFull {
			continue
		}
		s := k.at(p, i)
		c.hashes = append(c.hashes, *p.hash(i))
		c.flags = append(c.flags, uint8(*p.dirtyWord(i)>>(i&63)&1)*packedDirty|uint8(*p.freshWord(i)>>(i&63)&1)*packedFresh)
		c.keys, c.values = append(c.keys, s.key), append(c.values, s.val)
		if k.timed {
			c.ages = append(c.ages, *p.age(i))
		}
	}
	dst = append(dst, p.class)
	dst = binary.AppendUvarint(dst, uint64(len(c.hashes)))
	dst = append(dst, unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(c.hashes))), 8*len(c.hashes))...)
	dst = append(dst, unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(c.ages))), 8*len(c.ages))...)
	dst = append(dst, c.flags...)
	dst = k.keys.AppendAll(dst, c.keys)
	return k.values.AppendAll(dst, c.values), nil
}

var errPacked = errors.New("a page has not the form that was written")

// unpack reads what pack wrote; live is how many entries it must have.
func (k *kind[K, V]) unpack(b []byte, live uint32, c *packed[K, V]) (err error) {
	if len(b) == 0 {
		return errPacked
	}
	c.class = b[0]
	n, size := binary.Uvarint(b[1:])
	each := uint64(9)
	if k.timed {
		each += 8
	}
	if size <= 0 || n != uint64(live) || n > 1<<c.class || uint64(len(b)-1-size) < each*n {
		return errPacked
	}
	b = b[1+size:]
	for i := range n {
		c.hashes = append(c.hashes, binary.NativeEndian.Uint64(b[8*i:]))
	}
	b = b[8*n:]
	if k.timed {
		for i := range n {
			c.ages = append(c.ages, int64(binary.NativeEndian.Uint64(b[8*i:])))
		}
		b = b[8*n:]
	}
	c.flags, b = append(c.flags, b[:n]...), b[n:]
	c.keys = extend(c.keys, int(n))
	c.values = extend(c.values, int(n))
	if b, err = k.keys.DecodeAll(b, c.keys); err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	if b, err = k.values.DecodeAll(b, c.values); err != nil {
		return fmt.Errorf("values: %w", err)
	}
	if len(b) > 0 {
		return errPacked
	}
	return nil
}

func extend[E any](s []E, n int) []E {
	if cap(s) < n {
		return make([]E, n)
	}
	return s[:n]
}

// open reads a stub's content from the disk. The task's goroutine calls it, and
// those of snapshots, each with a c of its own.
func (k *kind[K, V]) open(p *page, c *packed[K, V]) error {
	k.s.tier.read.Add(1)
	return k.disk.Read(p.key(), func(b []byte) error { return k.unpack(b, p.live, c) })
}

// fill makes a page of what c has of a stub's content; marked says that entries
// are dirty and fresh as they were, else they are clean.
func (k *kind[K, V]) fill(p *page, c *packed[K, V], marked bool) *page {
	q := k.make(1<<c.class, p.prefix, p.depth)
	for j, h := range c.hashes {
		i := q.free(h)
		*q.tag(i), *q.hash(i) = uint8(h)|tagFull, h
		*k.at(q, i) = slot[K, V]{c.keys[j], c.values[j]}
		*q.ownedWord(i) |= 1 << (i & 63)
		if k.timed {
			k.stamp(q, i, c.ages[j])
		}
		if marked {
			*q.dirtyWord(i) |= uint64(c.flags[j]&packedDirty) / packedDirty << (i & 63)
			*q.freshWord(i) |= uint64(c.flags[j]&packedFresh) / packedFresh << (i & 63)
		}
	}
	q.live, q.used = uint32(len(c.hashes)), uint32(len(c.hashes))
	return q
}
