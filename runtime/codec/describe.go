package codec

import (
	"cmp"
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/checkpoint/schema"
)

// node is a type: its schema and, part by part, how Go lays it out.
type node struct {
	*schema.Node
	typ    reflect.Type
	key    *node // of a map
	elem   *node // of a slice, array, map or pointer
	fields []field
}

// field is one of a struct, in the order of its schema's.
type field struct {
	*node
	off uintptr
}

// scalar is a node without parts.
func scalar(k schema.Kind, t reflect.Type) *node { return &node{Node: &schema.Node{Kind: k}, typ: t} }

// named is a node that only the types of its name read.
func named(k schema.Kind, name string, t reflect.Type) *node {
	return &node{Node: &schema.Node{Kind: k, Name: name}, typ: t}
}

// container is a node of elements.
func container(k schema.Kind, t reflect.Type, elem *node) *node {
	return &node{Node: &schema.Node{Kind: k, Elem: elem.Node}, typ: t, elem: elem}
}

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

var basicKinds = map[reflect.Kind]schema.Kind{
	reflect.Bool: schema.Bool, reflect.String: schema.String,
	reflect.Int: schema.Int64, reflect.Int8: schema.Int8, reflect.Int16: schema.Int16, reflect.Int32: schema.Int32, reflect.Int64: schema.Int64,
	reflect.Uint: schema.Uint64, reflect.Uint8: schema.Uint8, reflect.Uint16: schema.Uint16, reflect.Uint32: schema.Uint32, reflect.Uint64: schema.Uint64,
	reflect.Float32: schema.Float32, reflect.Float64: schema.Float64,
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
		return scalar(k, t), nil
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
		if err != nil {
			return nil, err
		}
		n := container(schema.Array, t, elem)
		n.Length = t.Len()
		return n, nil
	case reflect.Map:
		return d.mapping(t, path)
	case reflect.Pointer:
		elem, err := d.node(t.Elem(), path)
		if err != nil {
			return nil, err
		}
		return container(schema.Pointer, t, elem), nil
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
		return scalar(schema.Time, t)
	}
	if t.Kind() == reflect.Interface {
		return nil
	}
	if isMessage(t) {
		return named(schema.Proto, messageName(t), t)
	}
	if t.Kind() != reflect.Pointer && isBinary(t) && !promotes(t) {
		return named(schema.Binary, t.PkgPath()+"."+t.Name(), t)
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
		return scalar(schema.Bytes, t), nil
	}
	elem, err := d.node(t.Elem(), path+"[]")
	if err != nil {
		return nil, err
	}
	if elem.Minimum() == 0 {
		return nil, &UnsupportedError{path, "a slice of empty values is only a length; use an integer"}
	}
	return container(schema.Slice, t, elem), nil
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
	if key.Minimum()+elem.Minimum() == 0 {
		return nil, &UnsupportedError{path, "a map of empty values is only a bool; use a bool"}
	}
	n := container(schema.Map, t, elem)
	n.key, n.Key = key, key.Node
	return n, nil
}

func (d *describer) structure(t reflect.Type, path string) (*node, error) {
	n := &node{Node: &schema.Node{Kind: schema.Struct}, typ: t}
	for i := range t.NumField() {
		f := t.Field(i)
		at := path + "." + f.Name
		tag := f.Tag.Get("millrace")
		if tag == "-" || f.Name == "_" {
			continue
		}
		if f.PkgPath != "" {
			return nil, &UnsupportedError{at, fmt.Sprintf(`unexported fields cannot be encoded; export it, tag it millrace:"-" to leave it out, or let %s implement encoding.BinaryMarshaler and BinaryUnmarshaler`, t)}
		}
		described, err := fieldOf(f.Name, tag)
		if err != nil {
			return nil, &UnsupportedError{at, err.Error()}
		}
		if n.Field(described.Name) >= 0 {
			return nil, &UnsupportedError{at, fmt.Sprintf("two fields are named %q; change the tag of one", described.Name)}
		}
		elem, err := d.node(f.Type, at)
		if err != nil {
			return nil, err
		}
		described.Type = elem.Node
		n.Fields = append(n.Fields, described)
		n.fields = append(n.fields, field{node: elem, off: f.Offset})
	}
	return n, checkFormer(n.Node, path)
}

// fieldOf reads a tag: a name, or none for Go's own, then names that the field
// had before: millrace:"owner,was=name".
func fieldOf(goName, tag string) (schema.Field, error) {
	name, options, _ := strings.Cut(tag, ",")
	f := schema.Field{Name: cmp.Or(name, goName)}
	if options != "" {
		for option := range strings.SplitSeq(options, ",") {
			was, ok := strings.CutPrefix(option, "was=")
			if !ok {
				return f, fmt.Errorf(`tag millrace:%q: %q is no option; was=<former name> is one`, tag, option)
			}
			f.Was = append(f.Was, was)
		}
	}
	for _, s := range append([]string{f.Name}, f.Was...) {
		if !schema.ValidName(s) {
			return f, fmt.Errorf("tag millrace:%q: a name has no spaces, commas, brackets or asterisks", tag)
		}
	}
	return f, nil
}

// checkFormer refuses former names that two fields claim.
func checkFormer(n *schema.Node, path string) error {
	claimed := map[string]bool{}
	for _, f := range n.Fields {
		claimed[f.Name] = true
	}
	for _, f := range n.Fields {
		for _, was := range f.Was {
			if claimed[was] {
				return &UnsupportedError{path + "." + f.Name, fmt.Sprintf("was=%s: another field has, or had, this name", was)}
			}
			claimed[was] = true
		}
	}
	return nil
}

// mutable says whether a copy of a value shares memory with it that can
// change.
func (n *node) mutable() bool {
	switch n.Kind {
	case schema.Bytes, schema.Slice, schema.Map, schema.Pointer, schema.Proto:
		return true
	case schema.Binary:
		return sharesMemory(n.typ)
	case schema.Array:
		return n.Length > 0 && n.elem.mutable()
	case schema.Struct:
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
