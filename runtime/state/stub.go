package state

import (
	"encoding/binary"
	"errors"
	"fmt"

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

// The flags of a packed entry.
const (
	packedDirty = 1 << iota
	packedFresh
)

// pack appends the content of a page: its class, how many entries it has, then
// of each its hash, age if they have some, flags, key and value, these in the
// encoding of the state's codecs. It is read by the process that wrote it, only.
func (k *kind) pack(dst []byte, p *page) (_ []byte, err error) {
	defer func() {
		if r, ok := recover().(*codec.MarshalError); ok {
			err = r
		} else if r != nil {
			panic(r)
		}
	}()
	dst = append(dst, p.class)
	dst = binary.AppendUvarint(dst, uint64(p.live))
	for i := range uint32(p.capacity()) {
		if *p.tag(i) < tagFull {
			continue
		}
		dst = binary.NativeEndian.AppendUint64(dst, *p.hash(i))
		if k.timed {
			dst = binary.NativeEndian.AppendUint64(dst, uint64(*p.age(i)))
		}
		dst = append(dst, uint8(*p.dirtyWord(i)>>(i&63)&1)*packedDirty|uint8(*p.freshWord(i)>>(i&63)&1)*packedFresh)
		dst = k.values.Append(k.keys.Append(dst, k.at(p, i)), k.val(p, i))
	}
	return dst, nil
}

var errPacked = errors.New("a page has not the form that was written")

// unpack makes a page of what pack wrote, for the hashes of a stub, with its
// number of entries. room returns empty pages of a class.
func (k *kind) unpack(b []byte, stub *page, room func(class int) *page) (*page, error) {
	if len(b) == 0 || b[0] < leastClass || b[0] > mostClass {
		return nil, errPacked
	}
	class := int(b[0])
	n, size := binary.Uvarint(b[1:])
	if size <= 0 || n != uint64(stub.live) || n > 1<<class*(groupSize-1)/groupSize {
		return nil, errPacked
	}
	b = b[1+size:]
	q := room(class)
	q.prefix, q.depth = stub.prefix, stub.depth
	together := codec.Decoder{Together: true}
	for range n {
		var err error
		if b, err = k.unpackEntry(b, q, &together); err != nil {
			return nil, err
		}
	}
	if len(b) > 0 {
		return nil, errPacked
	}
	return q, nil
}

func (k *kind) unpackEntry(b []byte, q *page, together *codec.Decoder) ([]byte, error) {
	head := 9
	if k.timed {
		head += 8
	}
	if len(b) < head {
		return nil, errPacked
	}
	h, flags := binary.NativeEndian.Uint64(b), b[head-1]
	i := q.free(h)
	*q.tag(i), *q.hash(i) = uint8(h)|tagFull, h
	*q.ownedWord(i) |= 1 << (i & 63)
	*q.dirtyWord(i) |= uint64(flags&packedDirty) / packedDirty << (i & 63)
	*q.freshWord(i) |= uint64(flags&packedFresh) / packedFresh << (i & 63)
	if k.timed {
		k.stamp(q, i, int64(binary.NativeEndian.Uint64(b[8:])))
	}
	q.live++
	q.used++
	k.clearEntries(k.at(q, i), 1)
	b, err := k.keys.Decode(together, b[head:], k.at(q, i))
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	if b, err = k.values.Decode(together, b, k.val(q, i)); err != nil {
		return nil, fmt.Errorf("values: %w", err)
	}
	return b, nil
}

// open returns a page with a stub's content, from the disk. It is in no tree. The
// task's goroutine calls it, and those of snapshots, each with room of its own.
func (k *kind) open(stub *page, room func(class int) *page) (q *page, err error) {
	k.s.tier.read.Add(1)
	err = k.disk.Read(stub.key(), func(b []byte) (err error) {
		q, err = k.unpack(b, stub, room)
		return err
	})
	return q, err
}

// room returns an empty page of the task's.
func (k *kind) room(class int) *page { return k.make(1<<class, 0, 0) }
