package codec

import (
	"fmt"
	"reflect"
)

// Codec encodes values of one type.
type Codec[T any] interface {
	// Append appends the encoding of one value.
	Append(dst []byte, v *T) []byte
	// Decode reads one value and returns what follows it. v becomes that
	// value, fields that are not encoded zero; it owns what it holds.
	Decode(src []byte, v *T) (rest []byte, err error)
	// AppendAll appends one value after the other, without a count.
	AppendAll(dst []byte, vs []T) []byte
	// DecodeAll fills vs. Strings of one call may share one allocation.
	DecodeAll(src []byte, vs []T) (rest []byte, err error)
	// Schema is the canonical text of the type (docs/formats/codec.md).
	Schema() string
	// Fixed is the number of bytes of every value, 0 when they differ.
	Fixed() int
	// Mutable says that a value holds slices, maps or pointers, so that a
	// copy of it shares memory with the original. Strings do not count.
	Mutable() bool
	// Clone copies a value with all that it holds.
	Clone(v *T) T
	// Texts appends the strings that v holds in fields of its own, not by
	// slices, maps or pointers, in an order that is the type's.
	Texts(dst []string, v *T) []string
	// Detach gives those strings memory of their own, one allocation for all,
	// but for those equal to the one in had, which it takes instead. had is
	// empty or what Texts gave for the value that v replaces. Strings of
	// records are often pieces of a batch's memory, and one of them that is
	// kept would keep all of it.
	Detach(v *T, had []string)
}

// Derive returns the codec of T, made at the first call: equal to any other of T. The error of a type
// that has none is an *UnsupportedError.
func Derive[T any]() (Codec[T], error) {
	c, err := For(reflect.TypeFor[T]())
	if err != nil {
		return nil, err
	}
	return typed[T]{c}, nil
}

// UnsupportedError is a type that cannot be encoded.
type UnsupportedError struct {
	// Path leads from the type to the part: Order.Lines[].Notify.
	Path string
	// Reason says what the part is and what to do about it.
	Reason string
}

func (e *UnsupportedError) Error() string { return fmt.Sprintf("%s: %s", e.Path, e.Reason) }
