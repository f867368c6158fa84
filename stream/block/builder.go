package block

import (
	"encoding/binary"

	"github.com/millrace/millrace/stream"
)

// Builder collects records into a block. The zero value is ready to use.
type Builder struct {
	buf   []byte
	count uint32
}

// Add appends a record without sequence number and arrival.
func (b *Builder) Add(key string, hash stream.HashKey, data []byte) {
	b.open()
	var fixed [fixedBytes]byte
	b.buf = append(b.buf, fixed[:]...)
	b.buf = binary.AppendUvarint(b.buf, uint64(len(key)))
	b.buf = append(b.buf, key...)
	b.buf = append(b.buf, hash[:]...)
	b.buf = binary.AppendUvarint(b.buf, uint64(len(data)))
	b.buf = append(b.buf, data...)
	b.count++
}

// AddPart appends up to max further records of it as they are, while the block
// stays within size bytes; the first one is taken whatever its size. It
// returns how many.
func (b *Builder) AddPart(it *Iterator, max, size int) (int, error) {
	b.open()
	from, taken := it.rest, 0
	used := 0
	for taken < max && it.left > 0 {
		n := recordSize(it.rest)
		if n < 0 {
			return taken, it.malformed()
		}
		if len(b.buf)+used+n > size && b.count+uint32(taken) > 0 {
			break
		}
		used += n
		it.rest = it.rest[n:]
		it.left--
		taken++
	}
	b.buf = append(b.buf, from[:used]...)
	b.count += uint32(taken)
	return taken, nil
}

// Skip passes over n records of it.
func Skip(it *Iterator, n int) error {
	for ; n > 0 && it.left > 0; n-- {
		size := recordSize(it.rest)
		if size < 0 {
			return it.malformed()
		}
		it.rest = it.rest[size:]
		it.left--
	}
	return nil
}

func (b *Builder) open() {
	if len(b.buf) == 0 {
		b.buf = append(b.buf, make([]byte, HeaderBytes)...)
	}
}

// Grow makes room for n more bytes.
func (b *Builder) Grow(n int) {
	b.open()
	if free := cap(b.buf) - len(b.buf); free < n {
		b.buf = append(make([]byte, 0, len(b.buf)+n), b.buf...)
	}
}

// Len is the size of the block as of now.
func (b *Builder) Len() int { return len(b.buf) }

// Count is the number of records added.
func (b *Builder) Count() int { return int(b.count) }

// Finish hands the block over; the builder starts anew with a buffer of its
// own. Without records the block is nil.
func (b *Builder) Finish() Block {
	if b.count == 0 {
		return nil
	}
	out := Block(b.buf)
	binary.LittleEndian.PutUint32(out[4:], b.count)
	out.seal()
	*b = Builder{}
	return out
}
