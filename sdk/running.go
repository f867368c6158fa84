package sdk

import (
	"cmp"
	"errors"

	"github.com/millrace/millrace/runtime/keygroup"
	"github.com/millrace/millrace/runtime/operator"
	"github.com/millrace/millrace/runtime/state"
	"github.com/millrace/millrace/runtime/update"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// KeyedUpdates is an update stream partitioned by key. Its operators keep state
// for each key and have a name, as those of a KeyedStream; their results are
// update streams.
//
// They take a batch of rows at a time: several changes of one key in it become
// one, and what changes nothing in the end emits nothing. So which changes are
// seen on the way depends on how rows come in; the table that they add up to does
// not. In a batch run (Env.Batch) each result is emitted once, at the end of the
// input.
//
// A Delete of a row that is not there (its Insert never came, or has expired) is
// passed over and counted as unmatchedRetractions. What expires, and when, and what
// then becomes of a key, is with TTL, which each operator takes as an option.
type KeyedUpdates[K comparable, T any] struct {
	u   Updates[T]
	key func(T) K
}

// AsUpdates makes an update stream of which every record is an insert: the way to
// running results of records.
func (k KeyedStream[K, T]) AsUpdates() KeyedUpdates[K, T] {
	return KeyedUpdates[K, T]{u: k.s.AsUpdates(), key: k.key}
}

// attachKeyedUpdates adds an operator that keeps state for each key.
func attachKeyedUpdates[K comparable, T, R any](k KeyedUpdates[K, T], kind, name string, opts []StateOption, check func() error,
	build func(ttl []state.TTL) operator.Operator) Updates[R] {
	ttl, wrong := lifetimes(opts)
	out, n := attachKeyed[K, T, R](KeyedStream[K, T]{s: k.u.s, key: k.key}, kind, name, func() operator.Operator { return build(ttl) })
	k.u.mark(n)
	n.plan = append(n.plan, func() error {
		if err := cmp.Or(check(), wrong); err != nil {
			return err
		}
		return n.declareState()
	})
	return Updates[R]{s: out}
}

// Aggregate keeps result of all rows of each key: of those that came and did not
// go. A key whose rows are all gone has none. result must not keep memory that the
// accumulator holds, and depends on its arguments alone.
//
// Where rows go, the aggregate must be able to take them out, with Subtract:
// Count, Sum and Mean can. For the greatest and the least there are Max and Min,
// for a number of different values CountDistinct.
func (k KeyedUpdates[K, T]) Aggregate[A any, R comparable](name string, agg Aggregate[T, A], result func(key K, acc A) R, opts ...StateOption) Updates[R] {
	return k.AggregateFunc(name, agg, result, func(a, b R) bool { return a == b }, opts...)
}

// AggregateFunc is Aggregate with results that cannot be compared with ==: same
// says that two of them need no update.
func (k KeyedUpdates[K, T]) AggregateFunc[A, R any](name string, agg Aggregate[T, A], result func(key K, acc A) R, same func(a, b R) bool, opts ...StateOption) Updates[R] {
	build := func(ttl []state.TTL) operator.Operator {
		return update.NewAggregate(update.Aggregate[K, T, A, R]{
			Key: k.key, New: agg.New, Add: agg.Add, Remove: removing(agg), Result: result, Same: same,
		}, ttl...)
	}
	return attachKeyedUpdates[K, T, R](k, "Running Aggregate", name, opts, func() error {
		switch {
		case agg.New == nil || agg.Add == nil || result == nil || same == nil:
			return errors.New("an aggregate needs New, Add and a result function")
		case agg.Subtract == nil && !k.u.inserts:
			return errors.New("its aggregate has no Subtract, and rows of its input also go: give the aggregate a Subtract that is exact, " +
				"or use Max, Min or TopN, which keep all rows")
		}
		return nil
	}, build)
}

// removing makes of Subtract what takes one row out. It belongs to one subtask.
func removing[T, A any](agg Aggregate[T, A]) func(*A, T) {
	if agg.Subtract == nil {
		return nil
	}
	one := new(A)
	return func(acc *A, v T) {
		*one = agg.New()
		agg.Add(one, v)
		agg.Subtract(acc, one)
	}
}

// Max keeps the greatest f of the rows of each key, and result of it. Where rows
// go it keeps all different values of a key, in state of their own.
func (k KeyedUpdates[K, T]) Max[V cmp.Ordered, R comparable](name string, f func(v T) V, result func(key K, max V) R, opts ...StateOption) Updates[R] {
	return runningExtreme(k, name, f, Max(f), result, opts, func(a, b V) bool { return cmp.Less(b, a) })
}

// Min is Max for the least.
func (k KeyedUpdates[K, T]) Min[V cmp.Ordered, R comparable](name string, f func(v T) V, result func(key K, min V) R, opts ...StateOption) Updates[R] {
	return runningExtreme(k, name, f, Min(f), result, opts, func(a, b V) bool { return cmp.Less(a, b) })
}

func runningExtreme[K comparable, T any, V cmp.Ordered, R comparable](k KeyedUpdates[K, T], name string, f func(T) V, agg Aggregate[T, Extreme[V]],
	result func(K, V) R, opts []StateOption, before func(a, b V) bool) Updates[R] {
	if f == nil || result == nil || k.key == nil || k.u.inserts {
		if f == nil {
			agg.Add = nil
		}
		return k.Aggregate(name, agg, func(key K, acc Extreme[V]) R { return result(key, acc.Value) }, opts...)
	}
	// Only the values are kept, so the rows are cut down before the exchange.
	values := k.u.s.env.add("Map")
	values.New = func() operator.Operator {
		return update.NewMap(func(v T) update.Keyed[K, V] { return update.Keyed[K, V]{Key: k.key(v), Value: f(v)} })
	}
	connect[T](values, 0, k.u.s.from, k.u.s.next().ship, nil)
	k.u.mark(values)
	top := update.Top[K, update.Keyed[K, V], R]{
		Key: func(v update.Keyed[K, V]) K { return v.Key }, N: 1,
		Before: func(a, b update.Keyed[K, V]) bool { return before(a.Value, b.Value) },
		Row:    func(_ int, v update.Keyed[K, V]) R { return result(v.Key, v.Value) },
	}
	return attachRows[K, update.Keyed[K, V], R](values, top.Key, "Running Extreme", name, opts, func(ttl []state.TTL) operator.Operator { return update.NewRanked(top, ttl...) })
}

// attachRows is attachKeyedUpdates behind an operator whose rows no stream shows.
func attachRows[K comparable, T, R any](from *node, key func(T) K, kind, name string, opts []StateOption, build func(ttl []state.TTL) operator.Operator) Updates[R] {
	ttl, wrong := lifetimes(opts)
	n := from.env.add(kind)
	n.keyed = true
	if name != "" {
		n.rename(name)
	}
	n.New = func() operator.Operator { return build(ttl) }
	hash, err := keygroup.HasherOf[K]()
	connect[T](n, 0, []output{{node: from}}, pb.Ship_SHIP_HASH, hashing(key, hash))
	for _, e := range n.Inputs {
		e.Updates = true
	}
	n.plan = append(n.plan, func() error { return cmp.Or(err, wrong) }, n.declareState)
	return Updates[R]{s: outputOf[R](n)}
}

// Mean is the accumulator of MeanOf: an exact sum and a count.
type Mean[N Integer] struct {
	Sum   N
	Count int64
}

// Float is the mean.
func (m Mean[N]) Float() float64 { return float64(m.Sum) / float64(m.Count) }

// Truncated is the mean without its fraction, 0 of no records.
func (m Mean[N]) Truncated() N {
	if m.Count == 0 {
		return 0
	}
	return m.Sum / N(m.Count)
}

// MeanOf keeps the mean of f of the records, as a sum that wraps around where the
// type does, and a count.
func MeanOf[T any, N Integer](f func(v T) N) Aggregate[T, Mean[N]] {
	return Aggregate[T, Mean[N]]{
		New:      func() Mean[N] { return Mean[N]{} },
		Add:      func(acc *Mean[N], v T) { acc.Sum += f(v); acc.Count++ },
		Merge:    func(a, b *Mean[N]) { a.Sum += b.Sum; a.Count += b.Count },
		Subtract: func(a, b *Mean[N]) { a.Sum -= b.Sum; a.Count -= b.Count },
	}
}
