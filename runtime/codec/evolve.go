package codec

import (
	"reflect"
	"unsafe"

	"github.com/millrace/millrace/checkpoint/schema"
)

// IncompatibleError is a change of a type that state cannot follow.
type IncompatibleError = schema.IncompatibleError

// DecoderFor returns a decoder to T for bytes that a type of schema old wrote.
// What it refuses, with an *IncompatibleError, is what schema.Compatible does.
func DecoderFor[T any](old string) (func(src []byte, v *T) (rest []byte, err error), error) {
	c, err := For(reflect.TypeFor[T]())
	if err != nil {
		return nil, err
	}
	decode, err := c.From(old)
	if err != nil {
		return nil, err
	}
	return func(src []byte, v *T) ([]byte, error) {
		var zero T
		*v = zero
		var d Decoder
		return decode(&d, src, unsafe.Pointer(v))
	}, nil
}
