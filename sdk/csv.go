package sdk

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"
)

// CSV is the codec of comma-separated records (RFC 4180) and structs. Each
// exported field is a column, in the order of the struct, named by its tag or
// else by the field:
//
//	type Flight struct {
//		Scheduled time.Time `csv:"scheduled"`       // RFC 3339
//		Origin    string    `csv:"origin"`
//		Gate      int       `csv:"gate,optional"`   // an empty cell is 0
//		Note      string    `csv:"-"`               // no column
//		Line      string    `csv:",line"`           // the whole record as it came
//	}
//
// Fields may be strings, booleans, integers, floats, time.Time, or types with
// MarshalText and UnmarshalText. An empty cell is an error except in strings
// and optional columns.
//
// Where the input has other columns or another order, name the columns of the
// input: CSV[Flight]("scheduled", "origin", "destination"). Columns that no
// field is named for are passed over; a field that no column is named for is
// an error. Encoding writes the fields' columns in the order of the columns.
// A file whose first line names the columns is read with Header.
func CSV[T any](columns ...string) Codec[T] {
	c := &csvCodec[T]{}
	c.fields, c.line, c.err = csvFields(reflect.TypeFor[T]())
	if c.err == nil {
		c.err = c.bind(columns)
	}
	return c
}

type csvCodec[T any] struct {
	fields []*csvField
	// columns holds the field of each cell of the input, nil for one that is
	// passed over.
	columns []*csvField
	names   []string // of columns
	line    *csvField
	err     error
}

// csvField reads and writes one field through its offset in the struct, by
// functions chosen once: no reflection per record.
type csvField struct {
	name     string
	offset   uintptr
	optional bool
	parse    func(p unsafe.Pointer, cell []byte) error
	format   func(dst []byte, p unsafe.Pointer) ([]byte, error)
}

func (c *csvCodec[T]) Check() error { return c.err }

// AppendHeader appends the line that names the columns that Append writes.
func (c *csvCodec[T]) AppendHeader(dst []byte) []byte {
	for i, name := range c.names {
		if i > 0 {
			dst = append(dst, ',')
		}
		from := len(dst)
		dst = quoteCSV(append(dst, name...), from)
	}
	return dst
}

// bind maps the input's columns to fields.
func (c *csvCodec[T]) bind(names []string) error {
	if len(names) == 0 {
		c.columns = c.fields
		for _, f := range c.fields {
			c.names = append(c.names, f.name)
		}
		return nil
	}
	c.columns, c.names = make([]*csvField, len(names)), names
	for i, name := range names {
		j := slices.IndexFunc(c.fields, func(f *csvField) bool { return f.name == name })
		if j < 0 {
			continue
		}
		if slices.Contains(c.columns, c.fields[j]) {
			return fmt.Errorf("CSV: the column %q appears twice", name)
		}
		c.columns[i] = c.fields[j]
	}
	for _, f := range c.fields {
		if !slices.Contains(c.columns, f) {
			return fmt.Errorf("CSV: no column is named %q, which %v needs; the columns are %s", f.name, reflect.TypeFor[T](), strings.Join(names, ", "))
		}
	}
	return nil
}

// WithHeader returns the codec for a file whose first line is this one.
func (c *csvCodec[T]) WithHeader(line []byte) (Codec[T], error) {
	cells, err := splitCSV(nil, bytes.TrimPrefix(line, []byte("\xef\xbb\xbf")))
	if err != nil {
		return nil, err
	}
	names := make([]string, len(cells))
	for i, cell := range cells {
		names[i] = string(cell)
	}
	d := &csvCodec[T]{fields: c.fields, line: c.line, err: c.err}
	if d.err == nil {
		d.err = d.bind(names)
	}
	return d, d.err
}

func (c *csvCodec[T]) Decode(data []byte) (T, error) {
	var v T
	if c.err != nil {
		return v, c.err
	}
	var room [32][]byte
	cells, err := splitCSV(room[:0], data)
	if err != nil {
		return v, err
	}
	if len(cells) != len(c.columns) {
		return v, fmt.Errorf("CSV: %d columns where %d are wanted", len(cells), len(c.columns))
	}
	p := unsafe.Pointer(&v)
	for i, f := range c.columns {
		switch {
		case f == nil, f.optional && len(cells[i]) == 0:
		default:
			if err := f.parse(unsafe.Add(p, f.offset), cells[i]); err != nil {
				return v, fmt.Errorf("CSV: column %d (%s): %w", i+1, f.name, err)
			}
		}
	}
	if c.line != nil {
		*(*string)(unsafe.Add(p, c.line.offset)) = string(data)
	}
	return v, nil
}

