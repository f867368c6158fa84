package snapshot

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Reader gives the entries of a run for a range of key groups, in order.
//
// One that Open made reads from memory, and its entries last as long as that.
// One that an Opener made reads window by window, each checked before its
// first entry is given out; an entry lasts until Next was called twice more.
type Reader struct {
	object      string
	size        int64
	first, last int // key groups that the run speaks for
	from, to    int // those that are read
	full        bool
	names       []string
	drops       []Drop
	blocks      []block // those in range
	crc         uint32  // of the whole run, as its head has it

	windows windows

	// Iteration.
	data  []byte // the window
	base  int    // offset of data in the run
	next  int    // block to begin next
	at    int    // in data
	left  int    // entries left in the block
	end   int    // of the block in data
	state int
	entry Entry
	err   error
}

// Open checks a run and returns a reader for the key groups first to last,
// inclusive. name is the object that errors name. The reader keeps data.
func Open(name string, data []byte, first, last int) (*Reader, error) {
	r := &Reader{object: name, size: int64(len(data)), from: first, to: last}
	head, err := r.checkHead(data)
	if err == nil {
		err = r.parse(head)
	}
	if err != nil {
		return nil, err
	}
	for _, b := range r.blocks {
		if err := r.check(b, data[b.offset:b.offset+b.length]); err != nil {
			return nil, err
		}
	}
	r.data, r.windows.loaded = data, len(r.blocks)
	return r, nil
}

// Drops lists what the run hides in older ones.
func (r *Reader) Drops() []Drop { return r.drops }

// Groups are the key groups that the run speaks for, inclusive.
func (r *Reader) Groups() (first, last int) { return r.first, r.last }

// Close ends reading ahead. It may be called more than once, and at any time
// that Next is not.
func (r *Reader) Close() error {
	r.windows.close()
	return nil
}

// speaksFor says whether what the run hides in older ones reaches a key group:
// one of the run's, and of those that this reader was opened for. A chain may
// read a run in parts, each with the older runs of its own key groups.
func (r *Reader) speaksFor(group int) bool {
	return group >= max(r.first, r.from) && group <= min(r.last, r.to)
}

func (r *Reader) corrupt(offset int, format string, args ...any) error {
	return &CorruptError{Object: r.object, Offset: int64(offset), Reason: fmt.Sprintf(format, args...)}
}

func (r *Reader) truncated(size int64, format string, args ...any) error {
	return &CorruptError{
		Object: r.object, Offset: size, Truncated: true,
		Reason: "truncated: " + fmt.Sprintf(format, args...),
	}
}

// errLongHead: more of the run is needed to see its whole head.
type errLongHead struct{ head int64 }

func (e *errLongHead) Error() string { return fmt.Sprintf("the head has %d bytes", e.head) }

// checkHead checks the beginning of a run of r.size bytes and returns its head.
func (r *Reader) checkHead(data []byte) ([]byte, error) {
	le := binary.LittleEndian
	if len(data) < fixedHead {
		return nil, r.truncated(int64(len(data)), "%d bytes, a run has at least %d", len(data), fixedHead)
	}
	if string(data[:4]) != magic {
		return nil, r.corrupt(0, "magic %q, want %q", data[:4], magic)
	}
	if v := le.Uint16(data[4:]); v != versionPlain && v != versionSplit {
		return nil, r.corrupt(4, "version %d, this build reads versions %d and %d", v, versionPlain, versionSplit)
	}
	if n := le.Uint64(data[8:]); n > uint64(r.size) {
		return nil, r.truncated(r.size, "%d bytes, its head says %d", r.size, n)
	} else if n < uint64(r.size) {
		return nil, r.corrupt(8, "length %d, but the run has %d bytes", n, r.size)
	}
	head := int64(le.Uint32(data[20:]))
	if head < fixedHead || head > r.size {
		return nil, r.corrupt(20, "head of %d bytes in a run of %d", head, r.size)
	}
	if head > int64(len(data)) {
		return nil, &errLongHead{head}
	}
	if got, want := headCRC(data[:head]), le.Uint32(data[crcOffset:]); got != want {
		return nil, r.corrupt(crcOffset, "head has CRC %08x, want %08x", got, want)
	}
	return data[:head], nil
}

