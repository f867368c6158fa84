package codec

import (
	"fmt"
	"unsafe"
)

// IncompatibleError is a change of a type that state cannot follow.
type IncompatibleError struct {
	// Path leads from the value to what differs.
	Path string
	// Old and New are the schemas of that part.
	Old, New string
}

func (e *IncompatibleError) Error() string {
	return fmt.Sprintf("%s was %.200s and is %.200s; fields can be added, removed, renamed by tag and widened, nothing else: give the new one another name",
		e.Path, e.Old, e.New)
}

// Compatible says whether a type of schema new can read what one of schema old
// wrote: fields may have been added, removed, renamed by tag and widened. The
// error says what differs.
func Compatible(old, new string) error {
	if old == new {
		return nil
	}
	o, err := parseSchema(old)
	if err != nil {
		return err
	}
	n, err := parseSchema(new)
	if err != nil {
		return err
	}
	return match(o, n, "value")
}

// DecoderFor returns a decoder to T for bytes that a type of schema old wrote.
func DecoderFor[T any](old string) (func(src []byte, v *T) (rest []byte, err error), error) {
	c, err := Derive[T]()
	if err != nil {
		return nil, err
	}
	if old == c.Schema() {
		return c.Decode, nil
	}
	from, err := parseSchema(old)
	if err != nil {
		return nil, err
	}
	into := c.(*typed[T]).node
	if err := match(from, into, "value"); err != nil {
		return nil, err
	}
	p := link(from, into)
	return func(src []byte, v *T) ([]byte, error) {
		var zero T
		*v = zero
		var d decoder
		return p.decode(&d, src, unsafe.Pointer(v))
	}, nil
}

func match(old, new *node, path string) error {
	if old.kind != new.kind {
		if widens(old.kind, new.kind) {
			return nil
		}
		return &IncompatibleError{path, old.String(), new.String()}
	}
	switch new.kind {
	case kindProto, kindBinary:
		if old.name != new.name {
			return &IncompatibleError{path, old.String(), new.String()}
		}
	case kindArray:
		if old.length != new.length {
			return &IncompatibleError{path, old.String(), new.String()}
		}
		return match(old.elem, new.elem, path+"[]")
	case kindSlice:
		return match(old.elem, new.elem, path+"[]")
	case kindPointer:
		return match(old.elem, new.elem, path)
	case kindMap:
		if err := match(old.key, new.key, path+"[key]"); err != nil {
			return err
		}
		return match(old.elem, new.elem, path+"[]")
	case kindStruct:
		for _, f := range old.fields {
			if into := new.find(f.name); into != nil {
				if err := match(f.node, into.node, path+"."+f.name); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// widens says whether every number of one kind is one of another of the same
// family, or an unsigned one fits a signed one.
func widens(from, to kind) bool {
	signed := func(k kind) bool { return k >= kindInt8 && k <= kindInt64 }
	unsigned := func(k kind) bool { return k >= kindUint8 && k <= kindUint64 }
	switch {
	case signed(from):
		return signed(to) && to > from
	case unsigned(from):
		return (unsigned(to) || signed(to)) && to.width() > from.width()
	}
	return from == kindFloat32 && to == kindFloat64
}

// CompatibleKey is Compatible for keys: numbers may widen, which leaves the
// hash of a key as it was (docs/formats/keyhash.md), and nothing else changes.
func CompatibleKey(old, new string) error {
	if old == new {
		return nil
	}
	o, err := parseSchema(old)
	if err != nil {
		return err
	}
	n, err := parseSchema(new)
	if err != nil {
		return err
	}
	if err := sameFields(o, n, "key"); err != nil {
		return err
	}
	return match(o, n, "key")
}

func sameFields(old, new *node, path string) error {
	if old.kind == kindArray && new.kind == kindArray {
		return sameFields(old.elem, new.elem, path+"[]")
	}
	if old.kind != kindStruct || new.kind != kindStruct {
		return nil
	}
	if len(old.fields) != len(new.fields) {
		return &IncompatibleError{path, old.String(), new.String()}
	}
	for i, f := range old.fields {
		if new.fields[i].name != f.name {
			return &IncompatibleError{path, old.String(), new.String()}
		}
		if err := sameFields(f.node, new.fields[i].node, path+"."+f.name); err != nil {
			return err
		}
	}
	return nil
}
