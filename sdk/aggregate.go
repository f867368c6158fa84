package sdk

import "cmp"

// Aggregate folds records T into an accumulator A. The accumulator is state:
// its type needs no pointers to be fast, but may have them (slices, maps,
// strings). Functions must not share memory between accumulators: what Merge
// takes from its second argument, it copies.
type Aggregate[T, A any] struct {
	// New makes an empty accumulator.
	New func() A
	// Add folds one record in.
	Add func(acc *A, v T)
	// Merge folds b into a, which holds the earlier records. It must be
	// associative, exactly: sums of floats are not. Sliding windows and
	// sessions need it. With it, records of windows are folded where they come
	// from, before they are exchanged, so that a hot key costs its subtask a row
	// now and then and not one a record.
	Merge func(a, b *A)
	// Subtract takes b out of a, exactly: counts and sums of integers can,
	// floats cannot. It is optional and makes overlapping windows cheaper.
	Subtract func(a, b *A)

	// keeps says that the accumulator holds all records: folding them early
	// would move them once more and make them no fewer.
	keeps bool
}

// Integer is any integer type.
type Integer interface {
	~int | ~int8 | ~int16 | ~int32 | ~int64 | ~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64
}

// Count counts records.
func Count[T any]() Aggregate[T, int64] {
	return Aggregate[T, int64]{
		New:      func() int64 { return 0 },
		Add:      func(acc *int64, _ T) { *acc++ },
		Merge:    func(a, b *int64) { *a += *b },
		Subtract: func(a, b *int64) { *a -= *b },
	}
}

// Sum adds up f of the records. It is for integers, whose sum does not depend on
// the order; it wraps around where the type does.
func Sum[T any, N Integer](f func(v T) N) Aggregate[T, N] {
	return Aggregate[T, N]{
		New:      func() N { return 0 },
		Add:      func(acc *N, v T) { *acc += f(v) },
		Merge:    func(a, b *N) { *a += *b },
		Subtract: func(a, b *N) { *a -= *b },
	}
}

// Extreme is the accumulator of Min and Max. Any is false while there was no
// record; the results of windows always had one.
type Extreme[V any] struct {
	Value V
	Any   bool
}

// Min keeps the least f of the records.
func Min[T any, V cmp.Ordered](f func(v T) V) Aggregate[T, Extreme[V]] {
	return extreme(f, func(v, than V) bool { return cmp.Less(v, than) })
}

// Max keeps the greatest f of the records.
func Max[T any, V cmp.Ordered](f func(v T) V) Aggregate[T, Extreme[V]] {
	return extreme(f, func(v, than V) bool { return cmp.Less(than, v) })
}

func extreme[T, V any](f func(T) V, better func(v, than V) bool) Aggregate[T, Extreme[V]] {
	take := func(acc *Extreme[V], v V) {
		if !acc.Any || better(v, acc.Value) {
			acc.Value, acc.Any = v, true
		}
	}
	return Aggregate[T, Extreme[V]]{
		New: func() Extreme[V] { return Extreme[V]{} },
		Add: func(acc *Extreme[V], v T) { take(acc, f(v)) },
		Merge: func(a, b *Extreme[V]) {
			if b.Any {
				take(a, b.Value)
			}
		},
	}
}

// Collect keeps all records, in order of arrival: the most flexible and the
// most expensive aggregate.
func Collect[T any]() Aggregate[T, []T] {
	return Aggregate[T, []T]{
		New:   func() []T { return nil },
		Add:   func(acc *[]T, v T) { *acc = append(*acc, v) },
		Merge: func(a, b *[]T) { *a = append(*a, *b...) },
		keeps: true,
	}
}