func (c *csvCodec[T]) Append(dst []byte, v T) ([]byte, error) {
	if c.err != nil {
		return dst, c.err
	}
	p := unsafe.Pointer(&v)
	for i, f := range c.columns {
		if i > 0 {
			dst = append(dst, ',')
		}
		if f == nil {
			continue
		}
		from := len(dst)
		var err error
		if dst, err = f.format(dst, unsafe.Add(p, f.offset)); err != nil {
			return dst, fmt.Errorf("CSV: field %s: %w", f.name, err)
		}
		dst = quoteCSV(dst, from)
	}
	return dst, nil
}

// splitCSV appends the cells of one record. Cells point into data, except
// quoted ones with quotes inside.
func splitCSV(cells [][]byte, data []byte) ([][]byte, error) {
	for {
		if len(data) > 0 && data[0] == '"' {
			cell, rest, err := quotedCell(data[1:])
			if err != nil {
				return nil, err
			}
			cells = append(cells, cell)
			if len(rest) == 0 {
				return cells, nil
			}
			data = rest[1:]
			continue
		}
		i := bytes.IndexByte(data, ',')
		if i < 0 {
			return append(cells, data), nil
		}
		cells = append(cells, data[:i])
		data = data[i+1:]
	}
}

// quotedCell reads a cell behind its opening quote; rest is empty or begins
// with a comma.
func quotedCell(data []byte) (cell, rest []byte, err error) {
	var unquoted []byte
	for {
		i := bytes.IndexByte(data, '"')
		if i < 0 {
			return nil, nil, errors.New("CSV: a quoted cell does not end")
		}
		if i+1 < len(data) && data[i+1] == '"' {
			unquoted = append(unquoted, data[:i+1]...)
			data = data[i+2:]
			continue
		}
		cell, rest = data[:i], data[i+1:]
		if unquoted != nil {
			cell = append(unquoted, cell...)
		}
		if len(rest) > 0 && rest[0] != ',' {
			return nil, nil, errors.New("CSV: text behind a closing quote")
		}
		return cell, rest, nil
	}
}

// quoteCSV quotes the cell that begins at from, where it must be.
func quoteCSV(dst []byte, from int) []byte {
	cell := dst[from:]
	if !bytes.ContainsAny(cell, ",\"\r\n") {
		return dst
	}
	quoted := bytes.ReplaceAll(cell, []byte{'"'}, []byte{'"', '"'})
	dst = append(dst[:from], '"')
	dst = append(dst, quoted...)
	return append(dst, '"')
}

// csvFields lists the columns of a struct type, and its line field.
func csvFields(t reflect.Type) (fields []*csvField, line *csvField, err error) {
	if t.Kind() != reflect.Struct {
		return nil, nil, fmt.Errorf("CSV: %v is no struct: columns are the fields of one", t)
	}
	for sf := range t.Fields() {
		tag, opts, _ := strings.Cut(sf.Tag.Get("csv"), ",")
		if tag == "-" || !sf.IsExported() {
			continue
		}
		f := &csvField{name: tag, offset: sf.Offset, optional: opts == "optional"}
		if f.name == "" {
			f.name = sf.Name
		}
		switch {
		case opts == "line":
			if sf.Type.Kind() != reflect.String {
				return nil, nil, fmt.Errorf("CSV: field %v.%s holds the whole line and must be a string", t, sf.Name)
			}
			line = f
			continue
		case opts != "" && opts != "optional":
			return nil, nil, fmt.Errorf("CSV: field %v.%s: unknown tag option %q: known are optional and line", t, sf.Name, opts)
		}
		if f.parse, f.format = csvCell(sf.Type); f.parse == nil {
			return nil, nil, fmt.Errorf("CSV: field %v.%s: a cell cannot hold %v: tag it `csv:\"-\"`, or give the type MarshalText and UnmarshalText", t, sf.Name, sf.Type)
		}
		fields = append(fields, f)
	}
	if len(fields) == 0 {
		return nil, nil, fmt.Errorf("CSV: %v has no exported field to be a column", t)
	}
	return fields, line, nil
}

