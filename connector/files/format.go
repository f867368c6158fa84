package files

import (
	"errors"

	"github.com/millrace/millrace/sdk"
)

// Format says how records become the bytes of a file. One serves all subtasks
// at once. A method Check() error is asked in plan mode.
type Format[T any] interface {
	// Extension is the ending of the files' names, without its dot.
	Extension() string
	// Begin appends what each file begins with, such as a line of headings.
	Begin(dst []byte) ([]byte, error)
	// Append appends a record.
	Append(dst []byte, v T) ([]byte, error)
}

// Lines writes each record, as codec encodes it, as a line: *.txt.
func Lines[T any](codec sdk.Codec[T]) Format[T] {
	return coded[T]{codec: codec, extension: "txt", end: "\n"}
}

// JSON writes each record as a JSON value on a line of its own: *.jsonl.
func JSON[T any]() Format[T] { return coded[T]{codec: sdk.JSON[T](), extension: "jsonl", end: "\n"} }

// CSV writes each record as a line of comma-separated values, and the names of
// the columns as each file's first: *.csv. See sdk.CSV for T and columns.
func CSV[T any](columns ...string) Format[T] {
	f := coded[T]{codec: sdk.CSV[T](columns...), extension: "csv", end: "\n"}
	f.heading, _ = f.codec.(interface {
		AppendHeader(dst []byte) []byte
	})
	return f
}

// Raw writes what codec makes of the records, one behind the other: *.bin. The
// codec says by itself where a record ends.
func Raw[T any](codec sdk.Codec[T]) Format[T] { return coded[T]{codec: codec, extension: "bin"} }

// Func writes what f appends for each record.
func Func[T any](extension string, f func(dst []byte, v T) ([]byte, error)) Format[T] {
	if f == nil {
		return coded[T]{extension: extension}
	}
	return coded[T]{codec: sdk.CodecOf(nil, f), extension: extension}
}

type coded[T any] struct {
	codec     sdk.Codec[T]
	extension string
	end       string
	heading   interface {
		AppendHeader(dst []byte) []byte
	}
}

func (f coded[T]) Extension() string { return f.extension }

func (f coded[T]) Check() error {
	if f.codec == nil {
		return errors.New("files: the format has no codec or function")
	}
	if c, ok := f.codec.(interface{ Check() error }); ok {
		return c.Check()
	}
	return nil
}

func (f coded[T]) Begin(dst []byte) ([]byte, error) {
	if f.heading == nil {
		return dst, nil
	}
	return append(f.heading.AppendHeader(dst), f.end...), nil
}

func (f coded[T]) Append(dst []byte, v T) ([]byte, error) {
	dst, err := f.codec.Append(dst, v)
	return append(dst, f.end...), err
}
