package update

import (
	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/operator"
	"github.com/millrace/millrace/runtime/state"
)

// BestState is the name of the state of NewBest.
const BestState = "row"

// NewBest returns an operator that keeps one row for each key: the first, until
// one comes that is better. Its input has no deletes. With a TTL the row that is
// kept is written, one that is not better reads.
func NewBest[K comparable, T any](key func(T) K, better func(v, than T) bool, ttl ...state.TTL) operator.Operator {
	return newKeyed(key, &best[K, T]{better: better}, ttl)
}

// NewFirst returns an operator that emits the first row of each key at once, in a
// batch run, too. Its input has no deletes. With a TTL the first row is written,
// further ones read.
func NewFirst[K comparable, T any](key func(T) K, ttl ...state.TTL) operator.Operator {
	return newKeyed(key, &best[K, T]{first: true, better: func(_, _ T) bool { return false }}, ttl)
}

type best[K comparable, T any] struct {
	better func(v, than T) bool
	// first says that there is never a better one.
	first   bool
	table   *state.Table[K, T]
	expires bool
	out     *changes[T]
}

func (o *best[K, T]) open(ctx *operator.Context, out *changes[T], ttl []state.TTL) (err error) {
	o.out, o.expires = out, len(ttl) > 0
	o.table, err = state.NewTable[K, T](ctx.State, BestState, ttl...)
	ctx.State.Describe(BestState, "value")
	return err
}

func (o *best[K, T]) fold(hash uint64, key K, b *batch.Batch[T], i int32, next []int32) {
	var old *T
	var had bool
	if o.expires {
		old, had = o.table.Live(hash, key)
	} else {
		old, had = o.table.Get(hash, key)
	}
	winner := old
	if !had {
		winner, i = &b.Values[i], next[i]
	}
	for ; i >= 0; i = next[i] {
		if v := &b.Values[i]; o.better(*v, *winner) {
			winner = v
		}
	}
	if winner == old {
		return
	}
	if o.first || !o.out.silent() {
		if had {
			o.out.delete(*old)
		}
		o.out.insert(*winner)
	}
	v := *winner
	row, _ := o.table.Renew(hash, key)
	o.table.Set(hash, row, v)
}

func (o *best[K, T]) final(from uint64) (uint64, bool) {
	if o.first {
		return 0, true
	}
	return finish(o.table, from, func(_ K, v *T) { o.out.insert(*v) })
}

// DistinctState is the name of the state of NewDistinct.
const DistinctState = "distinct"

// Held is a row and how often it is there.
type Held[T any] struct {
	Row  T
	Rows int64
}

// NewDistinct returns an operator that shows one row for each key that has rows:
// the first that came since it had none. With a TTL each row of a key is a use of
// it.
func NewDistinct[K comparable, T any](key func(T) K, ttl ...state.TTL) operator.Operator {
	return newKeyed(key, &distinct[K, T]{}, ttl)
}

type distinct[K comparable, T any] struct {
	table *state.Table[K, Held[T]]
	out   *changes[T]
}

func (o *distinct[K, T]) open(ctx *operator.Context, out *changes[T], ttl []state.TTL) (err error) {
	o.out = out
	o.table, err = state.NewTable[K, Held[T]](ctx.State, DistinctState, ttl...)
	ctx.State.Describe(DistinctState, "value")
	return err
}

func (o *distinct[K, T]) fold(hash uint64, key K, b *batch.Batch[T], i int32, next []int32) {
	held, fresh := o.table.Renew(hash, key)
	var old T
	if !fresh {
		old = held.Row
	}
	shown := !fresh // the row that was shown is still there
	for ; i >= 0; i = next[i] {
		switch {
		case b.OpOf(int(i)) == batch.Insert:
			if held.Rows == 0 {
				o.table.Set(hash, held, Held[T]{Row: b.Values[i]})
				shown = false
			}
			held.Rows++
		case held.Rows == 0:
			o.out.unmatched++
		default:
			held.Rows--
		}
	}
	gone := held.Rows == 0
	if !o.out.silent() {
		if !fresh && (gone || !shown) {
			o.out.delete(old)
		}
		if !gone && !shown {
			o.out.insert(held.Row)
		}
	}
	if gone {
		o.table.Delete(hash, key)
	}
}

func (o *distinct[K, T]) final(from uint64) (uint64, bool) {
	return finish(o.table, from, func(_ K, v *Held[T]) { o.out.insert(v.Row) })
}
