package snapshot

import (
	"encoding/binary"
	"hash/crc32"
	"io"
)

// blockLimit is where a key group goes on in another block. A reader holds
// whole blocks, as it must not give out entries that it has not checked.
const blockLimit = 1 << 20

// builder encodes entries, which come in their order, to blocks, of which it holds
// one at a time.
type builder struct {
	out   io.Writer
	limit int

	body  []byte // of the block under way
	count int    // of its entries
	group int
	state uint32
	ns    int64

	blocks  []block
	entries int
	length  int64
	crc     uint32 // of the blocks so far
	split   bool   // some key group has two blocks
	err     error
}

// block is one line of the index.
type block struct {
	group, entries int
	offset, length int
	crc            uint32
}

func newBuilder(out io.Writer, limit int) *builder { return &builder{out: out, limit: limit} }

// add takes the next entry. state is its name's place in the head.
func (b *builder) add(group int, state uint32, ns int64, key, value []byte, del bool) {
	if b.count > 0 && (group != b.group || len(b.body)+len(key)+len(value) > b.limit) {
		b.end()
	}
	var tag byte
	if del {
		tag |= tagDelete
	}
	if b.count > 0 && state == b.state && ns == b.ns {
		b.body = append(b.body, tag|tagSame)
	} else {
		b.body = append(b.body, tag)
		b.body = binary.AppendUvarint(b.body, uint64(state))
		b.body = binary.AppendVarint(b.body, ns)
	}
	b.body = binary.AppendUvarint(b.body, uint64(len(key)))
	b.body = append(b.body, key...)
	if !del {
		b.body = binary.AppendUvarint(b.body, uint64(len(value)))
		b.body = append(b.body, value...)
	}
	b.group, b.state, b.ns = group, state, ns
	b.count++
}

// end closes the block under way.
func (b *builder) end() {
	if b.count == 0 {
		return
	}
	bytes, n := b.body, len(b.blocks)
	b.split = b.split || n > 0 && b.blocks[n-1].group == b.group
	b.blocks = append(b.blocks, block{
		group: b.group, entries: b.count, length: len(bytes), crc: crc32.Checksum(bytes, castagnoli),
	})
	b.entries += b.count
	b.length += int64(len(bytes))
	b.crc = combine(b.crc, b.blocks[n].crc, int64(len(bytes)))
	b.count = 0
	if b.err == nil {
		_, b.err = b.out.Write(bytes)
	}
	b.body = b.body[:0]
}

// header is what a head says besides its blocks.
type header struct {
	groups, first, last int
	full                bool
	names               []string
	drops               []dropped
}

// dropped is a Drop by the place of its state's name.
type dropped struct {
	name uint32
	ns   int64
}

// head encodes the head of what was added. There is room for spare bytes more
// behind it.
func (b *builder) head(h header, spare int) []byte {
	head := make([]byte, fixedHead, fixedHead+16*(len(h.names)+len(h.drops))+12*len(b.blocks)+spare)
	for _, name := range h.names {
		head = binary.AppendUvarint(head, uint64(len(name)))
		head = append(head, name...)
	}
	for _, d := range h.drops {
		head = binary.AppendUvarint(head, uint64(d.name))
		head = binary.AppendVarint(head, d.ns)
	}
	for _, b := range b.blocks {
		head = binary.AppendUvarint(head, uint64(b.group))
		head = binary.AppendUvarint(head, uint64(b.entries))
		head = binary.AppendUvarint(head, uint64(b.length))
		head = binary.LittleEndian.AppendUint32(head, b.crc)
	}
	le := binary.LittleEndian
	copy(head, magic)
	le.PutUint16(head[4:], versionPlain)
	if b.split {
		le.PutUint16(head[4:], versionSplit)
	}
	le.PutUint64(head[8:], uint64(len(head))+uint64(b.length))
	le.PutUint32(head[20:], uint32(len(head)))
	le.PutUint32(head[24:], uint32(h.groups))
	le.PutUint32(head[28:], uint32(h.first))
	le.PutUint32(head[32:], uint32(h.last))
	le.PutUint32(head[36:], uint32(len(h.names)))
	le.PutUint32(head[40:], uint32(len(h.drops)))
	le.PutUint32(head[44:], uint32(len(b.blocks)))
	le.PutUint64(head[48:], uint64(b.entries))
	if h.full {
		le.PutUint32(head[56:], flagFull)
	}
	le.PutUint32(head[crcOffset:], headCRC(head))
	return head
}

// headCRC is the CRC of a head without the field that holds it.
func headCRC(head []byte) uint32 {
	crc := crc32.Update(0, castagnoli, head[:crcOffset])
	return crc32.Update(crc, castagnoli, head[crcOffset+4:])
}
