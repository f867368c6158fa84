package stream

import (
	"bytes"
	"crypto/md5"
	"encoding/binary"
	"fmt"
	"math/big"
	"math/bits"
)

// HashKey is a point of the hash space, 0 to 2^128-1, big-endian.
type HashKey [16]byte

// MaxHashKey is the last point of the hash space.
var MaxHashKey = HashKey{
	0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
	0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
}

// HashOf is the hash key of a partition key: MD5 of its UTF-8 bytes.
func HashOf(partitionKey string) HashKey {
	return md5.Sum([]byte(partitionKey))
}

// ParseHashKey reads a hash key as Kinesis prints it: decimal digits without
// sign or leading zeros.
func ParseHashKey(s string) (HashKey, error) {
	var h HashKey
	if !isDecimal(s) || len(s) > 39 {
		return h, Errorf(InvalidArgument, "hash key %q is not a decimal number from 0 to 2^128-1", clip(s))
	}
	n, _ := new(big.Int).SetString(s, 10)
	if n.BitLen() > 128 {
		return h, Errorf(InvalidArgument, "hash key %q is beyond 2^128-1", clip(s))
	}
	n.FillBytes(h[:])
	return h, nil
}

// HashKeyFromBytes takes the 16 big-endian bytes of a message field.
func HashKeyFromBytes(b []byte) (HashKey, error) {
	var h HashKey
	if len(b) != len(h) {
		return h, Errorf(InvalidArgument, "hash key of %d bytes, want %d", len(b), len(h))
	}
	copy(h[:], b)
	return h, nil
}

// String is the decimal number.
func (h HashKey) String() string { return new(big.Int).SetBytes(h[:]).String() }

// Compare orders hash keys as numbers.
func (h HashKey) Compare(o HashKey) int { return bytes.Compare(h[:], o[:]) }

// Previous is the hash key before h, which must not be the first of all.
func (h HashKey) Previous() HashKey {
	for i := len(h) - 1; i >= 0; i-- {
		h[i]--
		if h[i] != 0xff {
			break
		}
	}
	return h
}

// HashRange is a part of the hash space, both ends inclusive.
type HashRange struct {
	First, Last HashKey
}

// Contains says whether h lies in the range.
func (r HashRange) Contains(h HashKey) bool {
	return r.First.Compare(h) <= 0 && h.Compare(r.Last) <= 0
}

// String is "first-last" in decimal.
func (r HashRange) String() string { return fmt.Sprintf("%v-%v", r.First, r.Last) }

// EvenRanges divides the hash space among n shards as Kinesis does: range i
// starts at floor(2^128/n)*i and the last one takes the remainder.
func EvenRanges(n int) []HashRange {
	if n < 1 {
		return nil
	}
	ranges := make([]HashRange, n)
	size := new(big.Int).Div(new(big.Int).Lsh(big.NewInt(1), 128), big.NewInt(int64(n)))
	start := new(big.Int)
	one := big.NewInt(1)
	for i := range ranges {
		start.FillBytes(ranges[i].First[:])
		start.Add(start, size)
		if i == n-1 {
			ranges[i].Last = MaxHashKey
			break
		}
		new(big.Int).Sub(start, one).FillBytes(ranges[i].Last[:])
	}
	return ranges
}

// Router finds the shard of a hash key. The ranges must be sorted and cover
// the space without gaps, as those of the open shards of a stream do.
type Router struct {
	// lastHigh and lastLow are the two halves of the ranges' last keys.
	lastHigh, lastLow []uint64
	shards            []uint32
}

// NewRouter builds a router over open ranges, each with the index of its
// shard. It refuses ranges that do not partition the space.
func NewRouter(ranges []HashRange, shards []uint32) (*Router, error) {
	if len(ranges) == 0 || len(ranges) != len(shards) {
		return nil, Errorf(Internal, "routing over %d ranges and %d shards", len(ranges), len(shards))
	}
	r := &Router{shards: shards}
	var nextHigh, nextLow uint64
	for i, g := range ranges {
		fh, fl := g.First.halves()
		if fh != nextHigh || fl != nextLow || g.Last.Compare(g.First) < 0 {
			return nil, Errorf(Internal, "hash ranges leave a gap or overlap at shard %d (%v)", shards[i], g)
		}
		lh, ll := g.Last.halves()
		r.lastHigh, r.lastLow = append(r.lastHigh, lh), append(r.lastLow, ll)
		var carry uint64
		nextLow, carry = bits.Add64(ll, 1, 0)
		nextHigh, _ = bits.Add64(lh, 0, carry)
	}
	if nextHigh != 0 || nextLow != 0 {
		return nil, Errorf(Internal, "hash ranges end at %v, not at the end of the space", ranges[len(ranges)-1].Last)
	}
	return r, nil
}

// Shard returns the place of the shard among the ranges given to NewRouter,
// and its index.
func (r *Router) Shard(h HashKey) (place int, index uint32) {
	high, low := h.halves()
	lo, hi := 0, len(r.shards)-1
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if high < r.lastHigh[mid] || high == r.lastHigh[mid] && low <= r.lastLow[mid] {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo, r.shards[lo]
}

func (h HashKey) halves() (high, low uint64) {
	return binary.BigEndian.Uint64(h[:8]), binary.BigEndian.Uint64(h[8:])
}

// isDecimal accepts digits as Kinesis prints numbers: no sign, no leading
// zero save "0" itself.
func isDecimal(s string) bool {
	if s == "" || len(s) > 1 && s[0] == '0' {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// clip keeps foreign text in an error message short.
func clip(s string) string {
	if len(s) > 64 {
		return s[:64] + "..."
	}
	return s
}
