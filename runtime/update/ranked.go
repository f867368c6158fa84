package update

import (
	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/codec"
	"github.com/millrace/millrace/runtime/operator"
	"github.com/millrace/millrace/runtime/state"
)

// RowsState is the name of the state in which NewRanked keeps all rows.
const RowsState = "rows"

// NewRanked returns the operator of Top for input with deletes. It keeps all rows
// of a key, each under its encoding, with a sorted list of the first ones: when
// deletes have made that too short, it is made anew of all. With a TTL each row of
// a key is a use of it.
func NewRanked[K comparable, T, R any](t Top[K, T, R], ttl ...state.TTL) operator.Operator {
	return newKeyed(t.Key, &ranked[K, T, R]{Top: t}, ttl)
}

// Copies says how often a row is there. Seq numbers rows in the order in which
// they came.
type Copies struct {
	Rows int64
	Seq  uint64
}

// Ranking is the head of a key's rows.
type Ranking[T any] struct {
	// Next is the next row's Seq, Rows how many different rows there are.
	Next uint64
	Rows int64
	// Head is the first rows in order: all, or so many that none of the others
	// is before the last.
	Head []Place[T]
}

// Place is a row in the list.
type Place[T any] struct {
	Row T
	Copies
}

// ranked invariants, between batches:
//  1. rows holds every row that was inserted more often than deleted.
//  2. Head is sorted by Before, then Seq, and nothing outside comes before its last.
//  3. Head holds all rows, or at least N counted with their copies.
//  4. A key has rows only where it has a Ranking: when that expires, they go.
type ranked[K comparable, T, R any] struct {
	Top[K, T, R]
	cur   state.Current[K]
	rows  *state.Map[K, string, Copies]
	table *state.Table[K, Ranking[T]]
	codec codec.Codec[T]
	out   *changes[R]
	text  []byte
	// shown and now are the first N rows before and after a batch.
	shown, now []Place[T]
}

func (o *ranked[K, T, R]) open(ctx *operator.Context, out *changes[R], ttl []state.TTL) (err error) {
	o.out = out
	if o.codec, err = codec.Derive[T](); err != nil {
		return err
	}
	if o.rows, err = state.NewMap[K, string, Copies](ctx.State, &o.cur, RowsState); err != nil {
		return err
	}
	if o.table, err = state.NewTable[K, Ranking[T]](ctx.State, TopState, ttl...); err != nil {
		return err
	}
	ctx.State.Describe(TopState, "value")
	if len(ttl) > 0 {
		o.table.OnExpire(o.forget)
	}
	return nil
}

// forget removes the rows of a key.
func (o *ranked[K, T, R]) forget(hash uint64, key K) int {
	o.cur.Set(hash, key)
	n := o.rows.Len()
	o.rows.Clear()
	return n
}

// most is how long a head gets: the slack is what deletes use up before the head
// is made anew.
func (o *ranked[K, T, R]) most() int { return o.N + o.N/2 + 8 }

func (o *ranked[K, T, R]) fold(hash uint64, key K, b *batch.Batch[T], i int32, next []int32) {
	r, _ := o.table.Renew(hash, key)
	o.cur.Set(hash, key)
	o.shown = o.first(o.shown[:0], r)
	for ; i >= 0; i = next[i] {
		if v := &b.Values[i]; b.OpOf(int(i)) == batch.Insert {
			o.insert(r, v)
		} else {
			o.remove(r, v)
		}
	}
	o.now = o.first(o.now[:0], r)
	if len(o.now) < o.N && int64(len(r.Head)) < r.Rows {
		o.refill(r)
		o.now = o.first(o.now[:0], r)
	}
	if r.Rows == 0 {
		o.table.Delete(hash, key)
	}
	if !o.out.silent() {
		o.emit()
	}
}

// first appends the first N rows, copies counted.
func (o *ranked[K, T, R]) first(into []Place[T], r *Ranking[T]) []Place[T] {
	for i := range r.Head {
		for c := int64(0); c < r.Head[i].Rows; c++ {
			if len(into) == o.N {
				return into
			}
			into = append(into, r.Head[i])
		}
	}
	return into
}

// encoded is the row as a key. The bytes are the operator's.
func (o *ranked[K, T, R]) encoded(v *T) string {
	o.text = o.codec.Append(o.text[:0], v)
	return string(o.text)
}

