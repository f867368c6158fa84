package codec

import (
	"reflect"
	"unsafe"
)

// timeSize is that of a time: seconds and nanoseconds.
const timeSize = 12

type op uint8

const (
	opRaw op = iota + 1 // n bytes, the same in memory and on the wire
	opString
	opBytes
	opTime
	opSlice
	opArray
	opMap
	opPointer
	opProto
	opBinary
	opSkip    // of an old field that is gone: encoded, not in memory
	opConvert // of a number that is wider in memory
)

// step is one piece of a value, at an offset of its memory.
type step struct {
	op     op
	off    uintptr
	n      uintptr // opRaw: bytes; opArray: length
	stride uintptr // of an element in memory
	min    int     // bytes of an element on the wire, at least
	key    *program
	elem   *program
	typ    reflect.Type // of what lies at off
	plain  bool         // elements hold no pointers
	bools  []uintptr    // opRaw: where bools lie, from off
	from   kind         // opConvert: on the wire
	to     kind         // opConvert: in memory
	skip   *node        // opSkip
}

// program encodes or decodes a type. A program to decode may be for another
// schema than the type's own.
type program struct {
	steps []step
	node  *node
	typ   reflect.Type
	size  uintptr
	// raw says that memory and wire are the same bytes without a gap, so that
	// a run of values is one copy.
	raw     bool
	fixed   int
	mutable bool
}

// compile makes the program of a type for its own schema.
func compile(t reflect.Type) (*program, error) {
	n, err := describe(t)
	if err != nil {
		return nil, err
	}
	return link(n, n), nil
}

// link makes the program that fills memory of a node with a layout from bytes
// of another, which Compatible has passed; for the same node the program also
// encodes.
func link(old, n *node) *program {
	p := &program{node: n, typ: n.typ, size: n.typ.Size(), mutable: n.mutable()}
	p.link(old, n, 0)
	p.fixed = -1
	if old == n {
		p.fixed = n.fixed()
	}
	switch len(p.steps) {
	case 0:
		p.raw = p.size == 0
	case 1:
		s := &p.steps[0]
		p.raw = s.op == opRaw && s.off == 0 && s.n == p.size
	}
	return p
}

func (p *program) link(old, n *node, off uintptr) {
	s := step{off: off, typ: n.typ}
	switch n.kind {
	case kindStruct:
		p.linkStruct(old, n, off)
		return
	case kindString:
		s.op = opString
	case kindBytes:
		s.op = opBytes
	case kindTime:
		s.op = opTime
	case kindProto:
		s.op = opProto
	case kindBinary:
		s.op = opBinary
	case kindPointer:
		s.op, s.elem = opPointer, link(old.elem, n.elem)
	case kindSlice:
		s.op, s.elem, s.min = opSlice, link(old.elem, n.elem), max(1, old.elem.minimum())
		s.stride, s.plain = s.elem.size, !hasPointers(n.elem.typ)
	case kindMap:
		s.op, s.key, s.elem = opMap, link(old.key, n.key), link(old.elem, n.elem)
		s.min = max(1, old.key.minimum()+old.elem.minimum())
	case kindArray:
		elem := link(old.elem, n.elem)
		if elem.raw {
			s := step{off: off, n: uintptr(n.length) * elem.size}
			for i := range n.length {
				for _, b := range elem.boolsAt() {
					s.bools = append(s.bools, uintptr(i)*elem.size+b)
				}
			}
			p.addRaw(s)
			return
		}
		s.op, s.n, s.elem, s.stride = opArray, uintptr(n.length), elem, elem.size
	default:
		if old.kind != n.kind {
			s.op, s.from, s.to = opConvert, old.kind, n.kind
			break
		}
		raw := step{off: off, n: uintptr(n.kind.width())}
		if n.kind == kindBool {
			raw.bools = []uintptr{0}
		}
		p.addRaw(raw)
		return
	}
	p.steps = append(p.steps, s)
}

func (p *program) linkStruct(old, n *node, off uintptr) {
	for _, f := range old.fields {
		if into := n.find(f.name); into != nil {
			p.link(f.node, into.node, off+into.off)
		} else {
			p.steps = append(p.steps, step{op: opSkip, skip: f.node})
		}
	}
}

// boolsAt lists where the bools of a raw program lie.
func (p *program) boolsAt() []uintptr {
	if len(p.steps) == 0 {
		return nil
	}
	return p.steps[0].bools
}

// addRaw adds a raw step, joined with the one before where memory goes on.
func (p *program) addRaw(s step) {
	if s.n == 0 {
		return
	}
	if len(p.steps) > 0 {
		last := &p.steps[len(p.steps)-1]
		if last.op == opRaw && last.off+last.n == s.off {
			for _, b := range s.bools {
				last.bools = append(last.bools, last.n+b)
			}
			last.n += s.n
			return
		}
	}
	s.op = opRaw
	p.steps = append(p.steps, s)
}

// bytesAt is n bytes of memory. The memory holds no pointers.
func bytesAt(at unsafe.Pointer, n uintptr) []byte { return unsafe.Slice((*byte)(at), n) }
