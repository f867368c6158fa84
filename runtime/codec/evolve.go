package codec

import (
	"unsafe"

	"github.com/millrace/millrace/checkpoint/schema"
)

// IncompatibleError is a change of a type that state cannot follow.
type IncompatibleError = schema.IncompatibleError

// DecoderFor returns a decoder to T for bytes that a type of schema old wrote.
// What it refuses, with an *IncompatibleError, is what schema.Compatible does.
func DecoderFor[T any](old string) (func(src []byte, v *T) (rest []byte, err error), error) {
	c, err := Derive[T]()
	if err != nil {
		return nil, err
	}
	if old == c.Schema() {
		return c.Decode, nil
	}
	if err := schema.Compatible(old, c.Schema()); err != nil {
		return nil, err
	}
	from, err := schema.Parse(old)
	if err != nil {
		return nil, err
	}
	p := link(from, c.(*typed[T]).node)
	return func(src []byte, v *T) ([]byte, error) {
		var zero T
		*v = zero
		var d decoder
		return p.decode(&d, src, unsafe.Pointer(v))
	}, nil
}
