package schema

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json/jsontext"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// ErrCorrupt is in every error about bytes that are not the encoding of a value.
var ErrCorrupt = errors.New("corrupt encoding")

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}

// Pass returns what follows a value, which it checks as a decoder would: of
// protobuf messages that they are wire format, of what MarshalBinary wrote the
// length.
func (n *Node) Pass(src []byte) ([]byte, error) {
	var w walker
	return w.node(n, src)
}

// AppendJSON appends a value as JSON and returns what follows it in src.
//
// Structs are objects, nil is null, times are RFC 3339, and floats that are no
// numbers are the strings NaN, +Inf and -Inf. Bytes are hexadecimal, and so are protobuf
// messages and what MarshalBinary wrote: "0x0a01". A map is an object where its
// keys are strings, numbers or bools, else a list of objects with key and value.
func (n *Node) AppendJSON(dst, src []byte) (out, rest []byte, err error) {
	w := walker{out: dst, print: true}
	rest, err = w.node(n, src)
	return w.out, rest, err
}

// walker goes through the bytes of a value, printing it if asked to.
type walker struct {
	out   []byte
	print bool
}

func (w *walker) put(s string) {
	if w.print {
		w.out = append(w.out, s...)
	}
}

func (w *walker) quote(b []byte) {
	if w.print {
		// The error says that b is not UTF-8, which the output is all the same.
		w.out, _ = jsontext.AppendQuote(w.out, b)
	}
}

func (w *walker) hex(b []byte) {
	if w.print {
		w.out = append(w.out, `"0x`...)
		w.out = hex.AppendEncode(w.out, b)
		w.out = append(w.out, '"')
	}
}

func (w *walker) node(n *Node, src []byte) (rest []byte, err error) {
	switch n.Kind {
	case Struct:
		return w.structure(n, src)
	case String:
		b, rest, err := sized(src)
		if err == nil {
			w.quote(b)
		}
		return rest, err
	case Binary:
		b, rest, err := sized(src)
		if err == nil {
			w.hex(b)
		}
		return rest, err
	case Bytes, Proto:
		size, none, rest, err := counted(src, 1)
		if err != nil || none {
			w.put("null")
			return rest, err
		}
		if n.Kind == Proto && !wireFormat(rest[:size]) {
			return nil, corrupt("%d bytes that are no protobuf message, of %s", size, n.Name)
		}
		w.hex(rest[:size])
		return rest[size:], nil
	case Pointer:
		switch {
		case len(src) == 0:
			return nil, short(1, src)
		case src[0] > 1:
			return nil, corrupt("pointer of %d", src[0])
		case src[0] == 0:
			w.put("null")
			return src[1:], nil
		}
		return w.node(n.Elem, src[1:])
	case Slice:
		count, none, rest, err := counted(src, max(1, n.Elem.Minimum()))
		if err != nil || none {
			w.put("null")
			return rest, err
		}
		return w.list(n.Elem, count, rest)
	case Array:
		return w.list(n.Elem, n.Length, src)
	case Map:
		return w.mapping(n, src)
	}
	return w.scalar(n, src)
}

func (w *walker) structure(n *Node, src []byte) (rest []byte, err error) {
	for i, f := range n.Fields {
		if w.print {
			w.out = append(w.out, "{,"[min(i, 1)])
			w.quote([]byte(f.Name))
			w.out = append(w.out, ':')
		}
		if src, err = w.node(f.Type, src); err != nil {
			return nil, err
		}
	}
	if len(n.Fields) == 0 {
		w.put("{")
	}
	w.put("}")
	return src, nil
}

func (w *walker) list(elem *Node, count int, src []byte) (rest []byte, err error) {
	if !w.print && plain(elem.Kind) {
		size := count * elem.Kind.Width()
		if len(src) < size {
			return nil, short(size, src)
		}
		return src[size:], nil
	}
	if elem.Minimum() == 0 {
		count = 0 // nothing but a number, of values without bytes
	}
	w.put("[")
	for i := range count {
		if i > 0 {
			w.put(",")
		}
		if src, err = w.node(elem, src); err != nil {
			return nil, err
		}
	}
	w.put("]")
	return src, nil
}

// wireFormat says that b is a sequence of protobuf fields.
func wireFormat(b []byte) bool {
	for len(b) > 0 {
		_, _, n := protowire.ConsumeField(b)
		if n < 0 {
			return false
		}
		b = b[n:]
	}
	return true
}

// plain says that any bytes are values of a kind.
func plain(k Kind) bool { return k >= Int8 && k <= Float64 }