// parse reads a head, whose bytes are known to be those that were written; its
// checks guard against a faulty writer.
func (r *Reader) parse(head []byte) error {
	le := binary.LittleEndian
	groups := int(le.Uint32(head[24:]))
	r.first, r.last = int(le.Uint32(head[28:])), int(le.Uint32(head[32:]))
	if groups < 1 || groups > maxGroups || r.first > r.last || r.last >= groups {
		return r.corrupt(24, "key groups %d to %d of %d", r.first, r.last, groups)
	}
	flags := le.Uint32(head[56:])
	if le.Uint16(head[6:]) != 0 || flags&^flagFull != 0 {
		return r.corrupt(56, "unknown flags %#x", flags)
	}
	r.full = flags&flagFull != 0
	s := scanner{data: head, at: fixedHead}
	names, drops, blocks := le.Uint32(head[36:]), le.Uint32(head[40:]), le.Uint32(head[44:])
	for i := uint32(0); i < names; i++ {
		name := string(s.bytes())
		if s.bad || (i > 0 && name <= r.names[i-1]) {
			return r.corrupt(s.at, "state name %d of %d", i, names)
		}
		r.names = append(r.names, name)
	}
	for i := uint32(0); i < drops; i++ {
		state := s.uvarint()
		ns := s.varint()
		if s.bad || state >= uint64(len(r.names)) {
			return r.corrupt(s.at, "drop %d of %d", i, drops)
		}
		d := Drop{State: r.names[state], Namespace: ns}
		if n := len(r.drops); n > 0 && (d.State < r.drops[n-1].State || d.State == r.drops[n-1].State && ns <= r.drops[n-1].Namespace) {
			return r.corrupt(s.at, "drops out of order")
		}
		r.drops = append(r.drops, d)
	}
	return r.parseIndex(&s, int(blocks), head)
}

func (r *Reader) parseIndex(s *scanner, blocks int, head []byte) error {
	// Only version 2 has several blocks of a key group.
	step := 1
	if binary.LittleEndian.Uint16(head[4:]) == versionSplit {
		step = 0
	}
	offset, prev, entries := int64(len(head)), r.first-step, uint64(0)
	r.crc = crc32.Checksum(head, castagnoli)
	for i := range blocks {
		group, count, length := s.uvarint(), s.uvarint(), s.uvarint()
		crc := s.fixed32()
		// An entry takes two bytes at least, its tag and its key's length.
		if s.bad || group > uint64(r.last) || int(group) < prev+step ||
			length > uint64(r.size-offset) || count == 0 || count > length/2 {
			return r.corrupt(s.at, "index line %d of %d", i, blocks)
		}
		b := block{group: int(group), entries: int(count), offset: int(offset), length: int(length), crc: crc}
		if b.group >= r.from && b.group <= r.to {
			r.blocks = append(r.blocks, b)
		}
		r.crc = combine(r.crc, crc, int64(length))
		prev, offset, entries = b.group, offset+int64(length), entries+count
	}
	if s.at != len(head) {
		return r.corrupt(s.at, "head goes on after its lists")
	}
	if offset != r.size {
		return r.corrupt(int(offset), "blocks end %d bytes before the run", r.size-offset)
	}
	if want := binary.LittleEndian.Uint64(head[48:]); entries != want {
		return r.corrupt(48, "%d entries in the index, %d in the head", entries, want)
	}
	return nil
}

// check compares the bytes of a block with the index.
func (r *Reader) check(b block, data []byte) error {
	if got := crc32.Checksum(data, castagnoli); got != b.crc {
		return r.corrupt(b.offset, "key group %d has CRC %08x, want %08x", b.group, got, b.crc)
	}
	return nil
}

// Next moves to the next entry; false at the end or on an error (Err).
func (r *Reader) Next() bool {
	if r.left > 0 {
		r.left--
		return r.decode(false)
	}
	return r.begin()
}

// within says whether the next entry is of a key group.
func (r *Reader) within(group int) bool {
	return r.left > 0 || r.err == nil && r.next < len(r.blocks) && r.blocks[r.next].group == group
}

