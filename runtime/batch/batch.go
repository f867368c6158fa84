// Package batch holds records as columns. A batch is what travels along every
// edge and through every chain: nothing in the runtime hands over one record.
//
// A batch belongs to one goroutine at a time. Whoever is called with a batch
// has borrowed it for that call: it may read the columns, and must neither
// change nor keep them (records that are values may be copied out).
package batch

import "math"

// Rows is the number of records at which a batch is full. Larger ones are
// legal (a flat map may overshoot) but nobody should make them on purpose.
const Rows = 512

// NoTime is the event time of a record that has none, and the watermark of an
// input that has not seen one. EndOfTime is the watermark after the last record.
const (
	NoTime    = math.MinInt64
	EndOfTime = math.MaxInt64
)

// Op is what a row of an update stream does to the table that the stream is
// the changelog of.
type Op int8

// Operations. A row that changes is a Delete of the old one and an Insert of
// the new one, in that order.
const (
	Insert Op = 0
	Delete Op = 1
)

func (o Op) String() string {
	if o == Delete {
		return "-"
	}
	return "+"
}

// Batch is a run of records in order: values, their event times in
// milliseconds since the Unix epoch (UTC), and on keyed edges their key hashes.
type Batch[T any] struct {
	Values []T
	Times  []int64
	// Hashes has the length of Values on a keyed edge and is empty elsewhere.
	Hashes []uint64
	// Ops has the length of Values, or is empty: then all rows are inserts. Only
	// operators of update streams see it; any other stream leaves it empty.
	Ops []Op
}

// Len is the number of records.
func (b *Batch[T]) Len() int { return len(b.Values) }

// Full says that the batch has reached Rows.
func (b *Batch[T]) Full() bool { return len(b.Values) >= Rows }

// Append adds one record without a key hash.
func (b *Batch[T]) Append(v T, time int64) {
	b.Values = append(b.Values, v)
	b.Times = append(b.Times, time)
}

// AppendKeyed adds one record with its key hash.
func (b *Batch[T]) AppendKeyed(v T, time int64, hash uint64) {
	b.Values = append(b.Values, v)
	b.Times = append(b.Times, time)
	b.Hashes = append(b.Hashes, hash)
}

// AppendOp adds one row of an update stream without a key hash.
func (b *Batch[T]) AppendOp(op Op, v T, time int64) {
	if op != Insert || len(b.Ops) > 0 {
		b.Ops = append(FillOps(b.Ops, len(b.Values)), op)
	}
	b.Append(v, time)
}

// OpOf is the operation of row i.
func (b *Batch[T]) OpOf(i int) Op {
	if len(b.Ops) == 0 {
		return Insert
	}
	return b.Ops[i]
}

// FillOps extends an Ops column with inserts to so many rows, and leaves one
// that is as long alone.
func FillOps(ops []Op, rows int) []Op {
	for len(ops) < rows {
		ops = append(ops, Insert)
	}
	return ops
}

// Reset empties the batch and keeps its memory. Values are cleared, so that a
// recycled batch keeps nothing of the user's alive.
func (b *Batch[T]) Reset() {
	clear(b.Values)
	b.Values = b.Values[:0]
	b.Times = b.Times[:0]
	b.Hashes = b.Hashes[:0]
	b.Ops = b.Ops[:0]
}
