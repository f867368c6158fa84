package postgres

import (
	"encoding"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"
)

// rowCodec writes values of one struct type as lines of COPY's text format
// (https://www.postgresql.org/docs/current/sql-copy.html, "Text Format"): the
// server then parses them as what its columns are.
type rowCodec struct {
	columns []string
	fields  []field
	err     error
}

// field appends one field, found by its offset, by a function chosen once: no
// reflection per record where the type is plain.
type field struct {
	offset uintptr
	format formatter
}

// formatter appends the value at p, not escaped yet, or says that it is NULL.
type formatter func(dst []byte, p unsafe.Pointer) (text []byte, null bool, err error)

func codecOf(t reflect.Type) (c rowCodec) {
	if t.Kind() != reflect.Struct || t == timeType {
		c.err = fmt.Errorf("records of %v: rows are made of structs, a column a field", t)
		return c
	}
	for f := range t.Fields() {
		name, option, _ := strings.Cut(f.Tag.Get("db"), ",")
		if name == "-" || !f.IsExported() && !f.Anonymous {
			continue
		}
		if name == "" {
			name = strings.ToLower(f.Name)
		}
		format, err := formatterOf(f.Type, option == "json")
		switch {
		case f.Anonymous && f.Tag.Get("db") == "":
			err = errors.New("it is embedded: name its column with a tag, or leave it out with `db:\"-\"`")
		case option != "" && option != "json":
			err = fmt.Errorf("unknown option %q in its tag; there is json", option)
		case slices.Contains(c.columns, name):
			err = fmt.Errorf("two fields have the column %q", name)
		case strings.HasPrefix(name, metaPrefix):
			err = fmt.Errorf("columns that begin with %s are the sink's own", metaPrefix)
		}
		if err != nil {
			c.err = fmt.Errorf("field %s of %v: %w", f.Name, t, err)
			return c
		}
		c.columns = append(c.columns, name)
		c.fields = append(c.fields, field{f.Offset, format})
	}
	if len(c.columns) == 0 {
		c.err = fmt.Errorf("%v has no exported fields: a column is a field", t)
	}
	return c
}

// append appends the columns of the struct at p, each behind a tab.
func (c *rowCodec) append(dst []byte, p unsafe.Pointer) ([]byte, error) {
	for i, f := range c.fields {
		dst = append(dst, '\t')
		from := len(dst)
		text, null, err := f.format(dst, unsafe.Add(p, f.offset))
		if err != nil {
			return dst, fmt.Errorf("column %s: %w", c.columns[i], err)
		}
		if null {
			dst = append(text[:from], '\\', 'N')
			continue
		}
		dst = escape(text, from)
	}
	return dst, nil
}

// escape makes what stands from there on safe for a line of COPY.
func escape(dst []byte, from int) []byte {
	special := 0
	for _, b := range dst[from:] {
		if b == '\\' || b == '\n' || b == '\r' || b == '\t' {
			special++
		}
	}
	if special == 0 {
		return dst
	}
	end := len(dst)
	dst = slices.Grow(dst, special)[:end+special]
	for at := end - 1 + special; special > 0; at-- {
		b := dst[at-special]
		switch b {
		case '\n':
			b = 'n'
		case '\r':
			b = 'r'
		case '\t':
			b = 't'
		case '\\':
		default:
			dst[at] = b
			continue
		}
		dst[at] = b
		at--
		special--
		dst[at] = '\\'
	}
	return dst
}

var (
	timeType     = reflect.TypeFor[time.Time]()
	durationType = reflect.TypeFor[time.Duration]()
	textType     = reflect.TypeFor[encoding.TextMarshaler]()
	bytesType    = reflect.TypeFor[[]byte]()
)

