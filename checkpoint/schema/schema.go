package schema

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Kind is what a value is on the wire.
type Kind uint8

// Kinds of values.
const (
	Bool Kind = iota + 1
	Int8
	Int16
	Int32
	Int64
	Uint8
	Uint16
	Uint32
	Uint64
	Float32
	Float64
	String
	Bytes
	Time
	Slice
	Array
	Map
	Pointer
	Struct
	Proto
	Binary
)

var kindNames = map[Kind]string{
	Bool: "bool", Int8: "int8", Int16: "int16", Int32: "int32", Int64: "int64",
	Uint8: "uint8", Uint16: "uint16", Uint32: "uint32", Uint64: "uint64",
	Float32: "float32", Float64: "float64", String: "string", Bytes: "bytes", Time: "time",
}

// TimeSize is the number of bytes of a time: seconds and nanoseconds.
const TimeSize = 12

// Width is the size of a scalar on the wire, 0 for other kinds.
func (k Kind) Width() int {
	switch k {
	case Bool, Int8, Uint8:
		return 1
	case Int16, Uint16:
		return 2
	case Int32, Uint32, Float32:
		return 4
	case Int64, Uint64, Float64:
		return 8
	}
	return 0
}

// Node is a type: a schema, or a part of one. It is not changed once made.
type Node struct {
	Kind   Kind
	Name   string // of a proto message or binary type
	Length int    // of an array
	Key    *Node  // of a map
	Elem   *Node  // of a slice, array, map or pointer
	Fields []Field
}

// Field is one of a struct.
type Field struct {
	Name string
	// Was are names that the field had in earlier versions, the latest first.
	Was  []string
	Type *Node
}

// String is the text of the schema.
func (n *Node) String() string {
	var b strings.Builder
	n.write(&b)
	return b.String()
}

func (n *Node) write(b *strings.Builder) {
	switch n.Kind {
	case Slice:
		b.WriteString("[]")
		n.Elem.write(b)
	case Array:
		fmt.Fprintf(b, "[%d]", n.Length)
		n.Elem.write(b)
	case Map:
		b.WriteString("map[")
		n.Key.write(b)
		b.WriteByte(']')
		n.Elem.write(b)
	case Pointer:
		b.WriteByte('*')
		n.Elem.write(b)
	case Proto:
		b.WriteString("proto(" + n.Name + ")")
	case Binary:
		b.WriteString("binary(" + n.Name + ")")
	case Struct:
		b.WriteByte('{')
		for i, f := range n.Fields {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(f.Name)
			if len(f.Was) > 0 {
				b.WriteString("(" + strings.Join(f.Was, ",") + ")")
			}
			b.WriteByte(' ')
			f.Type.write(b)
		}
		b.WriteByte('}')
	default:
		b.WriteString(kindNames[n.Kind])
	}
}

// Field is the place of the field of a name, -1 for none.
func (n *Node) Field(name string) int {
	return slices.IndexFunc(n.Fields, func(f Field) bool { return f.Name == name })
}

// Minimum is the least number of bytes that a value takes.
func (n *Node) Minimum() int {
	switch n.Kind {
	case Time:
		return TimeSize
	case Array:
		return min(maxMinimum, n.Length*n.Elem.Minimum())
	case Struct:
		sum := 0
		for _, f := range n.Fields {
			sum = min(maxMinimum, sum+f.Type.Minimum())
		}
		return sum
	}
	return max(1, n.Kind.Width())
}

// maxMinimum keeps the sums of Minimum from running over; no value has as many
// bytes.
const maxMinimum = 1 << 31

// Fixed is the number of bytes of every value, -1 when they differ.
func (n *Node) Fixed() int {
	switch n.Kind {
	case Time:
		return TimeSize
	case Array:
		if f := n.Elem.Fixed(); f >= 0 {
			return n.Length * f
		}
		return -1
	case Struct:
		sum := 0
		for _, f := range n.Fields {
			size := f.Type.Fixed()
			if size < 0 {
				return -1
			}
			sum += size
		}
		return sum
	}
	if w := n.Kind.Width(); w > 0 {
		return w
	}
	return -1
}