// csvCell chooses how cells of a type are read and written; nil where none is.
func csvCell(t reflect.Type) (func(unsafe.Pointer, []byte) error, func([]byte, unsafe.Pointer) ([]byte, error)) {
	if t == reflect.TypeFor[time.Time]() {
		return parseCSVTime, formatCSVTime
	}
	if p := reflect.PointerTo(t); p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) && p.Implements(reflect.TypeFor[encoding.TextMarshaler]()) {
		return csvText(t)
	}
	switch t.Kind() {
	case reflect.String:
		return func(p unsafe.Pointer, cell []byte) error { *(*string)(p) = string(cell); return nil },
			func(dst []byte, p unsafe.Pointer) ([]byte, error) { return append(dst, *(*string)(p)...), nil }
	case reflect.Bool:
		return parseCSVBool,
			func(dst []byte, p unsafe.Pointer) ([]byte, error) { return strconv.AppendBool(dst, *(*bool)(p)), nil }
	case reflect.Int:
		return csvInt[int](t.Bits())
	case reflect.Int8:
		return csvInt[int8](t.Bits())
	case reflect.Int16:
		return csvInt[int16](t.Bits())
	case reflect.Int32:
		return csvInt[int32](t.Bits())
	case reflect.Int64:
		return csvInt[int64](t.Bits())
	case reflect.Uint:
		return csvUint[uint](t.Bits())
	case reflect.Uint8:
		return csvUint[uint8](t.Bits())
	case reflect.Uint16:
		return csvUint[uint16](t.Bits())
	case reflect.Uint32:
		return csvUint[uint32](t.Bits())
	case reflect.Uint64:
		return csvUint[uint64](t.Bits())
	case reflect.Float32:
		return csvFloat[float32](t.Bits())
	case reflect.Float64:
		return csvFloat[float64](t.Bits())
	}
	return nil, nil
}

func csvInt[N int | int8 | int16 | int32 | int64](bits int) (func(unsafe.Pointer, []byte) error, func([]byte, unsafe.Pointer) ([]byte, error)) {
	return func(p unsafe.Pointer, cell []byte) error {
			n, err := strconv.ParseInt(string(cell), 10, bits)
			*(*N)(p) = N(n)
			return err
		}, func(dst []byte, p unsafe.Pointer) ([]byte, error) {
			return strconv.AppendInt(dst, int64(*(*N)(p)), 10), nil
		}
}

func csvUint[N uint | uint8 | uint16 | uint32 | uint64](bits int) (func(unsafe.Pointer, []byte) error, func([]byte, unsafe.Pointer) ([]byte, error)) {
	return func(p unsafe.Pointer, cell []byte) error {
			n, err := strconv.ParseUint(string(cell), 10, bits)
			*(*N)(p) = N(n)
			return err
		}, func(dst []byte, p unsafe.Pointer) ([]byte, error) {
			return strconv.AppendUint(dst, uint64(*(*N)(p)), 10), nil
		}
}

func csvFloat[N float32 | float64](bits int) (func(unsafe.Pointer, []byte) error, func([]byte, unsafe.Pointer) ([]byte, error)) {
	return func(p unsafe.Pointer, cell []byte) error {
			n, err := strconv.ParseFloat(string(cell), bits)
			*(*N)(p) = N(n)
			return err
		}, func(dst []byte, p unsafe.Pointer) ([]byte, error) {
			return strconv.AppendFloat(dst, float64(*(*N)(p)), 'g', -1, bits), nil
		}
}

func parseCSVBool(p unsafe.Pointer, cell []byte) error {
	b, err := strconv.ParseBool(string(cell))
	*(*bool)(p) = b
	return err
}

func parseCSVTime(p unsafe.Pointer, cell []byte) error {
	t, err := time.Parse(time.RFC3339Nano, string(cell))
	*(*time.Time)(p) = t
	return err
}

func formatCSVTime(dst []byte, p unsafe.Pointer) ([]byte, error) {
	return (*time.Time)(p).AppendFormat(dst, time.RFC3339Nano), nil
}

func csvText(t reflect.Type) (func(unsafe.Pointer, []byte) error, func([]byte, unsafe.Pointer) ([]byte, error)) {
	return func(p unsafe.Pointer, cell []byte) error {
			return reflect.NewAt(t, p).Interface().(encoding.TextUnmarshaler).UnmarshalText(cell)
		}, func(dst []byte, p unsafe.Pointer) ([]byte, error) {
			text, err := reflect.NewAt(t, p).Interface().(encoding.TextMarshaler).MarshalText()
			return append(dst, text...), err
		}
}
