package schema

import (
	"encoding/binary"
	"math"

	"github.com/cespare/xxhash/v2"
)

// Hashable says whether the bytes of a value tell the hash that it has as a key
// (docs/formats/keyhash.md): those of types that encode themselves do not.
func (n *Node) Hashable() bool {
	switch n.Kind {
	case Struct:
		for _, f := range n.Fields {
			if !f.Type.Hashable() {
				return false
			}
		}
		return true
	case Array:
		return n.Elem.Hashable()
	}
	return n.Kind >= Bool && n.Kind <= String
}

// Hasher computes the hash of keys from their bytes. It is for one goroutine.
type Hasher struct {
	key *Node
	buf []byte
}

// NewHasher returns a hasher for keys of a schema, which must be Hashable.
func NewHasher(key *Node) *Hasher { return &Hasher{key: key} }

// Hash returns the hash of the key that src begins with.
func (h *Hasher) Hash(src []byte) (uint64, error) {
	if h.key.Kind == String {
		b, _, err := sized(src)
		return xxhash.Sum64(b), err
	}
	h.buf = h.buf[:0]
	if _, err := h.canonical(h.key, src); err != nil {
		return 0, err
	}
	return xxhash.Sum64(h.buf), nil
}

// canonical appends the canonical bytes of the part that src begins with.
func (h *Hasher) canonical(n *Node, src []byte) (rest []byte, err error) {
	switch n.Kind {
	case Struct:
		for _, f := range n.Fields {
			if src, err = h.canonical(f.Type, src); err != nil {
				return nil, err
			}
		}
		return src, nil
	case Array:
		if n.Elem.Minimum() == 0 {
			return src, nil
		}
		for range n.Length {
			if src, err = h.canonical(n.Elem, src); err != nil {
				return nil, err
			}
		}
		return src, nil
	case String:
		b, rest, err := sized(src)
		h.buf = binary.AppendUvarint(h.buf, uint64(len(b)))
		h.buf = append(h.buf, b...)
		return rest, err
	}
	if len(src) < n.Kind.Width() {
		return nil, short(n.Kind.Width(), src)
	}
	switch n.Kind {
	case Bool:
		h.buf = append(h.buf, src[0])
	case Float32, Float64:
		f, _ := floatOf(n.Kind, src)
		h.buf = binary.LittleEndian.AppendUint64(h.buf, floatWord(f))
	default:
		h.buf = binary.LittleEndian.AppendUint64(h.buf, word(n.Kind, src))
	}
	return src[n.Kind.Width():], nil
}

func floatWord(f float64) uint64 {
	const nan = 0x7ff8000000000000
	switch {
	case f != f:
		return nan
	case f == 0:
		return 0 // −0, too
	}
	return math.Float64bits(f)
}

// GroupOf is the key group, of so many, of a hash.
func GroupOf(hash uint64, groups int) int { return int((hash >> 32) * uint64(groups) >> 32) }