// Opaque adds the types in n to those in names, each once, of which only the
// job's binary can tell what their bytes mean.
func (n *Node) Opaque(names []string) []string {
	switch n.Kind {
	case Proto, Binary:
		if s := n.String(); !slices.Contains(names, s) {
			names = append(names, s)
		}
	case Slice, Array, Pointer:
		names = n.Elem.Opaque(names)
	case Map:
		names = n.Elem.Opaque(n.Key.Opaque(names))
	case Struct:
		for _, f := range n.Fields {
			names = f.Type.Opaque(names)
		}
	}
	return names
}

// parser reads the text of a schema.
type parser struct {
	text string
	at   int
}

// maxDepth bounds the nesting of a schema that is read.
const maxDepth = 100

// Parse reads what Node.String wrote.
func Parse(text string) (*Node, error) {
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

func (p *parser) node(depth int) (*Node, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("nested deeper than %d", maxDepth)
	}
	var err error
	n := &Node{}
	switch {
	case p.take("[]"):
		n.Kind = Slice
		n.Elem, err = p.node(depth + 1)
	case p.take("["):
		s, _ := p.until(']')
		length, bad := strconv.ParseUint(s, 10, 31)
		if bad != nil {
			return nil, p.fail("the length of an array")
		}
		n.Kind, n.Length = Array, int(length)
		n.Elem, err = p.node(depth + 1)
	case p.take("map["):
		n.Kind = Map
		if n.Key, err = p.node(depth + 1); err != nil {
			return nil, err
		}
		if !p.take("]") {
			return nil, p.fail("]")
		}
		n.Elem, err = p.node(depth + 1)
	case p.take("*"):
		n.Kind = Pointer
		n.Elem, err = p.node(depth + 1)
	case p.take("proto("):
		err = p.named(n, Proto)
	case p.take("binary("):
		err = p.named(n, Binary)
	case p.take("{"):
		n.Kind = Struct
		err = p.structure(n, depth)
	default:
		err = p.scalar(n)
	}
	return n, err
}

func (p *parser) named(n *Node, k Kind) error {
	name, ok := p.until(')')
	if !ok {
		return p.fail(")")
	}
	n.Kind, n.Name = k, name
	return nil
}

func (p *parser) scalar(n *Node) error {
	end := p.at
	for end < len(p.text) && (p.text[end] >= 'a' && p.text[end] <= 'z' || p.text[end] >= '0' && p.text[end] <= '9') {
		end++
	}
	for k, name := range kindNames {
		if p.text[p.at:end] == name {
			n.Kind = k
			p.at = end
			return nil
		}
	}
	return p.fail("a type")
}

func (p *parser) structure(n *Node, depth int) error {
	if p.take("}") {
		return nil
	}
	for {
		f, err := p.field()
		if err != nil {
			return err
		}
		if f.Type, err = p.node(depth + 1); err != nil {
			return err
		}
		n.Fields = append(n.Fields, f)
		if p.take("}") {
			return nil
		}
		if !p.take(",") {
			return p.fail(", or }")
		}
	}
}

// field reads name and former names.
func (p *parser) field() (Field, error) {
	text, ok := p.until(' ')
	if !ok {
		return Field{}, p.fail("the name of a field")
	}
	name, was, renamed := strings.Cut(text, "(")
	f := Field{Name: name}
	if renamed {
		was, ok = strings.CutSuffix(was, ")")
		f.Was = strings.Split(was, ",")
	}
	if !ok || !ValidName(name) || slices.ContainsFunc(f.Was, func(s string) bool { return !ValidName(s) }) {
		return Field{}, p.fail("the name of a field")
	}
	return f, nil
}

// ValidName says whether a name can stand in a schema: Go's own names can.
func ValidName(name string) bool {
	return name != "" && !strings.ContainsAny(name, " ,{}[]()*\x00\n")
}
