package codec

import (
	"reflect"
	"sync"
	"unsafe"

	"github.com/millrace/millrace/checkpoint/schema"
)

// Untyped is the Codec of a type that only its caller knows: its methods take
// the addresses of values. Code that is the same for all types needs no copy for
// each of them with it.
type Untyped struct {
	*program
	schema string
}

var untyped sync.Map // reflect.Type → *Untyped

// For returns the codec of a type, made at the first call. The error of a type
// that has none is an *UnsupportedError.
func For(t reflect.Type) (*Untyped, error) {
	if c, ok := untyped.Load(t); ok {
		return c.(*Untyped), nil
	}
	p, err := compile(t)
	if err != nil {
		return nil, err
	}
	c, _ := untyped.LoadOrStore(t, &Untyped{program: p, schema: p.node.String()})
	return c.(*Untyped), nil
}

// Decoder is what the decodings of several values share.
type Decoder struct {
	// Together says that values are decoded that go together: short strings of
	// several of them share memory.
	Together bool

	chunk []byte
}

// Append appends the encoding of the value at an address.
func (c *Untyped) Append(dst []byte, at unsafe.Pointer) []byte { return c.append(dst, at) }

// Decode reads one value to where there is a zero one, and returns what follows it.
func (c *Untyped) Decode(d *Decoder, src []byte, at unsafe.Pointer) (rest []byte, err error) {
	return c.decode(d, src, at)
}

// From is Decode for bytes that a type of schema old wrote. What it refuses, with
// an *IncompatibleError, is what schema.Compatible does.
func (c *Untyped) From(old string) (func(d *Decoder, src []byte, at unsafe.Pointer) (rest []byte, err error), error) {
	if old == c.schema {
		return c.decode, nil
	}
	if err := schema.Compatible(old, c.schema); err != nil {
		return nil, err
	}
	from, err := schema.Parse(old)
	if err != nil {
		return nil, err
	}
	return link(from, c.node).decode, nil
}

// Schema is that of Codec.
func (c *Untyped) Schema() string { return c.schema }

// Fixed is that of Codec.
func (c *Untyped) Fixed() int { return max(0, c.fixed) }

// Mutable is that of Codec.
func (c *Untyped) Mutable() bool { return c.mutable }

// Own makes what the value at an address holds its own, by copies.
func (c *Untyped) Own(at unsafe.Pointer) {
	if c.mutable {
		c.own(at)
	}
}

// Texts is where a value holds strings in fields of its own, not by slices, maps
// or pointers: offsets, for reading.
func (c *Untyped) Texts() []uintptr { return c.texts }
