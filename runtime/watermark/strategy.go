package watermark

import (
	"math"
	"time"

	"github.com/millrace/millrace/runtime/batch"
)

// DefaultIdleAfter is how long a split must have been empty to become idle.
const DefaultIdleAfter = 5 * time.Second

// Strategy says how a source finds event time. The zero Strategy takes the
// times that the source gave, in order, and the default idle-after time.
type Strategy[T any] struct {
	// Timestamp returns the event time of a record in Unix milliseconds; nil
	// keeps what the source gave.
	Timestamp func(T) int64
	// OutOfOrderness is how much later than a record with a greater time one
	// may come without being late; 0 says that times never fall in a split.
	OutOfOrderness time.Duration
	// IdleAfter is how long a caught-up split holds time back: 0 is
	// DefaultIdleAfter, a negative one is for ever.
	IdleAfter time.Duration
	// MaxDrift bounds how far a split may be read ahead of the one furthest
	// behind in the same subtask; 0 is without bound.
	MaxDrift time.Duration
}

// Stamp sets the times of records from the row on and returns the greatest,
// batch.NoTime when there is none.
func (s *Strategy[T]) Stamp(b *batch.Batch[T], from int) int64 {
	greatest := int64(batch.NoTime)
	if s.Timestamp == nil {
		for _, t := range b.Times[from:] {
			greatest = max(greatest, t)
		}
		return greatest
	}
	times := b.Times[from:len(b.Values)]
	for i, v := range b.Values[from:] {
		t := s.Timestamp(v)
		times[i] = t
		greatest = max(greatest, t)
	}
	return greatest
}

// Tracker returns a Tracker with the strategy's bounds.
func (s *Strategy[T]) Tracker() *Tracker {
	return NewTracker(s.OutOfOrderness, s.IdleAfter, s.MaxDrift)
}

// behind is the watermark that a greatest time of t gives. Records with the
// time of the watermark itself are late, so it is one less than the bound.
func behind(t, outOfOrderness int64) int64 {
	if t < math.MinInt64+1+outOfOrderness {
		return batch.NoTime
	}
	return t - outOfOrderness - 1
}
