package codec

import (
	"bytes"
	"encoding"
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"
	"time"
	"unsafe"

	"google.golang.org/protobuf/proto"
)

// MarshalError is what Append panics with when a value's own MarshalBinary, or
// its protobuf encoding, fails: the value belongs to user code, and a codec has
// no way to leave it out.
type MarshalError struct {
	Type string
	Err  error
}

func (e *MarshalError) Error() string { return fmt.Sprintf("encode %s: %v", e.Type, e.Err) }

func (e *MarshalError) Unwrap() error { return e.Err }

func (p *program) append(dst []byte, at unsafe.Pointer) []byte {
	for i := range p.steps {
		s := &p.steps[i]
		q := unsafe.Add(at, s.off)
		switch s.op {
		case opRaw:
			dst = append(dst, bytesAt(q, s.n)...)
		case opString:
			v := *(*string)(q)
			dst = binary.AppendUvarint(dst, uint64(len(v)))
			dst = append(dst, v...)
		case opBytes:
			v := *(*[]byte)(q)
			dst = appendCount(dst, len(v), v == nil)
			dst = append(dst, v...)
		case opTime:
			v := (*time.Time)(q)
			dst = binary.LittleEndian.AppendUint64(dst, uint64(v.Unix()))
			dst = binary.LittleEndian.AppendUint32(dst, uint32(v.Nanosecond()))
		case opSlice:
			v := *(*[]byte)(q) // the header of any slice
			dst = appendCount(dst, len(v), v == nil)
			dst = s.elem.appendRun(dst, unsafe.Pointer(unsafe.SliceData(v)), len(v))
		case opArray:
			dst = s.elem.appendRun(dst, q, int(s.n))
		case opPointer:
			v := *(*unsafe.Pointer)(q)
			if v == nil {
				dst = append(dst, 0)
			} else {
				dst = s.elem.append(append(dst, 1), v)
			}
		case opMap:
			dst = s.appendMap(dst, q)
		default:
			dst = s.appendOwn(dst, q)
		}
	}
	return dst
}

// appendCount writes the length of something that may be nil.
func appendCount(dst []byte, n int, none bool) []byte {
	if none {
		return append(dst, 0)
	}
	return binary.AppendUvarint(dst, uint64(n)+1)
}

// appendRun writes n values that lie one after the other in memory.
func (p *program) appendRun(dst []byte, at unsafe.Pointer, n int) []byte {
	if n == 0 {
		return dst
	}
	if p.raw {
		return append(dst, bytesAt(at, uintptr(n)*p.size)...)
	}
	for i := range uintptr(n) {
		dst = p.append(dst, unsafe.Add(at, i*p.size))
	}
	return dst
}

// appendMap writes entries in the order of their keys' bytes, so that equal
// maps have equal bytes.
func (s *step) appendMap(dst []byte, q unsafe.Pointer) []byte {
	m := reflect.NewAt(s.typ, q).Elem()
	dst = appendCount(dst, m.Len(), m.IsNil())
	if m.Len() == 0 {
		return dst
	}
	type entry struct{ from, val, end int }
	entries := make([]entry, 0, m.Len())
	var buf []byte
	key, val := reflect.New(s.typ.Key()), reflect.New(s.typ.Elem())
	for it := m.MapRange(); it.Next(); {
		key.Elem().SetIterKey(it)
		val.Elem().SetIterValue(it)
		e := entry{from: len(buf)}
		buf = s.key.append(buf, key.UnsafePointer())
		e.val = len(buf)
		buf = s.elem.append(buf, val.UnsafePointer())
		e.end = len(buf)
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b entry) int {
		return bytes.Compare(buf[a.from:a.val], buf[b.from:b.val])
	})
	for _, e := range entries {
		dst = append(dst, buf[e.from:e.end]...)
	}
	return dst
}

// appendOwn writes a value that encodes itself.
func (s *step) appendOwn(dst []byte, q unsafe.Pointer) []byte {
	if s.op == opBinary {
		b, err := reflect.NewAt(s.typ, q).Interface().(encoding.BinaryMarshaler).MarshalBinary()
		if err != nil {
			panic(&MarshalError{s.typ.String(), err})
		}
		dst = binary.AppendUvarint(dst, uint64(len(b)))
		return append(dst, b...)
	}
	m, ok := s.message(q)
	if !ok {
		return append(dst, 0)
	}
	options := proto.MarshalOptions{Deterministic: true}
	dst = binary.AppendUvarint(dst, uint64(options.Size(m))+1)
	options.UseCachedSize = true
	dst, err := options.MarshalAppend(dst, m)
	if err != nil {
		panic(&MarshalError{s.typ.String(), err})
	}
	return dst
}

// message is the message at q, false if it is a nil pointer.
func (s *step) message(q unsafe.Pointer) (proto.Message, bool) {
	v := reflect.NewAt(s.typ, q)
	if s.typ.Kind() == reflect.Pointer {
		v = v.Elem()
		if v.IsNil() {
			return nil, false
		}
	}
	return v.Interface().(proto.Message), true
}
