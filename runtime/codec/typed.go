package codec

import (
	"reflect"
	"unsafe"
)

type program struct{}

func compile(t reflect.Type) (*program, error) { panic("codec: not yet") }

type typed[T any] struct {
	program *program
	size    uintptr
}

func (c *typed[T]) Append(dst []byte, v *T) []byte                        { panic("codec: not yet") }
func (c *typed[T]) Decode(src []byte, v *T) (rest []byte, err error)      { panic("codec: not yet") }
func (c *typed[T]) AppendAll(dst []byte, vs []T) []byte                   { panic("codec: not yet") }
func (c *typed[T]) DecodeAll(src []byte, vs []T) (rest []byte, err error) { panic("codec: not yet") }
func (c *typed[T]) Schema() string                                        { panic("codec: not yet") }
func (c *typed[T]) Fixed() int                                            { panic("codec: not yet") }
func (c *typed[T]) Mutable() bool                                         { panic("codec: not yet") }
func (c *typed[T]) Clone(v *T) T                                          { panic("codec: not yet") }

var _ = unsafe.Pointer(nil)
