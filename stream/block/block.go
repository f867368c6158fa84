package block

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/millrace/millrace/stream"
)

const (
	// HeaderBytes precede the records: CRC-32C and count.
	HeaderBytes = 8
	// MaxBytes bounds a block: a whole Put to one shard fits.
	MaxBytes = 16 << 20
	// minRecordBytes is a record with empty key and data.
	minRecordBytes = fixedBytes + 1 + hashBytes + 1

	sequenceBytes = 16
	arrivalBytes  = 8
	fixedBytes    = sequenceBytes + arrivalBytes
	hashBytes     = 16
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Block is encoded records, header first. A nil Block holds none.
type Block []byte

// Record is one record of a block; Key and Data point into it.
type Record struct {
	Sequence stream.Sequence
	Arrival  int64
	Key      []byte
	Hash     stream.HashKey
	Data     []byte
}

// Count is the number of records that the header names.
func (b Block) Count() int {
	if len(b) < HeaderBytes {
		return 0
	}
	return int(binary.LittleEndian.Uint32(b[4:]))
}

// Verify compares the checksum. It must be called once on bytes that came from
// a disk or a socket, before anything else.
func (b Block) Verify() error {
	if len(b) == 0 {
		return nil
	}
	if len(b) < HeaderBytes {
		return stream.Errorf(stream.Corrupt, "record block of %d bytes is cut off in its header", len(b))
	}
	if got, want := crc32.Checksum(b[4:], castagnoli), binary.LittleEndian.Uint32(b); got != want {
		return stream.Errorf(stream.Corrupt, "record block of %d bytes has checksum %08x, its header says %08x", len(b), got, want)
	}
	if n := b.Count(); n > (len(b)-HeaderBytes)/minRecordBytes {
		return stream.Errorf(stream.Corrupt, "record block of %d bytes cannot hold the %d records that its header names", len(b), n)
	}
	return nil
}

// Records iterates over the block.
func (b Block) Records() Iterator {
	if len(b) < HeaderBytes {
		return Iterator{}
	}
	return Iterator{rest: b[HeaderBytes:], left: b.Count(), size: len(b)}
}

// First is the first record; false if there is none.
func (b Block) First() (Record, bool) {
	var r Record
	it := b.Records()
	ok := it.Next(&r)
	return r, ok
}

// Assign numbers the records from first on and stamps their arrival. It walks
// the whole block and so also proves that its records are well formed.
func (b Block) Assign(first stream.Sequence, arrival int64) error {
	it := b.Records()
	place := first.Place()
	for it.left > 0 {
		at := b[len(b)-len(it.rest):]
		n := recordSize(it.rest)
		if n < 0 {
			return it.malformed()
		}
		seq := first.WithPlace(place)
		copy(at, seq[:])
		binary.LittleEndian.PutUint64(at[sequenceBytes:], uint64(arrival))
		it.rest = it.rest[n:]
		it.left--
		place++
	}
	if len(it.rest) > 0 {
		return it.malformed()
	}
	b.seal()
	return nil
}

// Check walks the block: its records must be well formed and fill it exactly.
func (b Block) Check() error {
	it := b.Records()
	if err := Skip(&it, it.left); err != nil {
		return err
	}
	if len(it.rest) > 0 {
		return it.malformed()
	}
	return nil
}

func (b Block) seal() {
	binary.LittleEndian.PutUint32(b, crc32.Checksum(b[4:], castagnoli))
}

// Iterator walks the records of a block.
type Iterator struct {
	rest []byte
	left int
	size int
	err  error
}

// Next reads the next record into r; false at the end and on damage, see Err.
func (it *Iterator) Next(r *Record) bool {
	if it.left == 0 {
		return false
	}
	b := it.rest
	if len(b) < minRecordBytes {
		it.err = it.malformed()
		it.left = 0
		return false
	}
	r.Sequence = stream.Sequence(b[:sequenceBytes])
	r.Arrival = int64(binary.LittleEndian.Uint64(b[sequenceBytes:]))
	b = b[fixedBytes:]
	n, w := binary.Uvarint(b)
	if w <= 0 || n > uint64(len(b)-w) || len(b)-w-int(n) < hashBytes {
		it.err = it.malformed()
		it.left = 0
		return false
	}
	r.Key = b[w : w+int(n) : w+int(n)]
	b = b[w+int(n):]
	r.Hash = stream.HashKey(b[:hashBytes])
	b = b[hashBytes:]
	n, w = binary.Uvarint(b)
	if w <= 0 || n > uint64(len(b)-w) {
		it.err = it.malformed()
		it.left = 0
		return false
	}
	r.Data = b[w : w+int(n) : w+int(n)]
	it.rest = b[w+int(n):]
	it.left--
	return true
}

// Left is how many records are still to come.
func (it *Iterator) Left() int { return it.left }

// Err says why Next stopped before the end.
func (it *Iterator) Err() error { return it.err }

func (it *Iterator) malformed() error {
	return stream.Errorf(stream.Corrupt, "record block of %d bytes is malformed at byte %d", it.size, it.size-len(it.rest))
}

// recordSize is the length of the record that b begins with, or -1.
func recordSize(b []byte) int {
	if len(b) < minRecordBytes {
		return -1
	}
	at := fixedBytes
	n, w := binary.Uvarint(b[at:])
	if w <= 0 || n > uint64(len(b)) {
		return -1
	}
	at += w + int(n) + hashBytes
	if at >= len(b) {
		return -1
	}
	n, w = binary.Uvarint(b[at:])
	if w <= 0 || n > uint64(len(b)-at-w) {
		return -1
	}
	return at + w + int(n)
}
