package codec

import "unsafe"

// typed is the Codec of T: that of its type, and T's memory.
type typed[T any] struct{ *Untyped }

func (c typed[T]) Append(dst []byte, v *T) []byte {
	return c.append(dst, unsafe.Pointer(v))
}

func (c typed[T]) Decode(src []byte, v *T) ([]byte, error) {
	if c.raw && len(c.boolsAt()) == 0 {
		if uintptr(len(src)) < c.size {
			return nil, short(c.size, src)
		}
		copy(bytesAt(unsafe.Pointer(v), c.size), src)
		return src[c.size:], nil
	}
	var zero T
	*v = zero
	var d Decoder
	return c.decode(&d, src, unsafe.Pointer(v))
}

func (c typed[T]) AppendAll(dst []byte, vs []T) []byte {
	return c.appendRun(dst, unsafe.Pointer(unsafe.SliceData(vs)), len(vs))
}

func (c typed[T]) DecodeAll(src []byte, vs []T) ([]byte, error) {
	if !c.raw {
		clear(vs)
	}
	d := Decoder{Together: len(vs) > 1}
	return c.decodeRun(&d, src, unsafe.Pointer(unsafe.SliceData(vs)), len(vs))
}

func (c typed[T]) Clone(v *T) T {
	if !c.mutable {
		return *v
	}
	out := *v // on the heap, so only where it must be
	c.own(unsafe.Pointer(&out))
	return out
}

func (c typed[T]) Texts(dst []string, v *T) []string {
	for _, off := range c.texts {
		dst = append(dst, *(*string)(unsafe.Add(unsafe.Pointer(v), off)))
	}
	return dst
}

func (c typed[T]) Detach(v *T, had []string) {
	if len(c.texts) > 0 {
		c.detach(unsafe.Pointer(v), had)
	}
}
