package codec

import (
	"reflect"
	"unsafe"

	"google.golang.org/protobuf/proto"
)

// own replaces what the value at points to by copies. The value itself is a
// copy already.
func (p *program) own(at unsafe.Pointer) {
	for i := range p.steps {
		s := &p.steps[i]
		q := unsafe.Add(at, s.off)
		switch s.op {
		case opBytes:
			v := (*[]byte)(q)
			if *v != nil {
				*v = append(make([]byte, 0, len(*v)), *v...)
			}
		case opSlice:
			s.ownSlice(q)
		case opArray:
			if s.elem.mutable {
				s.elem.ownRun(q, int(s.n))
			}
		case opPointer:
			v := reflect.NewAt(s.typ, q).Elem()
			if !v.IsNil() {
				copied := reflect.New(s.elem.typ)
				copied.Elem().Set(v.Elem())
				s.elem.own(copied.UnsafePointer())
				v.Set(copied.Convert(s.typ))
			}
		case opMap:
			s.ownMap(q)
		case opProto:
			s.ownMessage(q)
		case opBinary:
			s.ownBinary(q)
		}
	}
}

func (p *program) ownRun(at unsafe.Pointer, n int) {
	for i := range uintptr(n) {
		p.own(unsafe.Add(at, i*p.size))
	}
}

func (s *step) ownSlice(q unsafe.Pointer) {
	v := *(*[]byte)(q)
	if v == nil {
		return
	}
	from, n := unsafe.Pointer(unsafe.SliceData(v)), len(v)
	if s.plain {
		at := s.makeSlice(q, n)
		copy(bytesAt(at, uintptr(n)*s.stride), bytesAt(from, uintptr(n)*s.stride))
		return
	}
	slice := reflect.NewAt(s.typ, q).Elem()
	copied := reflect.MakeSlice(s.typ, n, n)
	reflect.Copy(copied, slice)
	slice.Set(copied)
	if s.elem.mutable {
		s.elem.ownRun(copied.UnsafePointer(), n)
	}
}

func (s *step) ownMap(q unsafe.Pointer) {
	m := reflect.NewAt(s.typ, q).Elem()
	if m.IsNil() {
		return
	}
	copied := reflect.MakeMapWithSize(s.typ, m.Len())
	for it := m.MapRange(); it.Next(); {
		val := reflect.New(s.typ.Elem())
		val.Elem().SetIterValue(it)
		if s.elem.mutable {
			s.elem.own(val.UnsafePointer())
		}
		copied.SetMapIndex(it.Key(), val.Elem())
	}
	m.Set(copied)
}

func (s *step) ownMessage(q unsafe.Pointer) {
	m, ok := s.message(q)
	if !ok {
		return
	}
	copied := reflect.ValueOf(proto.Clone(m))
	if s.typ.Kind() == reflect.Pointer {
		reflect.NewAt(s.typ, q).Elem().Set(copied)
		return
	}
	reflect.NewAt(s.typ, q).Elem().Set(copied.Elem())
}

// ownBinary copies a value that nobody else can look into: through its bytes.
func (s *step) ownBinary(q unsafe.Pointer) {
	if !sharesMemory(s.typ) {
		return
	}
	b := s.appendOwn(nil, q)
	copied := reflect.New(s.typ)
	if _, err := s.decodeRare(&Decoder{}, b, copied.UnsafePointer()); err != nil {
		panic(&MarshalError{s.typ.String(), err})
	}
	reflect.NewAt(s.typ, q).Elem().Set(copied.Elem())
}

// detach copies the strings of a value into one new piece of memory, unless
// there is one like it already.
func (p *program) detach(at unsafe.Pointer, had []string) {
	n := 0
	for i, off := range p.texts {
		s := (*string)(unsafe.Add(at, off))
		switch {
		case *s == "":
			*s = "" // without the pointer that it may have
		case i < len(had) && had[i] == *s:
			*s = had[i]
		default:
			n += len(*s)
		}
	}
	if n == 0 {
		return
	}
	mem := make([]byte, 0, n)
	for i, off := range p.texts {
		s := (*string)(unsafe.Add(at, off))
		if *s == "" || i < len(had) && unsafe.StringData(had[i]) == unsafe.StringData(*s) {
			continue
		}
		from := len(mem)
		mem = append(mem, *s...)
		*s = unsafe.String(&mem[from], len(*s))
	}
}
