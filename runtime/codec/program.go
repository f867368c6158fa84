package codec

import (
	"reflect"
	"unsafe"

	"github.com/millrace/millrace/checkpoint/schema"
)

// timeSize is that of a time.
const timeSize = schema.TimeSize

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
	from   schema.Kind  // opConvert: on the wire
	to     schema.Kind  // opConvert: in memory
	skip   *schema.Node // opSkip
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
	// texts is where strings lie, up to maxTexts of them.
	texts []uintptr
}

// maxTexts bounds the strings of a value that detach looks for: only arrays
// have more.
const maxTexts = 256

// compile makes the program of a type for its own schema.
func compile(t reflect.Type) (*program, error) {
	n, err := describe(t)
	if err != nil {
		return nil, err
	}
	return link(n.Node, n), nil
}

// link makes the program that fills memory of a node with a layout from bytes
// of another, which schema.Compatible has passed; for its own schema the program also
// encodes.
func link(old *schema.Node, n *node) *program {
	p := &program{node: n, typ: n.typ, size: n.typ.Size(), mutable: n.mutable()}
	p.link(old, n, 0)
	p.texts = p.textsAt(nil, 0)
	p.fixed = -1
	if old == n.Node {
		p.fixed = n.Fixed()
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

func (p *program) link(old *schema.Node, n *node, off uintptr) {
	s := step{off: off, typ: n.typ}
	switch n.Kind {
	case schema.Struct:
		p.linkStruct(old, n, off)
		return
	case schema.String:
		s.op = opString
	case schema.Bytes:
		s.op = opBytes
	case schema.Time:
		s.op = opTime
	case schema.Proto:
		s.op = opProto
	case schema.Binary:
		s.op = opBinary
	case schema.Pointer:
		s.op, s.elem = opPointer, link(old.Elem, n.elem)
	case schema.Slice:
		s.op, s.elem, s.min = opSlice, link(old.Elem, n.elem), max(1, old.Elem.Minimum())
		s.stride, s.plain = s.elem.size, !hasPointers(n.elem.typ)
	case schema.Map:
		s.op, s.key, s.elem = opMap, link(old.Key, n.key), link(old.Elem, n.elem)
		s.min = max(1, old.Key.Minimum()+old.Elem.Minimum())
	case schema.Array:
		elem := link(old.Elem, n.elem)
		if elem.raw {
			s := step{off: off, n: uintptr(n.Length) * elem.size}
			for i := range n.Length {
				for _, b := range elem.boolsAt() {
					s.bools = append(s.bools, uintptr(i)*elem.size+b)
				}
			}
			p.addRaw(s)
			return
		}
		s.op, s.n, s.elem, s.stride = opArray, uintptr(n.Length), elem, elem.size
	default:
		if old.Kind != n.Kind {
			s.op, s.from, s.to = opConvert, old.Kind, n.Kind
			break
		}
		raw := step{off: off, n: uintptr(n.Kind.Width())}
		if n.Kind == schema.Bool {
			raw.bools = []uintptr{0}
		}
		p.addRaw(raw)
		return
	}
	p.steps = append(p.steps, s)
}

func (p *program) linkStruct(old *schema.Node, n *node, off uintptr) {
	into := schema.Match(old, n.Node)
	for i, f := range old.Fields {
		if j := into[i]; j >= 0 {
			p.link(f.Type, n.fields[j].node, off+n.fields[j].off)
		} else {
			p.steps = append(p.steps, step{op: opSkip, skip: f.Type})
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

// textsAt adds where strings lie in a value at an offset.
func (p *program) textsAt(at []uintptr, off uintptr) []uintptr {
	for i := range p.steps {
		s := &p.steps[i]
		switch s.op {
		case opString:
			at = append(at, off+s.off)
		case opArray:
			for j := range s.n {
				if len(at) < maxTexts {
					at = s.elem.textsAt(at, off+s.off+j*s.stride)
				}
			}
		}
	}
	return at[:min(len(at), maxTexts)]
}
