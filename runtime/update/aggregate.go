package update

import (
	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/operator"
	"github.com/millrace/millrace/runtime/state"
)

// Aggregate is what NewAggregate does. The functions are one subtask's.
type Aggregate[K comparable, T, A, R any] struct {
	Key func(T) K
	New func() A
	Add func(acc *A, v T)
	// Remove takes a row out again. It may be nil for input without deletes.
	Remove func(acc *A, v T)
	// Result is made of the accumulator whenever it is needed, the old one
	// too: it depends on its arguments alone.
	Result func(key K, acc A) R
	// Same says that two results need no update.
	Same func(a, b R) bool
}

// Counted is an accumulator with the number of its rows; a key without rows has no
// state.
type Counted[A any] struct {
	Rows int64
	Acc  A
}

// AggregateState is the name of the state of NewAggregate.
const AggregateState = "aggregate"

// NewAggregate returns an operator that keeps a result for each key that has
// rows. With a TTL each row of a key is a use of it.
func NewAggregate[K comparable, T, A, R any](a Aggregate[K, T, A, R], ttl ...state.TTL) operator.Operator {
	return newKeyed(a.Key, &aggregate[K, T, A, R]{Aggregate: a}, ttl)
}

type aggregate[K comparable, T, A, R any] struct {
	Aggregate[K, T, A, R]
	table   *state.Table[K, Counted[A]]
	expires bool
	out     *changes[R]
	// gone is called with a key when its last row goes; nil for nobody. It leaves
	// all values where they are.
	gone func(hash uint64, key K) int
}

func (a *aggregate[K, T, A, R]) open(ctx *operator.Context, out *changes[R], ttl []state.TTL) (err error) {
	a.out, a.expires = out, len(ttl) > 0
	a.table, err = state.NewTable[K, Counted[A]](ctx.State, AggregateState, ttl...)
	ctx.State.Describe(AggregateState, "value")
	return err
}

func (a *aggregate[K, T, A, R]) fold(hash uint64, key K, b *batch.Batch[T], i int32, next []int32) {
	var acc *Counted[A]
	var fresh bool
	if a.expires {
		acc, fresh = a.table.Renew(hash, key)
	} else {
		acc, fresh = a.table.Upsert(hash, key)
	}
	var old R
	if fresh {
		acc.Acc = a.New()
	} else if !a.out.silent() {
		old = a.Result(key, acc.Acc)
	}
	for ; i >= 0; i = next[i] {
		switch {
		case b.OpOf(int(i)) == batch.Insert:
			a.Add(&acc.Acc, b.Values[i])
			acc.Rows++
		case acc.Rows == 0:
			a.out.unmatched++
		default:
			a.Remove(&acc.Acc, b.Values[i])
			if acc.Rows--; acc.Rows > 0 {
				continue
			}
			if a.gone != nil {
				a.gone(hash, key)
			}
			if next[i] >= 0 { // a key that has rows again begins anew
				acc.Acc = a.New()
			}
		}
	}
	if acc.Rows == 0 {
		a.table.Delete(hash, key)
		if !fresh && !a.out.silent() {
			a.out.delete(old)
		}
		return
	}
	if a.out.silent() {
		return
	}
	now := a.Result(key, acc.Acc)
	if !fresh {
		if a.Same(old, now) {
			return
		}
		a.out.delete(old)
	}
	a.out.insert(now)
}

func (a *aggregate[K, T, A, R]) final(from uint64) (uint64, bool) {
	return finish(a.table, from, func(key K, acc *Counted[A]) { a.out.insert(a.Result(key, acc.Acc)) })
}
