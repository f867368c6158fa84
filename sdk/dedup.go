package sdk

import (
	"cmp"
	"errors"

	"github.com/millrace/millrace/runtime/operator"
	"github.com/millrace/millrace/runtime/state"
	"github.com/millrace/millrace/runtime/update"
)

// First emits the first record of each key, and no other: what is left when
// repetitions are taken out.
//
// With a TTL d a record is a repetition for d after the one that was emitted; with
// TTL(d).OnRead(), for d after the last repetition.
func (k KeyedStream[K, T]) First[Name ~string](name Name, opts ...StateOption) DataStream[T] {
	ttl, wrong := lifetimes(opts)
	out, n := attachKeyed[K, T, T](k, "First", string(name), func() operator.Operator { return update.NewFirst(k.key, ttl...) })
	n.plan = append(n.plan, func() error { return cmp.Or(wrong, n.declareState()) })
	return out
}

// Last keeps the last row of each key: a table of which each record sets a row.
// Rows of one key that come from several subtasks come in any order; Best goes by
// the rows themselves.
func (k KeyedStream[K, T]) Last[Name ~string](name Name, opts ...StateOption) Updates[T] {
	return best(k.AsUpdates(), "Last", string(name), opts, func(_, _ T) bool { return true })
}

// Best keeps one row of each key: the first, until one comes that is better than
// the one kept. It is TopN of one row at half the cost: the newest bid of a bidder
// has
//
//	func(v, than Bid) bool { return v.At.After(than.At) }
func (k KeyedStream[K, T]) Best[Name ~string](name Name, better func(v, than T) bool, opts ...StateOption) Updates[T] {
	return best(k.AsUpdates(), "Best", string(name), opts, better)
}

func best[K comparable, T any](k KeyedUpdates[K, T], kind, name string, opts []StateOption, better func(v, than T) bool) Updates[T] {
	return attachKeyedUpdates[K, T, T](k, kind, name, opts, func() error {
		if better == nil {
			return errors.New("its function is nil")
		}
		return nil
	}, func(ttl []state.TTL) operator.Operator { return update.NewBest(k.key, better, ttl...) })
}

// Distinct shows one row for each key, however many there are: the first that
// came. The row goes when the last one of its key has gone.
func (k KeyedUpdates[K, T]) Distinct[Name ~string](name Name, opts ...StateOption) Updates[T] {
	return attachKeyedUpdates[K, T, T](k, "Distinct", string(name), opts, func() error { return nil },
		func(ttl []state.TTL) operator.Operator { return update.NewDistinct[K, T](k.key, ttl...) })
}

// Distincts is an aggregate of rows and of the different values in them: how many
// bidders, and how many of them bid more than a thousand. Each value is state of
// its own, so a key may have any number.
//
// A value may count in up to 64 facets, a bit each, as "all" and "above a
// thousand" are: what is asked of one value costs one look at the state then.
type Distincts[T, V, A any] struct {
	// New makes an empty accumulator.
	New func() A
	// Add takes in a row, Remove takes it out. Either may be nil where only
	// values count, Remove also where no row ever goes.
	Add, Remove func(acc *A, v T)
	// Values hands the values of a row to each, with the facets in which they
	// count. It depends on the row alone.
	Values func(v T, each func(value V, facets uint64))
	// Came is called with the facets in which a value has not been before, Went
	// with those in which no row has it any more. Went may be nil where no row
	// ever goes.
	Came, Went func(acc *A, value V, facets uint64)
}

// AggregateDistinct keeps result of the rows of each key and of the different
// values in them.
func (k KeyedUpdates[K, T]) AggregateDistinct[V comparable, A any, R comparable](name string, agg Distincts[T, V, A], result func(key K, acc A) R, opts ...StateOption) Updates[R] {
	values := update.Values[K, V, T, A, R]{
		Aggregate: update.Aggregate[K, T, A, R]{Key: k.key, New: agg.New, Add: agg.Add, Remove: agg.Remove, Result: result, Same: func(a, b R) bool { return a == b }},
		Values:    agg.Values, Came: agg.Came, Went: agg.Went, Deletes: !k.u.inserts,
	}
	return attachKeyedUpdates[K, T, R](k, "Distinct Aggregate", name, opts, func() error {
		switch {
		case agg.New == nil || agg.Values == nil || agg.Came == nil || result == nil:
			return errors.New("it needs New, Values, Came and a result function")
		case values.Deletes && (agg.Went == nil || agg.Add != nil && agg.Remove == nil):
			return errors.New("rows of its input also go, and it cannot take them out: give it Went, and Remove beside Add")
		}
		return nil
	}, func(ttl []state.TTL) operator.Operator { return update.NewValues(values, ttl...) })
}

// CountDistinct keeps how many different values the rows of each key have, and
// result of that number, exactly.
func (k KeyedUpdates[K, T]) CountDistinct[V comparable, R comparable](name string, value func(v T) V, result func(key K, n int64) R, opts ...StateOption) Updates[R] {
	agg := Distincts[T, V, int64]{
		New:    func() int64 { return 0 },
		Values: func(v T, each func(V, uint64)) { each(value(v), 1) },
		Came:   func(acc *int64, _ V, _ uint64) { *acc++ },
		Went:   func(acc *int64, _ V, _ uint64) { *acc-- },
	}
	if value == nil {
		agg.Values = nil
	}
	return k.AggregateDistinct(name, agg, result, opts...)
}
