package codec

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
)

var (
	timeType    = reflect.TypeFor[time.Time]()
	protoType   = reflect.TypeFor[proto.Message]()
	marshaler   = reflect.TypeFor[encoding.BinaryMarshaler]()
	unmarshaler = reflect.TypeFor[encoding.BinaryUnmarshaler]()
)

// describer turns types to nodes.
type describer struct {
	open []reflect.Type // those being described, to find recursion
}

var basicKinds = map[reflect.Kind]kind{
	reflect.Bool: kindBool, reflect.String: kindString,
	reflect.Int: kindInt64, reflect.Int8: kindInt8, reflect.Int16: kindInt16, reflect.Int32: kindInt32, reflect.Int64: kindInt64,
	reflect.Uint: kindUint64, reflect.Uint8: kindUint8, reflect.Uint16: kindUint16, reflect.Uint32: kindUint32, reflect.Uint64: kindUint64,
	reflect.Float32: kindFloat32, reflect.Float64: kindFloat64,
}

func describe(t reflect.Type) (*node, error) {
	path := t.Name()
	if path == "" {
		path = t.String()
	}
	return (&describer{}).node(t, path)
}

func (d *describer) node(t reflect.Type, path string) (*node, error) {
	if n := special(t); n != nil {
		return n, nil
	}
	if k, ok := basicKinds[t.Kind()]; ok {
		return &node{kind: k, typ: t}, nil
	}
	if slices.Contains(d.open, t) {
		return nil, &UnsupportedError{path, fmt.Sprintf("%s contains itself; refer to other values by key, or implement encoding.BinaryMarshaler and BinaryUnmarshaler", t)}
	}
	d.open = append(d.open, t)
	defer func() { d.open = d.open[:len(d.open)-1] }()
	switch t.Kind() {
	case reflect.Slice:
		return d.slice(t, path)
	case reflect.Array:
		elem, err := d.node(t.Elem(), path+"[]")
		return &node{kind: kindArray, typ: t, length: t.Len(), elem: elem}, err
	case reflect.Map:
		return d.mapping(t, path)
	case reflect.Pointer:
		elem, err := d.node(t.Elem(), path)
		return &node{kind: kindPointer, typ: t, elem: elem}, err
	case reflect.Struct:
		return d.structure(t, path)
	case reflect.Interface:
		return nil, &UnsupportedError{path, fmt.Sprintf("%s is an interface, whose value may be of any type; use a concrete type", t)}
	}
	return nil, &UnsupportedError{path, fmt.Sprintf(`%s is not encodable; remove the field, tag it millrace:"-", or keep it out of records and state`, t.Kind())}
}

// special recognises types with an encoding of their own; nil for others.
func special(t reflect.Type) *node {
	if t == timeType {
		return &node{kind: kindTime, typ: t}
	}
	if t.Kind() == reflect.Interface {
		return nil
	}
	if isMessage(t) {
		return &node{kind: kindProto, typ: t, name: messageName(t)}
	}
	if t.Kind() != reflect.Pointer && isBinary(t) && !promotes(t) {
		return &node{kind: kindBinary, typ: t, name: t.PkgPath() + "." + t.Name()}
	}
	return nil
}

// isMessage says whether t is a message struct, or a pointer to one.
func isMessage(t reflect.Type) bool {
	if t.Kind() == reflect.Struct {
		t = reflect.PointerTo(t)
	}
	return t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct && t.Implements(protoType)
}

func isBinary(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(marshaler) && p.Implements(unmarshaler)
}

// promotes says whether a struct has its methods from an embedded field: they
// would encode that field and forget the others.
func promotes(t reflect.Type) bool {
	if t.Kind() != reflect.Struct {
		return false
	}
	for i := range t.NumField() {
		if f := t.Field(i); f.Anonymous && (isBinary(f.Type) || f.Type.Implements(marshaler)) {
			return true
		}
	}
	return false
}

func messageName(t reflect.Type) string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return string(reflect.New(t).Interface().(proto.Message).ProtoReflect().Descriptor().FullName())
}

