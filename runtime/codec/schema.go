package codec

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// kind is what a value is on the wire.
type kind uint8

const (
	kindBool kind = iota + 1
	kindInt8
	kindInt16
	kindInt32
	kindInt64
	kindUint8
	kindUint16
	kindUint32
	kindUint64
	kindFloat32
	kindFloat64
	kindString
	kindBytes
	kindTime
	kindSlice
	kindArray
	kindMap
	kindPointer
	kindStruct
	kindProto
	kindBinary
)

var kindNames = map[kind]string{
	kindBool: "bool", kindInt8: "int8", kindInt16: "int16", kindInt32: "int32", kindInt64: "int64",
	kindUint8: "uint8", kindUint16: "uint16", kindUint32: "uint32", kindUint64: "uint64",
	kindFloat32: "float32", kindFloat64: "float64", kindString: "string", kindBytes: "bytes", kindTime: "time",
}

// node is a type: one of a schema alone when it was parsed, one with Go's
// layout when it was described from a type.
type node struct {
	kind   kind
	name   string // of a proto message or binary type
	length int    // of an array
	key    *node  // of a map
	elem   *node  // of a slice, array, map or pointer
	fields []field

	typ reflect.Type
}

type field struct {
	name string
	*node
	off uintptr
}

// width is the size of a scalar on the wire, 0 for other kinds.
func (k kind) width() int {
	switch k {
	case kindBool, kindInt8, kindUint8:
		return 1
	case kindInt16, kindUint16:
		return 2
	case kindInt32, kindUint32, kindFloat32:
		return 4
	case kindInt64, kindUint64, kindFloat64:
		return 8
	}
	return 0
}

func (n *node) String() string {
	var b strings.Builder
	n.write(&b)
	return b.String()
}

func (n *node) write(b *strings.Builder) {
	switch n.kind {
	case kindSlice:
		b.WriteString("[]")
		n.elem.write(b)
	case kindArray:
		fmt.Fprintf(b, "[%d]", n.length)
		n.elem.write(b)
	case kindMap:
		b.WriteString("map[")
		n.key.write(b)
		b.WriteByte(']')
		n.elem.write(b)
	case kindPointer:
		b.WriteByte('*')
		n.elem.write(b)
	case kindProto:
		b.WriteString("proto(" + n.name + ")")
	case kindBinary:
		b.WriteString("binary(" + n.name + ")")
	case kindStruct:
		b.WriteByte('{')
		for i, f := range n.fields {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(f.name + " ")
			f.write(b)
		}
		b.WriteByte('}')
	default:
		b.WriteString(kindNames[n.kind])
	}
}

// parser reads the text of a schema.
type parser struct {
	text string
	at   int
}

// maxDepth bounds the nesting of a schema that is read.
const maxDepth = 100

// parseSchema reads what node.String wrote.
func parseSchema(text string) (*node, error) {
	p := &parser{text: text}
	n, err := p.node(0)
	if err == nil && p.at != len(text) {
		err = p.fail("end")
	}
	if err != nil {
		return nil, fmt.Errorf("parse schema %.200q: %w", text, err)
	}
	return n, nil
}

func (p *parser) fail(want string) error {
	return fmt.Errorf("want %s at byte %d", want, p.at)
}

func (p *parser) take(prefix string) bool {
	if strings.HasPrefix(p.text[p.at:], prefix) {
		p.at += len(prefix)
		return true
	}
	return false
}

// until takes what comes before an end byte, and the byte.
func (p *parser) until(end byte) (string, bool) {
	i := strings.IndexByte(p.text[p.at:], end)
	if i < 0 {
		return "", false
	}
	s := p.text[p.at : p.at+i]
	p.at += i + 1
	return s, true
}

func (p *parser) node(depth int) (*node, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("nested deeper than %d", maxDepth)
	}
	var err error
	n := &node{}
	switch {
	case p.take("[]"):
		n.kind = kindSlice
		n.elem, err = p.node(depth + 1)
	case p.take("["):
		s, _ := p.until(']')
		length, bad := strconv.ParseUint(s, 10, 31)
		if bad != nil {
			return nil, p.fail("the length of an array")
		}
		n.kind, n.length = kindArray, int(length)
		n.elem, err = p.node(depth + 1)
	case p.take("map["):
		n.kind = kindMap
		if n.key, err = p.node(depth + 1); err != nil {
			return nil, err
		}
		if !p.take("]") {
			return nil, p.fail("]")
		}
		n.elem, err = p.node(depth + 1)
	case p.take("*"):
		n.kind = kindPointer
		n.elem, err = p.node(depth + 1)
	case p.take("proto("):
		err = p.named(n, kindProto)
	case p.take("binary("):
		err = p.named(n, kindBinary)
	case p.take("{"):
		n.kind = kindStruct
		err = p.structure(n, depth)
	default:
		err = p.scalar(n)
	}
	return n, err
}

func (p *parser) named(n *node, k kind) error {
	name, ok := p.until(')')
	if !ok {
		return p.fail(")")
	}
	n.kind, n.name = k, name
	return nil
}

func (p *parser) scalar(n *node) error {
	end := p.at
	for end < len(p.text) && (p.text[end] >= 'a' && p.text[end] <= 'z' || p.text[end] >= '0' && p.text[end] <= '9') {
		end++
	}
	for k, name := range kindNames {
		if p.text[p.at:end] == name {
			n.kind = k
			p.at = end
			return nil
		}
	}
	return p.fail("a type")
}

func (p *parser) structure(n *node, depth int) error {
	if p.take("}") {
		return nil
	}
	for {
		name, ok := p.until(' ')
		if !ok || !validName(name) {
			return p.fail("the name of a field")
		}
		f, err := p.node(depth + 1)
		if err != nil {
			return err
		}
		n.fields = append(n.fields, field{name: name, node: f})
		if p.take("}") {
			return nil
		}
		if !p.take(",") {
			return p.fail(", or }")
		}
	}
}

// validName says whether a name can stand in a schema: Go's own names can.
func validName(name string) bool {
	return name != "" && !strings.ContainsAny(name, " ,{}[]()*\x00\n")
}