func (w *walker) mapping(n *Node, src []byte) ([]byte, error) {
	count, none, src, err := counted(src, max(1, n.Key.Minimum()+n.Elem.Minimum()))
	if err != nil || none {
		w.put("null")
		return src, err
	}
	object := n.Key.Kind >= Bool && n.Key.Kind <= String
	if object {
		w.put("{")
	} else {
		w.put("[")
	}
	for i := range count {
		if i > 0 {
			w.put(",")
		}
		if !object {
			w.put(`{"key":`)
		}
		at := len(w.out)
		if src, err = w.node(n.Key, src); err != nil {
			return nil, err
		}
		switch {
		case !object:
			w.put(`,"value":`)
		case w.print && w.out[at] != '"':
			name := `"` + string(w.out[at:]) + `":`
			w.out = append(w.out[:at], name...)
		default:
			w.put(":")
		}
		if src, err = w.node(n.Elem, src); err != nil {
			return nil, err
		}
		if !object {
			w.put("}")
		}
	}
	if object {
		w.put("}")
	} else {
		w.put("]")
	}
	return src, nil
}

func (w *walker) scalar(n *Node, src []byte) ([]byte, error) {
	size := n.Minimum()
	if len(src) < size {
		return nil, short(size, src)
	}
	b, rest := src[:size], src[size:]
	switch n.Kind {
	case Bool:
		if b[0] > 1 {
			return nil, corrupt("bool of %d", b[0])
		}
		if w.print {
			w.out = strconv.AppendBool(w.out, b[0] == 1)
		}
	case Time:
		sec, nsec := int64(binary.LittleEndian.Uint64(b)), binary.LittleEndian.Uint32(b[8:])
		if nsec >= 1e9 {
			return nil, corrupt("time with %d nanoseconds", nsec)
		}
		if w.print {
			w.out = append(w.out, '"')
			w.out = time.Unix(sec, int64(nsec)).UTC().AppendFormat(w.out, time.RFC3339Nano)
			w.out = append(w.out, '"')
		}
	case Float32, Float64:
		if w.print {
			w.float(n.Kind, b)
		}
	case Uint8, Uint16, Uint32, Uint64:
		if w.print {
			w.out = strconv.AppendUint(w.out, word(n.Kind, b), 10)
		}
	default:
		if w.print {
			w.out = strconv.AppendInt(w.out, int64(word(n.Kind, b)), 10)
		}
	}
	return rest, nil
}

func (w *walker) float(k Kind, b []byte) {
	f, bits := floatOf(k, b)
	switch {
	case f != f:
		w.put(`"NaN"`)
	case math.IsInf(f, 1):
		w.put(`"+Inf"`)
	case math.IsInf(f, -1):
		w.put(`"-Inf"`)
	default:
		w.out = strconv.AppendFloat(w.out, f, 'g', -1, bits)
	}
}

func floatOf(k Kind, b []byte) (f float64, bits int) {
	if k == Float32 {
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(b))), 32
	}
	return math.Float64frombits(binary.LittleEndian.Uint64(b)), 64
}

// word widens a whole number to 64 bits.
func word(k Kind, b []byte) uint64 {
	switch k {
	case Int8:
		return uint64(int8(b[0]))
	case Uint8, Bool:
		return uint64(b[0])
	case Int16:
		return uint64(int16(binary.LittleEndian.Uint16(b)))
	case Uint16:
		return uint64(binary.LittleEndian.Uint16(b))
	case Int32:
		return uint64(int32(binary.LittleEndian.Uint32(b)))
	case Uint32:
		return uint64(binary.LittleEndian.Uint32(b))
	}
	return binary.LittleEndian.Uint64(b)
}

func short(want int, src []byte) error {
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

// ParseScalar is the encoding of a value that is given as text, for schemas that
// are a string, a bool or a whole number.
func (n *Node) ParseScalar(text string) (encoded []byte, ok bool) {
	switch {
	case n.Kind == String:
		return append(binary.AppendUvarint(nil, uint64(len(text))), text...), true
	case n.Kind == Bool:
		v, err := strconv.ParseBool(text)
		if err != nil {
			return nil, false
		}
		return []byte{map[bool]byte{true: 1}[v]}, true
	case n.Kind >= Int8 && n.Kind <= Int64:
		v, err := strconv.ParseInt(text, 10, 8*n.Kind.Width())
		return binary.LittleEndian.AppendUint64(nil, uint64(v))[:n.Kind.Width()], err == nil
	case n.Kind >= Uint8 && n.Kind <= Uint64:
		v, err := strconv.ParseUint(text, 10, 8*n.Kind.Width())
		return binary.LittleEndian.AppendUint64(nil, v)[:n.Kind.Width()], err == nil
	}
	return nil, false
}
