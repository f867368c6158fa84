package snapshot

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Reader gives the entries of a run for a range of key groups, in order.
type Reader struct {
	object      string
	data        []byte
	first, last int // key groups that the run speaks for
	from, to    int // those that are read
	full        bool
	names       []string
	drops       []Drop
	blocks      []block // those in range

	// Iteration.
	next  int // block to begin next
	at    int
	left  int // entries left in the block
	end   int
	state int
	entry Entry
	err   error
}

// Open checks a run and returns a reader for the key groups first to last,
// inclusive. name is the object that errors name. The reader keeps data.
func Open(name string, data []byte, first, last int) (*Reader, error) {
	r := &Reader{object: name, data: data, from: first, to: last}
	if err := r.open(); err != nil {
		return nil, err
	}
	return r, nil
}

// Names lists the run's states in order.
func (r *Reader) Names() []string { return r.names }

// Drops lists what the run hides in older ones.
func (r *Reader) Drops() []Drop { return r.drops }

// IsFull says that the run hides every older one for its key groups.
func (r *Reader) IsFull() bool { return r.full }

// Groups are the key groups that the run speaks for, inclusive.
func (r *Reader) Groups() (first, last int) { return r.first, r.last }

// speaksFor says whether what the run hides in older ones reaches a key group:
// one of the run's, and of those that this reader was opened for. A chain may
// read a run in parts, each with the older runs of its own key groups.
func (r *Reader) speaksFor(group int) bool {
	return group >= max(r.first, r.from) && group <= min(r.last, r.to)
}

func (r *Reader) corrupt(offset int, format string, args ...any) error {
	return &CorruptError{Object: r.object, Offset: int64(offset), Reason: fmt.Sprintf(format, args...)}
}

func (r *Reader) truncated(format string, args ...any) error {
	return &CorruptError{
		Object: r.object, Offset: int64(len(r.data)), Truncated: true,
		Reason: "truncated: " + fmt.Sprintf(format, args...),
	}
}

func (r *Reader) open() error {
	le, data := binary.LittleEndian, r.data
	if len(data) < fixedHead {
		return r.truncated("%d bytes, a run has at least %d", len(data), fixedHead)
	}
	if string(data[:4]) != magic {
		return r.corrupt(0, "magic %q, want %q", data[:4], magic)
	}
	if v := le.Uint16(data[4:]); v != version {
		return r.corrupt(4, "version %d, this build reads version %d", v, version)
	}
	if n := le.Uint64(data[8:]); n > uint64(len(data)) {
		return r.truncated("%d bytes, its head says %d", len(data), n)
	} else if n < uint64(len(data)) {
		return r.corrupt(8, "length %d, but the run has %d bytes", n, len(data))
	}
	head := uint64(le.Uint32(data[20:]))
	if head < fixedHead || head > uint64(len(data)) {
		return r.corrupt(20, "head of %d bytes in a run of %d", head, len(data))
	}
	if got, want := headCRC(data[:head]), le.Uint32(data[crcOffset:]); got != want {
		return r.corrupt(crcOffset, "head has CRC %08x, want %08x", got, want)
	}
	groups := int(le.Uint32(data[24:]))
	r.first, r.last = int(le.Uint32(data[28:])), int(le.Uint32(data[32:]))
	if groups < 1 || groups > maxGroups || r.first > r.last || r.last >= groups {
		return r.corrupt(24, "key groups %d to %d of %d", r.first, r.last, groups)
	}
	flags := le.Uint32(data[56:])
	if le.Uint16(data[6:]) != 0 || flags&^flagFull != 0 {
		return r.corrupt(56, "unknown flags %#x", flags)
	}
	r.full = flags&flagFull != 0
	return r.openLists(int(head))
}

// openLists reads names, drops and index, whose bytes are known to be those
// that were written; the checks guard against a faulty writer.
func (r *Reader) openLists(head int) error {
	le := binary.LittleEndian
	s := scanner{data: r.data[:head], at: fixedHead}
	names, drops, blocks := le.Uint32(r.data[36:]), le.Uint32(r.data[40:]), le.Uint32(r.data[44:])
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
	return r.openIndex(&s, int(blocks), head)
}

func (r *Reader) openIndex(s *scanner, blocks, head int) error {
	offset, prev, entries := head, r.first-1, uint64(0)
	for i := range blocks {
		group, count, length := s.uvarint(), s.uvarint(), s.uvarint()
		crc := s.fixed32()
		// An entry takes two bytes at least, its tag and its key's length.
		if s.bad || group > uint64(r.last) || int(group) <= prev ||
			length > uint64(len(r.data)-offset) || count == 0 || count > length/2 {
			return r.corrupt(s.at, "index line %d of %d", i, blocks)
		}
		b := block{group: int(group), entries: int(count), offset: offset, length: int(length), crc: crc}
		if b.group >= r.from && b.group <= r.to {
			if got := crc32.Checksum(r.data[offset:offset+b.length], castagnoli); got != crc {
				return r.corrupt(offset, "key group %d has CRC %08x, want %08x", b.group, got, crc)
			}
			r.blocks = append(r.blocks, b)
		}
		prev, offset, entries = b.group, offset+b.length, entries+count
	}
	if s.at != head {
		return r.corrupt(s.at, "head goes on after its lists")
	}
	if offset != len(r.data) {
		return r.corrupt(offset, "blocks end %d bytes before the run", len(r.data)-offset)
	}
	if want := binary.LittleEndian.Uint64(r.data[48:]); entries != want {
		return r.corrupt(48, "%d entries in the index, %d in the head", entries, want)
	}
	return nil
}

// Next moves to the next entry; false at the end or on an error (Err).
func (r *Reader) Next() bool {
	if r.err != nil {
		return false
	}
	first := false
	for r.left == 0 {
		if r.at != r.end {
			r.err = r.corrupt(r.at, "key group goes on after its last entry")
			return false
		}
		if r.next == len(r.blocks) {
			return false
		}
		b := r.blocks[r.next]
		r.next++
		r.at, r.end, r.left = b.offset, b.offset+b.length, b.entries
		r.entry.Group = b.group
		first = true
	}
	r.left--
	r.err = r.decode(first)
	return r.err == nil
}

// Entry is the current entry, valid after Next answered true.
func (r *Reader) Entry() Entry { return r.entry }

// Err is what ended the iteration, nil at the end of the run.
func (r *Reader) Err() error { return r.err }

func (r *Reader) decode(first bool) error {
	start := r.at
	s := scanner{data: r.data[:r.end], at: r.at}
	e, prev := &r.entry, r.entry
	prevState := r.state
	tag := s.byte()
	if tag&^(tagDelete|tagSame) != 0 || (first && tag&tagSame != 0) {
		return r.corrupt(start, "entry tag %#x", tag)
	}
	if tag&tagSame == 0 {
		state := s.uvarint()
		e.Namespace = s.varint()
		if s.bad || state >= uint64(len(r.names)) {
			return r.corrupt(start, "entry of state %d, the run has %d", state, len(r.names))
		}
		r.state = int(state)
		e.State = r.names[state]
	}
	e.Key = s.bytes()
	e.Delete = tag&tagDelete != 0
	e.Value = nil
	if !e.Delete {
		e.Value = s.bytes()
	}
	if s.bad {
		return r.corrupt(start, "entry runs over the end of key group %d", e.Group)
	}
	if !first && !sorted(prevState, prev, r.state, *e) {
		return r.corrupt(start, "entries out of order")
	}
	r.at = s.at
	return nil
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