// begin goes on with the next block.
func (r *Reader) begin() bool {
	switch {
	case r.err != nil:
		return false
	case r.at != r.end:
		r.err = r.corrupt(r.base+r.at, "key group goes on after its last entry")
		return false
	case r.next == len(r.blocks):
		return false
	case r.next == r.windows.loaded:
		if r.data, r.base, r.err = r.windows.load(); r.err != nil {
			return false
		}
	}
	b := r.blocks[r.next]
	continued := r.next > 0 && r.blocks[r.next-1].group == b.group
	r.next++
	r.at, r.end, r.left = b.offset-r.base, b.offset-r.base+b.length, b.entries-1
	r.entry.Group = b.group
	before, state := r.entry, r.state
	if !r.decode(true) {
		return false
	}
	if continued && !sorted(state, before, r.state, r.entry) {
		return r.fail(b.offset, "entries out of order")
	}
	return true
}

// Entry is the current entry, valid after Next answered true.
func (r *Reader) Entry() Entry { return r.entry }

// Offset is where the current entry ends, in bytes from the beginning of the run.
func (r *Reader) Offset() int64 { return int64(r.base + r.at) }

// Err is what ended the iteration, nil at the end of the run.
func (r *Reader) Err() error { return r.err }

func (r *Reader) fail(offset int, format string, args ...any) bool {
	r.err, r.left = r.corrupt(offset, format, args...), 0
	r.at = r.end
	return false
}

// decode reads the next entry; first says that it begins a block.
func (r *Reader) decode(first bool) bool {
	start := r.at
	s := scanner{data: r.data[:r.end], at: start}
	e := &r.entry
	tag := s.byte()
	if tag&^(tagDelete|tagSame) != 0 || (first && tag&tagSame != 0) {
		return r.fail(r.base+start, "entry tag %#x", tag)
	}
	ordered := first
	if tag&tagSame == 0 {
		state := s.uvarint()
		ns := s.varint()
		if s.bad || state >= uint64(len(r.names)) {
			return r.fail(r.base+start, "entry of state %d, the run has %d", state, len(r.names))
		}
		if !first {
			if int(state) < r.state || int(state) == r.state && ns < e.Namespace {
				return r.fail(r.base+start, "entries out of order")
			}
			ordered = int(state) != r.state || ns != e.Namespace
		}
		r.state, e.State, e.Namespace = int(state), r.names[state], ns
	}
	before := e.Key
	e.Key = s.bytes()
	if e.Delete = tag&tagDelete != 0; e.Delete {
		e.Value = nil
	} else {
		e.Value = s.bytes()
	}
	if s.bad {
		return r.fail(r.base+start, "entry runs over the end of key group %d", e.Group)
	}
	if !ordered && bytes.Compare(before, e.Key) >= 0 {
		return r.fail(r.base+start, "entries out of order")
	}
	r.at = s.at
	return true
}

func sorted(aState int, a Entry, bState int, b Entry) bool {
	switch {
	case aState != bState:
		return aState < bState
	case a.Namespace != b.Namespace:
		return a.Namespace < b.Namespace
	}
	return bytes.Compare(a.Key, b.Key) < 0
}

// scanner decodes; it never runs over its data, and remembers that it would
// have.
type scanner struct {
	data []byte
	at   int
	bad  bool
}

func (s *scanner) byte() byte {
	if s.at >= len(s.data) {
		s.bad = true
		return 0
	}
	b := s.data[s.at]
	s.at++
	return b
}

func (s *scanner) uvarint() uint64 {
	if s.at < len(s.data) && s.data[s.at] < 0x80 {
		v := s.data[s.at]
		s.at++
		return uint64(v)
	}
	v, n := binary.Uvarint(s.data[s.at:])
	if n <= 0 {
		s.bad = true
		return 0
	}
	s.at += n
	return v
}

func (s *scanner) varint() int64 {
	v, n := binary.Varint(s.data[s.at:])
	if n <= 0 {
		s.bad = true
		return 0
	}
	s.at += n
	return v
}

func (s *scanner) fixed32() uint32 {
	if len(s.data)-s.at < 4 {
		s.bad = true
		return 0
	}
	v := binary.LittleEndian.Uint32(s.data[s.at:])
	s.at += 4
	return v
}

// bytes returns a length-prefixed slice of the data.
func (s *scanner) bytes() []byte {
	n := s.uvarint()
	if s.bad || n > uint64(len(s.data)-s.at) {
		s.bad = true
		return nil
	}
	b := s.data[s.at : s.at+int(n) : s.at+int(n)]
	s.at += int(n)
	return b
}
