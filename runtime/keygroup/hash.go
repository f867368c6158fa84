package keygroup

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"reflect"
	"time"
	"unsafe"

	"github.com/cespare/xxhash/v2"
)

// HasherOf returns the key hash of a type: xxh64 of the canonical bytes of the
// key (docs/formats/keyhash.md, frozen). The function does not allocate and
// any number of goroutines may use it. Keys are bools, integers, floats,
// strings, and arrays and structs of these; others are refused.
func HasherOf[K comparable]() (func(k *K) uint64, error) {
	t := reflect.TypeFor[K]()
	switch t.Kind() {
	case reflect.Int, reflect.Int64, reflect.Uint, reflect.Uint64:
		return func(k *K) uint64 { return sum8(*(*uint64)(unsafe.Pointer(k))) }, nil
	case reflect.Int32:
		return func(k *K) uint64 { return sum8(uint64(*(*int32)(unsafe.Pointer(k)))) }, nil
	case reflect.Uint32:
		return func(k *K) uint64 { return sum8(uint64(*(*uint32)(unsafe.Pointer(k)))) }, nil
	case reflect.String:
		return func(k *K) uint64 { return xxhash.Sum64String(*(*string)(unsafe.Pointer(k))) }, nil
	}
	parts, err := partsOf(nil, t, 0, t.String())
	if err != nil {
		return nil, err
	}
	return func(k *K) uint64 { return hashParts(parts, unsafe.Pointer(k)) }, nil
}

// UnhashableError is a key type, or a part of one, that has no canonical bytes.
type UnhashableError struct {
	// Path leads from the key type to the part.
	Path string
	// Reason says what the part is and what to do about it.
	Reason string
}

func (e *UnhashableError) Error() string { return fmt.Sprintf("key %s: %s", e.Path, e.Reason) }

// part is a scalar or string of a key at an offset.
type part struct {
	kind reflect.Kind
	off  uintptr
}

// partsOf lists the parts of a key in canonical order.
func partsOf(parts []part, t reflect.Type, off uintptr, path string) ([]part, error) {
	switch k := t.Kind(); k {
	case reflect.Bool, reflect.Float32, reflect.Float64, reflect.String,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return append(parts, part{k, off}), nil
	case reflect.Array:
		var err error
		for i := range t.Len() {
			if parts, err = partsOf(parts, t.Elem(), off+uintptr(i)*t.Elem().Size(), path+"[]"); err != nil {
				return nil, err
			}
		}
		return parts, nil
	case reflect.Struct:
		return fieldsOf(parts, t, off, path)
	default:
		return nil, &UnhashableError{path, t.String() + " cannot be hashed by value; use an integer, a string, or a struct or array of these"}
	}
}

func fieldsOf(parts []part, t reflect.Type, off uintptr, path string) ([]part, error) {
	if t == reflect.TypeFor[time.Time]() {
		return nil, &UnhashableError{path, "time.Time is one instant in many forms, which differ by ==; use its UnixMilli"}
	}
	var err error
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Name == "_" {
			continue // == passes over it, too
		}
		at := path + "." + f.Name
		if f.Tag.Get("millrace") == "-" {
			return nil, &UnhashableError{at, `== tells it apart, but it is not encoded (millrace:"-"); take it out of the key`}
		}
		if parts, err = partsOf(parts, f.Type, off+f.Offset, at); err != nil {
			return nil, err
		}
	}
	return parts, nil
}

// canonical gathers canonical bytes, in place while they are few.
type canonical struct {
	buf     [128]byte
	n       int
	digest  xxhash.Digest
	spilled bool
}

func hashParts(parts []part, k unsafe.Pointer) uint64 {
	var c canonical
	for _, p := range parts {
		at := unsafe.Add(k, p.off)
		switch p.kind {
		case reflect.String:
			c.string(*(*string)(at))
		case reflect.Bool:
			c.room(1)
			c.buf[c.n] = *(*byte)(at)
			c.n++
		default:
			c.word(wordOf(p.kind, at))
		}
	}
	if !c.spilled {
		return xxhash.Sum64(c.buf[:c.n])
	}
	c.spill()
	return c.digest.Sum64()
}

// wordOf reads a number as the 8 bytes that stand for it.
func wordOf(kind reflect.Kind, at unsafe.Pointer) uint64 {
	switch kind {
	case reflect.Int8:
		return uint64(*(*int8)(at))
	case reflect.Int16:
		return uint64(*(*int16)(at))
	case reflect.Int32:
		return uint64(*(*int32)(at))
	case reflect.Uint8:
		return uint64(*(*uint8)(at))
	case reflect.Uint16:
		return uint64(*(*uint16)(at))
	case reflect.Uint32:
		return uint64(*(*uint32)(at))
	case reflect.Float32:
		return floatWord(float64(*(*float32)(at)))
	case reflect.Float64:
		return floatWord(*(*float64)(at))
	default: // 64 bits
		return *(*uint64)(at)
	}
}

func floatWord(f float64) uint64 {
	switch {
	case f != f:
		return canonicalNaN
	case f == 0:
		return 0 // −0, too
	}
	return math.Float64bits(f)
}

const canonicalNaN = 0x7ff8000000000000

func (c *canonical) room(n int) {
	if c.n+n > len(c.buf) {
		c.spill()
	}
}

func (c *canonical) spill() {
	if !c.spilled {
		c.digest.Reset()
		c.spilled = true
	}
	_, _ = c.digest.Write(c.buf[:c.n])
	c.n = 0
}

func (c *canonical) word(w uint64) {
	c.room(8)
	binary.LittleEndian.PutUint64(c.buf[c.n:], w)
	c.n += 8
}

func (c *canonical) string(s string) {
	c.room(binary.MaxVarintLen64)
	c.n += binary.PutUvarint(c.buf[c.n:], uint64(len(s)))
	c.room(len(s))
	if len(s) > len(c.buf) {
		c.spill()
		_, _ = c.digest.WriteString(s)
		return
	}
	c.n += copy(c.buf[c.n:], s)
}

const (
	prime1 = 0x9e3779b185ebca87
	prime2 = 0xc2b2ae3d27d4eb4f
	prime3 = 0x165667b19e3779f9
	prime4 = 0x85ebca77c2b2ae63
	prime5 = 0x27d4eb2f165667c5
)

// sum8 is xxh64 of the 8 little-endian bytes of v, with seed 0.
func sum8(v uint64) uint64 {
	const start uint64 = prime5 + 8
	h := start ^ bits.RotateLeft64(v*prime2, 31)*prime1
	h = bits.RotateLeft64(h, 27)*prime1 + prime4
	h ^= h >> 33
	h *= prime2
	h ^= h >> 29
	h *= prime3
	return h ^ h>>32
}
