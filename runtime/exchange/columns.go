package exchange

import (
	"unsafe"

	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/codec"
)

// columns is a batch for those who do not know the type of its records: the
// memory of a batch.Batch[T]. Gates, channels and most of a writer deal with
// batches as wholes, and so are one code for all types, which programs need not
// compile again for each of theirs; what they do to values, a kind does.
type columns struct {
	values struct { // a slice
		at       unsafe.Pointer
		len, cap int
	}
	Times  []int64
	Hashes []uint64
	Ops    []batch.Op
}

// A batch of any type looks so, or this does not compile.
var (
	_ [unsafe.Sizeof(columns{}) - unsafe.Sizeof(batch.Batch[byte]{})]struct{}
	_ [unsafe.Sizeof(batch.Batch[byte]{}) - unsafe.Sizeof(columns{})]struct{}
	_ [unsafe.Offsetof(columns{}.Ops) - unsafe.Offsetof(batch.Batch[byte]{}.Ops)]struct{}
	_ [unsafe.Offsetof(columns{}.Times) - unsafe.Offsetof(batch.Batch[byte]{}.Times)]struct{}
	_ [unsafe.Offsetof(columns{}.Hashes) - unsafe.Offsetof(batch.Batch[byte]{}.Hashes)]struct{}
)

func columnsOf[T any](b *batch.Batch[T]) *columns { return (*columns)(unsafe.Pointer(b)) }

func batchOf[T any](c *columns) *batch.Batch[T] { return (*batch.Batch[T])(unsafe.Pointer(c)) }

func (c *columns) len() int { return c.values.len }

// fillOps makes operations end where the rows do, if there are any.
func (c *columns) fillOps() {
	if len(c.Ops) > 0 {
		c.Ops = batch.FillOps(c.Ops, c.len())
	}
}

// add appends rows [from, to) of another batch of the kind. Operations may end
// before the rows do: the rest are inserts.
func (c *columns) add(b *columns, from, to int, hashed bool, k kind) {
	if len(b.Ops) > 0 {
		c.Ops = append(batch.FillOps(c.Ops, c.len()), b.Ops[from:to]...)
	}
	k.add(c, b, from, to)
	c.Times = append(c.Times, b.Times[from:to]...)
	if hashed {
		c.Hashes = append(c.Hashes, b.Hashes[from:to]...)
	}
}

// cut takes the first n rows out of a batch, whose memory they share.
func (c *columns) cut(n int, k kind) columns {
	piece := columns{Times: c.Times[:n:n]}
	k.cut(c, &piece, n)
	c.Times = c.Times[n:]
	if len(c.Hashes) > 0 {
		piece.Hashes, c.Hashes = c.Hashes[:n:n], c.Hashes[n:]
	}
	if len(c.Ops) > 0 {
		piece.Ops, c.Ops = c.Ops[:n:n], c.Ops[n:]
	}
	return piece
}

// empty removes all rows and keeps the memory. Values that hold pointers are
// cleared, so that a batch that is used again keeps nothing of the user's alive.
func (c *columns) empty(k kind) {
	if k.pointers() {
		k.clear(c, 0)
	}
	c.values.len = 0
	c.Times, c.Hashes, c.Ops = c.Times[:0], c.Hashes[:0], c.Ops[:0]
}

// kind is what depends on the type of records: what is done to the values of a
// batch.
type kind interface {
	make() *columns
	// add appends values [from, to) of b to those of c.
	add(c, b *columns, from, to int)
	// cut moves the first n values of c to piece.
	cut(c, piece *columns, n int)
	// move copies a value over another.
	move(c *columns, to, from int)
	// clear zeroes the values from one on.
	clear(c *columns, from int)
	// pointers says that values may hold some.
	pointers() bool
	// fixed is the length of every value encoded, 0 where they differ.
	fixed() int
	schema() string
	encode(dst []byte, c *columns) []byte
	// decode replaces the values by so many that src begins with.
	decode(src []byte, c *columns, rows int) (rest []byte, err error)
	// decoder is decode for values that an earlier version of the type, of
	// another schema, has written.
	decoder(schema string) (decode, error)
}

type decode func(src []byte, c *columns, rows int) (rest []byte, err error)

// typed implements Type and kind.
type typed[T any] struct {
	codec codec.Codec[T]
}

func (typed[T]) make() *columns { return columnsOf(new(batch.Batch[T])) }

func (typed[T]) add(c, b *columns, from, to int) {
	into := batchOf[T](c)
	into.Values = append(into.Values, batchOf[T](b).Values[from:to]...)
}

func (typed[T]) cut(c, piece *columns, n int) {
	b := batchOf[T](c)
	batchOf[T](piece).Values, b.Values = b.Values[:n:n], b.Values[n:]
}

func (typed[T]) move(c *columns, to, from int) {
	values := batchOf[T](c).Values
	values[to] = values[from]
}

func (typed[T]) clear(c *columns, from int) { clear(batchOf[T](c).Values[from:]) }

func (t typed[T]) pointers() bool { return t.codec.Fixed() == 0 }

func (t typed[T]) fixed() int { return t.codec.Fixed() }

func (t typed[T]) schema() string { return t.codec.Schema() }

func (t typed[T]) encode(dst []byte, c *columns) []byte {
	return t.codec.AppendAll(dst, batchOf[T](c).Values)
}

func (t typed[T]) decode(src []byte, c *columns, rows int) ([]byte, error) {
	return t.codec.DecodeAll(src, sized[T](c, rows))
}

func (t typed[T]) decoder(schema string) (decode, error) {
	one, err := codec.DecoderFor[T](schema)
	if err != nil {
		return nil, err
	}
	return func(src []byte, c *columns, rows int) ([]byte, error) {
		values := sized[T](c, rows)
		for i := range values {
			if src, err = one(src, &values[i]); err != nil {
				return nil, err
			}
		}
		return src, nil
	}, nil
}

// sized gives a batch so many values, for who overwrites them.
func sized[T any](c *columns, rows int) []T {
	b := batchOf[T](c)
	if cap(b.Values) < rows {
		b.Values = make([]T, rows)
	}
	b.Values = b.Values[:rows]
	return b.Values
}
