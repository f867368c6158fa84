package sdk

import (
	"errors"
	"fmt"

	"github.com/millrace/millrace/runtime/operator"
	"github.com/millrace/millrace/runtime/state"
	"github.com/millrace/millrace/runtime/update"
)

// TopN keeps the first n rows of each key in the order of before, which says
// that a comes before b: the ten highest bids of an auction have
//
//	func(a, b Bid) bool { return a.Price > b.Price }
//
// Rows of which neither is before the other are in the order in which they came,
// which differs between runs where there are several sources: an order that leaves
// no ties makes the result the same each time.
//
// State is n rows a key, and a row that is not among them costs a comparison;
// where rows also go, all are kept, and one that goes lets the next take its
// place.
func (k KeyedUpdates[K, T]) TopN[Name ~string](name Name, n int, before func(a, b T) bool, opts ...StateOption) Updates[T] {
	return topN(k, "Top", string(name), opts, update.Top[K, T, T]{Key: k.key, N: n, Before: before, Row: func(_ int, v T) T { return v }})
}

// TopNRanked is TopN with the place of each row, from 1 on, in its result. A row
// that comes in moves those behind it, each of which is an update: where the place
// is not needed, TopN costs less.
func (k KeyedUpdates[K, T]) TopNRanked[R any](name string, n int, before func(a, b T) bool, result func(rank int, v T) R, opts ...StateOption) Updates[R] {
	return topN(k, "Top Ranked", name, opts, update.Top[K, T, R]{Key: k.key, N: n, Before: before, Row: result, Ranked: true})
}

func topN[K comparable, T, R any](k KeyedUpdates[K, T], kind, name string, opts []StateOption, top update.Top[K, T, R]) Updates[R] {
	build := func(ttl []state.TTL) operator.Operator { return update.NewRanked(top, ttl...) }
	if k.u.inserts {
		build = func(ttl []state.TTL) operator.Operator { return update.NewTopN(top, ttl...) }
	}
	return attachKeyedUpdates[K, T, R](k, kind, name, opts, func() error {
		switch {
		case top.N < 1:
			return fmt.Errorf("the first %d rows: it must be at least 1", top.N)
		case top.Before == nil || top.Row == nil:
			return errors.New("its function is nil")
		}
		return nil
	}, build)
}
