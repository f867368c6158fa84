package sdk

import (
	"fmt"

	"github.com/millrace/millrace/runtime/keygroup"
	"github.com/millrace/millrace/runtime/sketch"
)

type (
	// DistinctSketch is the accumulator of ApproxDistinct; Estimate is how many
	// different values there were.
	DistinctSketch = sketch.Distinct
	// QuantileSketch is the accumulator of Quantiles; Quantile(0.99) is the 99th
	// percentile.
	QuantileSketch = sketch.Quantiles
)

// DistinctCount keeps the different f of the records: len of the accumulator is how
// many there are, exactly. It is for small sets, for the accumulator grows with
// them and is one value of state; ApproxDistinct is for large ones.
func DistinctCount[T any, V comparable](f func(v T) V) Aggregate[T, map[V]bool] {
	return Aggregate[T, map[V]bool]{
		New: func() map[V]bool { return map[V]bool{} },
		Add: func(acc *map[V]bool, v T) { (*acc)[f(v)] = true },
		Merge: func(a, b *map[V]bool) {
			for v := range *b {
				(*a)[v] = true
			}
		},
	}
}

// ApproxDistinct estimates how many different f of the records there are, in at
// most 16 KiB: exactly, but for one in some 100,000, up to about a thousand, and with a
// standard error of 0.81 % beyond. Values are booleans, numbers, strings, and
// structs and arrays of these, as keys are.
func ApproxDistinct[T any, V comparable](f func(v T) V) Aggregate[T, DistinctSketch] {
	hash, err := keygroup.HasherOf[V]()
	if err != nil {
		panic(fmt.Sprintf("ApproxDistinct: %v", err)) // in build: the job is refused
	}
	return Aggregate[T, DistinctSketch]{
		New: func() DistinctSketch { return DistinctSketch{} },
		Add: func(acc *DistinctSketch, v T) {
			x := f(v)
			acc.Add(hash(&x))
		},
		Merge: func(a, b *DistinctSketch) { a.Merge(b) },
	}
}

// Quantiles estimates quantiles of f of the records, each within 1 % of itself, in
// at most 32 KiB. A NaN is left out.
func Quantiles[T any](f func(v T) float64) Aggregate[T, QuantileSketch] {
	return Aggregate[T, QuantileSketch]{
		New:   func() QuantileSketch { return QuantileSketch{} },
		Add:   func(acc *QuantileSketch, v T) { acc.Add(f(v)) },
		Merge: func(a, b *QuantileSketch) { a.Merge(b) },
	}
}
