package stream

import (
	"bytes"
	"encoding/binary"
	"math/big"
)

// Sequence is the sequence number of a record: the stream's generation (u32),
// the shard's index (u32) and the place in the shard (u64), big-endian, so
// that byte order is number order within a shard. Generations are unique among
// all streams that a cluster ever had: a number of another shard or of a
// deleted stream of the same name is told apart by looking at it. Place 0 is
// the shard's start and no record; the first record has place 1. The zero
// Sequence is "none".
type Sequence [16]byte

// NewSequence puts a sequence number together.
func NewSequence(generation uint64, shard uint32, place uint64) Sequence {
	var s Sequence
	binary.BigEndian.PutUint32(s[0:], uint32(generation))
	binary.BigEndian.PutUint32(s[4:], shard)
	binary.BigEndian.PutUint64(s[8:], place)
	return s
}

// StartingSequence sorts before all records of a shard.
func StartingSequence(generation uint64, shard uint32) Sequence {
	return NewSequence(generation, shard, 0)
}

// SequenceFromBytes takes the 16 bytes of a message field; none is zero.
func SequenceFromBytes(b []byte) (Sequence, error) {
	var s Sequence
	if len(b) == 0 {
		return s, nil
	}
	if len(b) != len(s) {
		return s, Errorf(InvalidArgument, "sequence number of %d bytes, want %d", len(b), len(s))
	}
	copy(s[:], b)
	return s, nil
}

// Generation is the generation of the stream.
func (s Sequence) Generation() uint64 { return uint64(binary.BigEndian.Uint32(s[0:])) }

// Shard is the index of the shard.
func (s Sequence) Shard() uint32 { return binary.BigEndian.Uint32(s[4:]) }

// Place counts the records of the shard, from 1.
func (s Sequence) Place() uint64 { return binary.BigEndian.Uint64(s[8:]) }

// WithPlace is another number of the same shard.
func (s Sequence) WithPlace(place uint64) Sequence {
	binary.BigEndian.PutUint64(s[8:], place)
	return s
}

// IsZero says that s is none.
func (s Sequence) IsZero() bool { return s == Sequence{} }

// Compare orders the sequence numbers of one shard.
func (s Sequence) Compare(o Sequence) int { return bytes.Compare(s[:], o[:]) }

// Of reports whether s is a number of this shard of this stream, and else an
// InvalidArgument error that says which it is of.
func (s Sequence) Of(generation uint64, shard uint32) error {
	if s.Generation() != generation {
		return Errorf(InvalidArgument, "sequence number %v is of another stream, or of a deleted stream of the same name", s)
	}
	if s.Shard() != shard {
		return Errorf(InvalidArgument, "sequence number %v is of %s, not of %s", s, ShardName(s.Shard()), ShardName(shard))
	}
	return nil
}

// The decimal form is a number of 186 bits, 56 digits long and beginning with
// 49 like those of Kinesis, which clients compare as big integers:
//
//	bit 185      1
//	148 to 179   generation
//	116 to 147   shard index
//	 52 to 115   place
//	  0 to 51    2, the format
const (
	sequencePrefixBit = 185
	sequencePlaceBit  = 52
	sequenceFormat    = 2
	sequenceDigits    = 56
)

// String is the decimal form; none is "0".
func (s Sequence) String() string {
	if s.IsZero() {
		return "0"
	}
	n := new(big.Int).SetBytes(s[:])
	n.Lsh(n, sequencePlaceBit)
	n.Or(n, big.NewInt(sequenceFormat))
	n.SetBit(n, sequencePrefixBit, 1)
	return n.String()
}

// ParseSequence reads the decimal form. Whether the number is of the shard
// that it is used with is for Of to say.
func ParseSequence(text string) (Sequence, error) {
	var s Sequence
	bad := Errorf(InvalidArgument, "%q is not a sequence number", clip(text))
	if len(text) != sequenceDigits || !isDecimal(text) {
		return s, bad
	}
	n, _ := new(big.Int).SetString(text, 10)
	if n.BitLen() != sequencePrefixBit+1 {
		return s, bad
	}
	n.SetBit(n, sequencePrefixBit, 0)
	low := new(big.Int).And(n, big.NewInt(1<<sequencePlaceBit-1))
	if low.Cmp(big.NewInt(sequenceFormat)) != 0 {
		return s, bad
	}
	n.Rsh(n, sequencePlaceBit)
	if n.BitLen() > 128 {
		return s, bad
	}
	n.FillBytes(s[:])
	if s.IsZero() {
		return s, bad
	}
	return s, nil
}