// formatterOf chooses how a type is written.
func formatterOf(t reflect.Type, asJSON bool) (formatter, error) {
	switch {
	case asJSON:
		return jsonFormatter(t), nil
	case t == timeType:
		return func(dst []byte, p unsafe.Pointer) ([]byte, bool, error) {
			return (*time.Time)(p).UTC().AppendFormat(dst, "2006-01-02 15:04:05.999999999Z07:00"), false, nil
		}, nil
	case t == durationType:
		return nil, errors.New("how a time.Duration is to be stored is not said: make it a number, or a text such as '90 seconds' for an interval")
	case t == bytesType:
		return func(dst []byte, p unsafe.Pointer) ([]byte, bool, error) {
			b := *(*[]byte)(p)
			if b == nil {
				return dst, true, nil
			}
			return hex.AppendEncode(append(dst, '\\', 'x'), b), false, nil
		}, nil
	case t.Kind() == reflect.Pointer:
		return pointerFormatter(t)
	case t.Implements(textType), reflect.PointerTo(t).Implements(textType):
		return func(dst []byte, p unsafe.Pointer) ([]byte, bool, error) {
			text, err := reflect.NewAt(t, p).Interface().(encoding.TextMarshaler).MarshalText()
			return append(dst, text...), false, err
		}, nil
	}
	if f := plainFormatter(t.Kind()); f != nil {
		return f, nil
	}
	return nil, fmt.Errorf("%v is no column: use numbers, strings, booleans, []byte, time.Time, pointers to them for NULL, "+
		"an encoding.TextMarshaler, or the tag `db:\"name,json\"`", t)
}

func pointerFormatter(t reflect.Type) (formatter, error) {
	to, err := formatterOf(t.Elem(), false)
	if err != nil {
		return nil, err
	}
	return func(dst []byte, p unsafe.Pointer) ([]byte, bool, error) {
		target := *(*unsafe.Pointer)(p)
		if target == nil {
			return dst, true, nil
		}
		return to(dst, target)
	}, nil
}

func jsonFormatter(t reflect.Type) formatter {
	return func(dst []byte, p unsafe.Pointer) ([]byte, bool, error) {
		text, err := json.Marshal(reflect.NewAt(t, p).Interface())
		return append(dst, text...), false, err
	}
}

func plainFormatter(k reflect.Kind) formatter {
	switch k {
	case reflect.String:
		return func(dst []byte, p unsafe.Pointer) ([]byte, bool, error) {
			return append(dst, *(*string)(p)...), false, nil
		}
	case reflect.Bool:
		return func(dst []byte, p unsafe.Pointer) ([]byte, bool, error) {
			return strconv.AppendBool(dst, *(*bool)(p)), false, nil
		}
	case reflect.Int:
		return formatInt[int]
	case reflect.Int8:
		return formatInt[int8]
	case reflect.Int16:
		return formatInt[int16]
	case reflect.Int32:
		return formatInt[int32]
	case reflect.Int64:
		return formatInt[int64]
	case reflect.Uint:
		return formatUint[uint]
	case reflect.Uint8:
		return formatUint[uint8]
	case reflect.Uint16:
		return formatUint[uint16]
	case reflect.Uint32:
		return formatUint[uint32]
	case reflect.Uint64:
		return formatUint[uint64]
	case reflect.Float32:
		return formatFloat[float32](32)
	case reflect.Float64:
		return formatFloat[float64](64)
	}
	return nil
}

func formatInt[N int | int8 | int16 | int32 | int64](dst []byte, p unsafe.Pointer) ([]byte, bool, error) {
	return strconv.AppendInt(dst, int64(*(*N)(p)), 10), false, nil
}

func formatUint[N uint | uint8 | uint16 | uint32 | uint64](dst []byte, p unsafe.Pointer) ([]byte, bool, error) {
	return strconv.AppendUint(dst, uint64(*(*N)(p)), 10), false, nil
}

func formatFloat[N float32 | float64](bits int) formatter {
	return func(dst []byte, p unsafe.Pointer) ([]byte, bool, error) {
		return strconv.AppendFloat(dst, float64(*(*N)(p)), 'g', -1, bits), false, nil
	}
}
