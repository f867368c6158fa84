package codec

import (
	"encoding"
	"encoding/binary"
	"fmt"
	"math"
	"reflect"
	"time"
	"unsafe"

	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/checkpoint/schema"
)

// ErrCorrupt is in every error of a decoder: the bytes are not those of a
// value of the type.
var ErrCorrupt = schema.ErrCorrupt

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}

// chunkSize bounds what a string that outlives its batch keeps alive.
const chunkSize = 1024

func (d *Decoder) string(b []byte) string {
	if !d.Together || len(b) > chunkSize/4 {
		return string(b)
	}
	if len(b) == 0 {
		return ""
	}
	if cap(d.chunk)-len(d.chunk) < len(b) {
		d.chunk = make([]byte, 0, chunkSize)
	}
	from := len(d.chunk)
	d.chunk = append(d.chunk, b...)
	return unsafe.String(&d.chunk[from], len(b))
}

// decode fills the memory at from src. The memory was zero.
func (p *program) decode(d *Decoder, src []byte, at unsafe.Pointer) ([]byte, error) {
	var err error
	for i := range p.steps {
		s := &p.steps[i]
		q := unsafe.Add(at, s.off)
		switch s.op {
		case opRaw:
			if uintptr(len(src)) < s.n {
				return nil, short(s.n, src)
			}
			for _, b := range s.bools {
				if src[b] > 1 {
					return nil, corrupt("bool of %d", src[b])
				}
			}
			copy(bytesAt(q, s.n), src)
			src = src[s.n:]
		case opString:
			var b []byte
			if b, src, err = sized(src); err != nil {
				return nil, err
			}
			*(*string)(q) = d.string(b)
		case opBytes:
			if src, err = decodeBytes(src, (*[]byte)(q)); err != nil {
				return nil, err
			}
		case opTime:
			if len(src) < timeSize {
				return nil, short(timeSize, src)
			}
			sec, nsec := int64(binary.LittleEndian.Uint64(src)), binary.LittleEndian.Uint32(src[8:])
			if nsec >= 1e9 {
				return nil, corrupt("time with %d nanoseconds", nsec)
			}
			*(*time.Time)(q) = time.Unix(sec, int64(nsec)).UTC()
			src = src[timeSize:]
		case opArray:
			if src, err = s.elem.decodeRun(d, src, q, int(s.n)); err != nil {
				return nil, err
			}
		default:
			if src, err = s.decodeRare(d, src, q); err != nil {
				return nil, err
			}
		}
	}
	return src, nil
}

func (s *step) decodeRare(d *Decoder, src []byte, q unsafe.Pointer) ([]byte, error) {
	switch s.op {
	case opSlice:
		return s.decodeSlice(d, src, q)
	case opMap:
		return s.decodeMap(d, src, q)
	case opPointer:
		if len(src) == 0 {
			return nil, short(1, src)
		}
		if src[0] > 1 {
			return nil, corrupt("pointer of %d", src[0])
		}
		if src[0] == 0 {
			return src[1:], nil
		}
		v := reflect.New(s.elem.typ)
		reflect.NewAt(s.typ, q).Elem().Set(v.Convert(s.typ))
		return s.elem.decode(d, src[1:], v.UnsafePointer())
	case opBinary:
		b, rest, err := sized(src)
		if err != nil {
			return nil, err
		}
		if err := reflect.NewAt(s.typ, q).Interface().(encoding.BinaryUnmarshaler).UnmarshalBinary(b); err != nil {
			return nil, corrupt("%s: %v", s.typ, err)
		}
		return rest, nil
	case opProto:
		return s.decodeProto(src, q)
	case opSkip:
		return s.skip.Pass(src)
	default:
		return s.convert(src, q)
	}
}

func short(want uintptr, src []byte) error {
	return corrupt("%d bytes wanted, %d left", want, len(src))
}

// sized takes a length and that many bytes.
func sized(src []byte) (b, rest []byte, err error) {
	n, w := binary.Uvarint(src)
	if w <= 0 || n > uint64(len(src)-w) {
		return nil, nil, corrupt("length %d, %d bytes left", n, len(src))
	}
	end := w + int(n)
	return src[w:end:end], src[end:], nil
}

// counted takes the number of elements of something that may be nil; each has
// at least min bytes.
func counted(src []byte, min int) (n int, none bool, rest []byte, err error) {
	u, w := binary.Uvarint(src)
	if w <= 0 {
		return 0, false, nil, corrupt("length is missing")
	}
	if u == 0 {
		return 0, true, src[w:], nil
	}
	if u-1 > uint64((len(src)-w)/min) {
		return 0, false, nil, corrupt("%d elements, %d bytes left", u-1, len(src)-w)
	}
	return int(u - 1), false, src[w:], nil
}

