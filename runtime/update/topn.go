package update

import (
	"slices"

	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/codec"
	"github.com/millrace/millrace/runtime/operator"
	"github.com/millrace/millrace/runtime/state"
)

// Top is what NewTopN and NewRanked do: the first N rows of each key in the order
// of Before. Rows of which neither is before the other are in the order in which
// they came.
type Top[K comparable, T, R any] struct {
	Key    func(T) K
	N      int
	Before func(a, b T) bool
	// Row makes what is emitted of a row and its rank, which begins at 1.
	Row func(rank int, v T) R
	// Ranked says that Row depends on the rank, so that rows that move are
	// emitted anew.
	Ranked bool
}

// TopState is the name of the state of NewTopN and NewRanked.
const TopState = "top"

// NewTopN returns the operator for input without deletes, which keeps N rows a
// key. A row that is not among them costs one comparison; with a TTL it reads, one
// that comes among them is written.
func NewTopN[K comparable, T, R any](t Top[K, T, R], ttl ...state.TTL) operator.Operator {
	return newKeyed(t.Key, &topN[K, T, R]{Top: t}, ttl)
}

type topN[K comparable, T, R any] struct {
	Top[K, T, R]
	table   *state.Table[K, []T]
	expires bool
	codec   codec.Codec[T]
	out     *changes[R]
	// old are the rows before a batch, and origin the places there of those that
	// are in the list now, -1 for new ones.
	old    []T
	origin []int32
}

func (o *topN[K, T, R]) open(ctx *operator.Context, out *changes[R], ttl []state.TTL) (err error) {
	o.out, o.expires = out, len(ttl) > 0
	if o.codec, err = codec.Derive[T](); err != nil {
		return err
	}
	o.table, err = state.NewTable[K, []T](ctx.State, TopState, ttl...)
	ctx.State.Describe(TopState, "value")
	return err
}

func (o *topN[K, T, R]) fold(hash uint64, key K, b *batch.Batch[T], i int32, next []int32) {
	var top *[]T
	var had bool
	if o.expires {
		top, had = o.table.Live(hash, key)
	} else {
		top, had = o.table.Get(hash, key)
	}
	if had && len(*top) >= o.N {
		last := &(*top)[o.N-1]
		for i >= 0 && !o.Before(b.Values[i], *last) {
			i = next[i]
		}
		if i < 0 {
			return
		}
	}
	p, _ := o.table.Renew(hash, key)
	rows := *p
	o.old, o.origin = append(o.old[:0], rows...), o.origin[:0]
	for j := range rows {
		o.origin = append(o.origin, int32(j))
	}
	for ; i >= 0; i = next[i] {
		v := &b.Values[i]
		if len(rows) >= o.N {
			if !o.Before(*v, rows[o.N-1]) {
				continue
			}
			rows, o.origin = rows[:o.N-1], o.origin[:o.N-1]
		}
		at := place(rows, *v, o.Before)
		rows, o.origin = slices.Insert(rows, at, *v), slices.Insert(o.origin, at, -1)
		o.codec.Detach(&rows[at], nil) // of the batch's memory
	}
	*p = rows
	if !o.out.silent() {
		o.emit(rows)
	}
}

// place is where v belongs in rows that are in order: behind its equals.
func place[T any](rows []T, v T, before func(a, b T) bool) int {
	low, high := 0, len(rows)
	for low < high {
		if mid := int(uint(low+high) >> 1); before(v, rows[mid]) {
			high = mid
		} else {
			low = mid + 1
		}
	}
	return low
}

// emit shows what has changed from old to top.
func (o *topN[K, T, R]) emit(top []T) {
	if o.Ranked {
		for i := range top {
			if o.origin[i] == int32(i) {
				continue
			}
			if i < len(o.old) {
				o.out.delete(o.Row(i+1, o.old[i]))
			}
			o.out.insert(o.Row(i+1, top[i]))
		}
		return
	}
	// Rows only come, so those that stay are the first of the old ones.
	stay := 0
	for _, at := range o.origin {
		if at >= 0 {
			stay++
		}
	}
	for i, at := range o.origin {
		if at >= 0 {
			continue
		}
		if stay < len(o.old) {
			o.out.delete(o.Row(0, o.old[stay]))
			stay++
		}
		o.out.insert(o.Row(0, top[i]))
	}
}

func (o *topN[K, T, R]) final(from uint64) (uint64, bool) {
	return finish(o.table, from, func(_ K, top *[]T) {
		for i := range *top {
			o.out.insert(o.Row(i+1, (*top)[i]))
		}
	})
}