func (d *describer) slice(t reflect.Type, path string) (*node, error) {
	if t.Elem().Kind() == reflect.Uint8 && special(t.Elem()) == nil {
		return &node{kind: kindBytes, typ: t}, nil
	}
	elem, err := d.node(t.Elem(), path+"[]")
	if err != nil {
		return nil, err
	}
	if elem.minimum() == 0 {
		return nil, &UnsupportedError{path, "a slice of empty values is only a length; use an integer"}
	}
	return &node{kind: kindSlice, typ: t, elem: elem}, nil
}

func (d *describer) mapping(t reflect.Type, path string) (*node, error) {
	key, err := d.node(t.Key(), path+"[key]")
	if err != nil {
		return nil, err
	}
	elem, err := d.node(t.Elem(), path+"[]")
	if err != nil {
		return nil, err
	}
	if key.minimum()+elem.minimum() == 0 {
		return nil, &UnsupportedError{path, "a map of empty values is only a bool; use a bool"}
	}
	return &node{kind: kindMap, typ: t, key: key, elem: elem}, nil
}

func (d *describer) structure(t reflect.Type, path string) (*node, error) {
	n := &node{kind: kindStruct, typ: t}
	for i := range t.NumField() {
		f := t.Field(i)
		at := path + "." + f.Name
		name := f.Tag.Get("millrace")
		if name == "-" || f.Name == "_" {
			continue
		}
		if f.PkgPath != "" {
			return nil, &UnsupportedError{at, fmt.Sprintf(`unexported fields cannot be encoded; export it, tag it millrace:"-" to leave it out, or let %s implement encoding.BinaryMarshaler and BinaryUnmarshaler`, t)}
		}
		if name == "" {
			name = f.Name
		}
		if !validName(name) {
			return nil, &UnsupportedError{at, fmt.Sprintf("tag millrace:%q: a name has no spaces, commas, brackets or asterisks", name)}
		}
		if n.find(name) != nil {
			return nil, &UnsupportedError{at, fmt.Sprintf("two fields are named %q; change the tag of one", name)}
		}
		elem, err := d.node(f.Type, at)
		if err != nil {
			return nil, err
		}
		n.fields = append(n.fields, field{name: name, node: elem, off: f.Offset})
	}
	return n, nil
}

// find returns the field of a name, or nil.
func (n *node) find(name string) *field {
	for i := range n.fields {
		if n.fields[i].name == name {
			return &n.fields[i]
		}
	}
	return nil
}

// minimum is the least number of bytes that a value takes.
func (n *node) minimum() int {
	switch n.kind {
	case kindTime:
		return timeSize
	case kindArray:
		return n.length * n.elem.minimum()
	case kindStruct:
		sum := 0
		for _, f := range n.fields {
			sum += f.minimum()
		}
		return sum
	}
	return max(1, n.kind.width())
}

// fixed is the number of bytes of every value, -1 when they differ.
func (n *node) fixed() int {
	switch n.kind {
	case kindTime:
		return timeSize
	case kindArray:
		if f := n.elem.fixed(); f >= 0 {
			return n.length * f
		}
		return -1
	case kindStruct:
		sum := 0
		for _, f := range n.fields {
			size := f.fixed()
			if size < 0 {
				return -1
			}
			sum += size
		}
		return sum
	}
	if w := n.kind.width(); w > 0 {
		return w
	}
	return -1
}

// mutable says whether a copy of a value shares memory with it that can
// change.
func (n *node) mutable() bool {
	switch n.kind {
	case kindBytes, kindSlice, kindMap, kindPointer, kindProto:
		return true
	case kindBinary:
		return sharesMemory(n.typ)
	case kindArray:
		return n.length > 0 && n.elem.mutable()
	case kindStruct:
		return slices.ContainsFunc(n.fields, func(f field) bool { return f.mutable() })
	}
	return false
}

// sharesMemory says whether copies of a type of any kind may share memory
// other than strings.
func sharesMemory(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Array:
		return sharesMemory(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if sharesMemory(t.Field(i).Type) {
				return true
			}
		}
		return false
	case reflect.String:
		return false
	}
	return hasPointers(t)
}

// hasPointers says whether the memory of a type holds pointers.
func hasPointers(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Array:
		return t.Len() > 0 && hasPointers(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if hasPointers(t.Field(i).Type) {
				return true
			}
		}
		return false
	case reflect.String, reflect.Slice, reflect.Map, reflect.Pointer, reflect.Chan, reflect.Func, reflect.Interface, reflect.UnsafePointer:
		return true
	}
	return false
}
