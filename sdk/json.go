package sdk

import (
	"bytes"
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
)

// JSON is the codec of one JSON value a record, by the rules of encoding/json.
// Characters of HTML are written as they are.
func JSON[T any]() Codec[T] { return jsonCodec[T]{} }

type jsonCodec[T any] struct{}

func (jsonCodec[T]) Decode(data []byte) (T, error) {
	var v T
	err := json.Unmarshal(data, &v)
	return v, err
}

func (jsonCodec[T]) Append(dst []byte, v T) ([]byte, error) {
	buf := bytes.NewBuffer(dst)
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return dst, err
	}
	out := buf.Bytes()
	return out[:len(out)-1], nil // the encoder ends each value with a newline
}

// Check refuses what encoding/json would refuse at the first record.
func (jsonCodec[T]) Check() error {
	t := reflect.TypeFor[T]()
	return checkJSON(t, t.String(), map[reflect.Type]bool{})
}

func checkJSON(t reflect.Type, path string, seen map[reflect.Type]bool) error {
	if seen[t] || marshalsItself(t) {
		return nil
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Chan, reflect.Func, reflect.Complex64, reflect.Complex128, reflect.UnsafePointer:
		return fmt.Errorf("JSON cannot hold %s, a %v: tag it `json:\"-\"` or give the type MarshalJSON and UnmarshalJSON", path, t.Kind())
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return checkJSON(t.Elem(), path, seen)
	case reflect.Map:
		switch k := t.Key(); {
		case k.Kind() == reflect.String, k.Kind() >= reflect.Int && k.Kind() <= reflect.Uintptr, marshalsText(k):
		default:
			return fmt.Errorf("JSON cannot hold %s: its key %v is neither a string nor an integer nor an encoding.TextMarshaler", path, k)
		}
		return checkJSON(t.Elem(), path, seen)
	case reflect.Struct:
		for f := range t.Fields() {
			if f.Tag.Get("json") == "-" || !f.IsExported() && !f.Anonymous {
				continue
			}
			if err := checkJSON(f.Type, path+"."+f.Name, seen); err != nil {
				return err
			}
		}
	}
	return nil
}

func marshalsItself(t reflect.Type) bool {
	m := reflect.TypeFor[json.Marshaler]()
	return t.Implements(m) || reflect.PointerTo(t).Implements(m) || marshalsText(t)
}

func marshalsText(t reflect.Type) bool {
	m := reflect.TypeFor[encoding.TextMarshaler]()
	return t.Implements(m) || reflect.PointerTo(t).Implements(m)
}