func decodeBytes(src []byte, v *[]byte) ([]byte, error) {
	n, none, rest, err := counted(src, 1)
	if err != nil {
		return nil, err
	}
	*v = nil
	if !none {
		*v = append(make([]byte, 0, n), rest[:n]...)
	}
	return rest[n:], nil
}

// decodeRun fills n values that lie one after the other in memory.
func (p *program) decodeRun(d *Decoder, src []byte, at unsafe.Pointer, n int) ([]byte, error) {
	if n == 0 {
		return src, nil
	}
	if p.raw && len(p.boolsAt()) == 0 {
		size := uintptr(n) * p.size
		if uintptr(len(src)) < size {
			return nil, short(size, src)
		}
		copy(bytesAt(at, size), src)
		return src[size:], nil
	}
	var err error
	for i := range uintptr(n) {
		if src, err = p.decode(d, src, unsafe.Add(at, i*p.size)); err != nil {
			return nil, err
		}
	}
	return src, nil
}

func (s *step) decodeSlice(d *Decoder, src []byte, q unsafe.Pointer) ([]byte, error) {
	n, none, src, err := counted(src, s.min)
	if err != nil || none {
		return src, err
	}
	at := s.makeSlice(q, n)
	return s.elem.decodeRun(d, src, at, n)
}

// makeSlice puts a new slice of n zero elements at q and returns its memory.
func (s *step) makeSlice(q unsafe.Pointer, n int) unsafe.Pointer {
	if s.plain && s.stride > 0 {
		// Words have the strictest alignment that Go knows.
		words := make([]uint64, max(1, (uintptr(n)*s.stride+7)/8))
		at := unsafe.Pointer(unsafe.SliceData(words))
		*(*[]byte)(q) = unsafe.Slice((*byte)(at), n) // n counts elements here
		return at
	}
	v := reflect.MakeSlice(s.typ, n, n)
	reflect.NewAt(s.typ, q).Elem().Set(v)
	return v.UnsafePointer()
}

func (s *step) decodeMap(d *Decoder, src []byte, q unsafe.Pointer) ([]byte, error) {
	n, none, src, err := counted(src, s.min)
	if err != nil || none {
		return src, err
	}
	m := reflect.MakeMapWithSize(s.typ, n)
	reflect.NewAt(s.typ, q).Elem().Set(m)
	for range n {
		key, val := reflect.New(s.typ.Key()), reflect.New(s.typ.Elem())
		if src, err = s.key.decode(d, src, key.UnsafePointer()); err != nil {
			return nil, err
		}
		if src, err = s.elem.decode(d, src, val.UnsafePointer()); err != nil {
			return nil, err
		}
		m.SetMapIndex(key.Elem(), val.Elem())
	}
	return src, nil
}

func (s *step) decodeProto(src []byte, q unsafe.Pointer) ([]byte, error) {
	n, none, src, err := counted(src, 1)
	if err != nil || none {
		return src, err
	}
	v := reflect.NewAt(s.typ, q)
	if s.typ.Kind() == reflect.Pointer {
		v.Elem().Set(reflect.New(s.typ.Elem()))
		v = v.Elem()
	}
	if err := proto.Unmarshal(src[:n], v.Interface().(proto.Message)); err != nil {
		return nil, corrupt("%s: %v", s.typ, err)
	}
	return src[n:], nil
}

// convert reads a number and stores it in a wider one.
func (s *step) convert(src []byte, q unsafe.Pointer) ([]byte, error) {
	w := s.from.Width()
	if len(src) < w {
		return nil, short(uintptr(w), src)
	}
	if s.from == schema.Float32 {
		*(*float64)(q) = float64(math.Float32frombits(binary.LittleEndian.Uint32(src)))
		return src[w:], nil
	}
	var v uint64
	switch s.from {
	case schema.Int8:
		v = uint64(int8(src[0]))
	case schema.Uint8:
		v = uint64(src[0])
	case schema.Int16:
		v = uint64(int16(binary.LittleEndian.Uint16(src)))
	case schema.Uint16:
		v = uint64(binary.LittleEndian.Uint16(src))
	case schema.Int32:
		v = uint64(int32(binary.LittleEndian.Uint32(src)))
	case schema.Uint32:
		v = uint64(binary.LittleEndian.Uint32(src))
	}
	switch s.to.Width() {
	case 2:
		*(*uint16)(q) = uint16(v)
	case 4:
		*(*uint32)(q) = uint32(v)
	case 8:
		*(*uint64)(q) = v
	}
	return src[w:], nil
}
