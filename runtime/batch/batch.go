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

// Batch is a run of records in order: values, their event times in
// milliseconds since the Unix epoch (UTC), and on keyed edges their key hashes.
type Batch[T any] struct {
	Values []T
	Times  []int64
	// Hashes has the length of Values on a keyed edge and is empty elsewhere.
	Hashes []uint64
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

// Reset empties the batch and keeps its memory. Values are cleared, so that a
// recycled batch keeps nothing of the user's alive.
func (b *Batch[T]) Reset() {
	clear(b.Values)
	b.Values = b.Values[:0]
	b.Times = b.Times[:0]
	b.Hashes = b.Hashes[:0]
}