func (o *ranked[K, T, R]) insert(r *Ranking[T], v *T) {
	text := o.encoded(v)
	copies, ok := o.rows.Get(text)
	if !ok {
		copies.Seq = r.Next
		r.Next++
		r.Rows++
	}
	copies.Rows++
	o.rows.Put(text, copies)
	if ok {
		if at := find(r.Head, copies.Seq); at >= 0 {
			r.Head[at].Copies = copies
		}
		return
	}
	o.enter(r, Place[T]{*v, copies}, int64(len(r.Head)) == r.Rows-1)
}

// enter puts a row into the head, if that holds all other rows or the row comes
// before its last.
func (o *ranked[K, T, R]) enter(r *Ranking[T], p Place[T], all bool) {
	n := len(r.Head)
	if !all && (n == 0 || !o.before(&p, &r.Head[n-1])) {
		return
	}
	at := n
	for at > 0 && o.before(&p, &r.Head[at-1]) {
		at--
	}
	r.Head = append(r.Head, p)
	copy(r.Head[at+1:], r.Head[at:])
	r.Head[at] = p
	o.codec.Detach(&r.Head[at].Row, nil) // of the batch's memory
	if n = len(r.Head); n > o.most() {
		clear(r.Head[n-1:])
		r.Head = r.Head[:n-1]
	}
}

func (o *ranked[K, T, R]) before(a, b *Place[T]) bool {
	return o.Before(a.Row, b.Row) || a.Seq < b.Seq && !o.Before(b.Row, a.Row)
}

func (o *ranked[K, T, R]) remove(r *Ranking[T], v *T) {
	text := o.encoded(v)
	copies, ok := o.rows.Get(text)
	if !ok {
		o.out.unmatched++
		return
	}
	at := find(r.Head, copies.Seq)
	if copies.Rows--; copies.Rows > 0 {
		o.rows.Put(text, copies)
		if at >= 0 {
			r.Head[at].Copies = copies
		}
		return
	}
	o.rows.Delete(text)
	r.Rows--
	if at >= 0 {
		n := copy(r.Head[at:], r.Head[at+1:])
		clear(r.Head[at+n:])
		r.Head = r.Head[:at+n]
	}
}

func find[T any](head []Place[T], seq uint64) int {
	for i := range head {
		if head[i].Seq == seq {
			return i
		}
	}
	return -1
}

// refill makes the head of all rows. It costs their number, and comes once for
// as many deletes from the head as that has slack.
func (o *ranked[K, T, R]) refill(r *Ranking[T]) {
	clear(r.Head)
	r.Head = r.Head[:0]
	seen := int64(0)
	for text, copies := range o.rows.All() {
		var v T
		if _, err := o.codec.Decode([]byte(text), &v); err != nil {
			panic("update: a row that this operator encoded does not decode: " + err.Error())
		}
		o.enter(r, Place[T]{v, copies}, int64(len(r.Head)) == seen)
		seen++
	}
}

// emit shows what has changed from shown to now.
func (o *ranked[K, T, R]) emit() {
	if o.Ranked {
		for i := range max(len(o.shown), len(o.now)) {
			had, has := i < len(o.shown), i < len(o.now)
			if had && has && o.shown[i].Seq == o.now[i].Seq {
				continue
			}
			if had {
				o.out.delete(o.Row(i+1, o.shown[i].Row))
			}
			if has {
				o.out.insert(o.Row(i+1, o.now[i].Row))
			}
		}
		return
	}
	// Both are in one order, so what is in both is found by going through them.
	i, j := 0, 0
	for i < len(o.shown) || j < len(o.now) {
		switch {
		case i < len(o.shown) && j < len(o.now) && o.shown[i].Seq == o.now[j].Seq:
			i++
			j++
		case j == len(o.now) || i < len(o.shown) && o.before(&o.shown[i], &o.now[j]):
			o.out.delete(o.Row(0, o.shown[i].Row))
			i++
		default:
			o.out.insert(o.Row(0, o.now[j].Row))
			j++
		}
	}
}

func (o *ranked[K, T, R]) final(from uint64) (uint64, bool) {
	return finish(o.table, from, func(_ K, r *Ranking[T]) {
		o.now = o.first(o.now[:0], r)
		for i := range o.now {
			o.out.insert(o.Row(i+1, o.now[i].Row))
		}
	})
}

// Keyed is a value with its key: what travels where rows are cut down to one of
// their values.
type Keyed[K comparable, V any] struct {
	Key   K
	Value V
}
