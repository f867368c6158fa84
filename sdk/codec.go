package sdk

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"google.golang.org/protobuf/proto"
)

// Codec turns the bytes of one record into a T and back, at the edges of a
// job: in sources and sinks. (Between operators, and in state, a binary codec
// derived from the Go type is used, and nobody has to think of it.)
//
// One codec serves all subtasks at once: its methods must be safe for
// concurrent use. Decode borrows data and must copy what it keeps.
//
// A codec with a method Check() error is asked in plan mode whether it can work
// at all, so that a type it does not know is refused before a record flows.
type Codec[T any] interface {
	Decode(data []byte) (T, error)
	// Append encodes v behind dst and returns the longer slice.
	Append(dst []byte, v T) ([]byte, error)
}

// checker is what codecs, sources and sinks may implement to be refused in
// plan mode.
type checker interface{ Check() error }

func check(v any) error {
	if c, ok := v.(checker); ok {
		return c.Check()
	}
	return nil
}

// CodecOf makes a codec of two functions. Either may be nil, for a codec that
// only reads or only writes; using the other half is an error.
func CodecOf[T any](decode func(data []byte) (T, error), appendTo func(dst []byte, v T) ([]byte, error)) Codec[T] {
	return funcCodec[T]{decode, appendTo}
}

type funcCodec[T any] struct {
	decode   func([]byte) (T, error)
	appendTo func([]byte, T) ([]byte, error)
}

func (c funcCodec[T]) Decode(data []byte) (T, error) {
	if c.decode == nil {
		var none T
		return none, errors.New("this codec only encodes: give CodecOf a decode function")
	}
	return c.decode(data)
}

func (c funcCodec[T]) Append(dst []byte, v T) ([]byte, error) {
	if c.appendTo == nil {
		return dst, errors.New("this codec only decodes: give CodecOf an append function")
	}
	return c.appendTo(dst, v)
}

// Raw is the codec of bytes as they are.
func Raw() Codec[[]byte] { return rawCodec{} }

type rawCodec struct{}

func (rawCodec) Decode(data []byte) ([]byte, error) { return bytes.Clone(data), nil }

func (rawCodec) Append(dst []byte, v []byte) ([]byte, error) { return append(dst, v...), nil }

// Lines is the codec of text: a record is a string. Line ends belong to the
// file, not to the record.
func Lines() Codec[string] { return lineCodec{} }

type lineCodec struct{}

func (lineCodec) Decode(data []byte) (string, error) { return string(data), nil }

func (lineCodec) Append(dst []byte, v string) ([]byte, error) { return append(dst, v...), nil }

// Proto is the codec of protobuf messages in the binary format; T is the
// generated pointer type, as in Proto[*orders.Order]().
func Proto[T proto.Message]() Codec[T] { return protoCodec[T]{} }

type protoCodec[T proto.Message] struct{}

func (protoCodec[T]) Decode(data []byte) (T, error) {
	var zero T
	m, ok := zero.ProtoReflect().New().Interface().(T)
	if !ok {
		return zero, fmt.Errorf("protobuf: %T does not make messages of its own type", zero)
	}
	return m, proto.Unmarshal(data, m)
}

func (protoCodec[T]) Append(dst []byte, v T) ([]byte, error) {
	return proto.MarshalOptions{}.MarshalAppend(dst, v)
}

func (protoCodec[T]) Check() error {
	if t := reflect.TypeFor[T](); t.Kind() != reflect.Pointer {
		return fmt.Errorf("protobuf: %v is no message type: name the generated pointer type, as in Proto[*orders.Order]()", t)
	}
	return nil
}

// Records is the codec of the raw form: data with the partition key and the
// place in the source. Encoding writes the data alone.
func Records() Codec[Record] { return recordCodec{} }

type recordCodec struct{}

func (recordCodec) Decode(data []byte) (Record, error) {
	return Record{Data: bytes.Clone(data)}, nil
}

func (recordCodec) DecodeRecord(r Record) (Record, error) {
	r.Data, r.Key = bytes.Clone(r.Data), strings.Clone(r.Key)
	return r, nil
}

func (recordCodec) Append(dst []byte, r Record) ([]byte, error) { return append(dst, r.Data...), nil }
