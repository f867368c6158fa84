package update

import (
	"math/bits"

	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/keygroup"
	"github.com/millrace/millrace/runtime/operator"
	"github.com/millrace/millrace/runtime/state"
)

// Values is what NewValues does: an aggregate of rows and of the different
// values in them. The functions are one subtask's.
type Values[K, V comparable, T, A, R any] struct {
	Aggregate[K, T, A, R]
	// Values hands the values of a row to its second argument, each with the
	// facets in which it counts, a bit each.
	Values func(v T, each func(value V, facets uint64))
	// Came says in which facets a value is new, Went in which its last row is
	// gone.
	Came, Went func(acc *A, value V, facets uint64)
	// Deletes says that rows go, too: the rows of each value and facet are
	// counted.
	Deletes bool
}

// ValuesState is the name of the state in which NewValues keeps values.
const ValuesState = "values"

// Facet is a value in one facet.
type Facet[V comparable] struct {
	Of  V
	Bit uint8
}

// NewValues returns an operator that keeps a result for each key that has rows.
// With a TTL each row of a key is a use of it, and of all its values.
func NewValues[K, V comparable, T, A, R any](a Values[K, V, T, A, R], ttl ...state.TTL) operator.Operator {
	v := &values[K, V, T, A, R]{Values: a}
	v.Aggregate.Add = func(acc *A, row T) {
		if a.Add != nil {
			a.Add(acc, row)
		}
		v.acc, v.op = acc, batch.Insert
		a.Values(row, v.each)
	}
	v.Aggregate.Remove = func(acc *A, row T) {
		if a.Remove != nil {
			a.Remove(acc, row)
		}
		v.acc, v.op = acc, batch.Delete
		a.Values(row, v.each)
	}
	v.rows.Aggregate = v.Aggregate
	v.each, v.note = v.mask, v.noteMask
	if a.Deletes {
		v.each, v.note = v.count, v.noteCount
	}
	return newKeyed(a.Key, v, ttl)
}

// values is an aggregate whose Add and Remove tell of the row's values.
type values[K, V comparable, T, A, R any] struct {
	Values[K, V, T, A, R]
	rows aggregate[K, T, A, R]
	each func(V, uint64)
	of   func(*V) uint64
	// seen are the facets in which a value has come, counts how many rows it has
	// in a facet: one of them, by Deletes.
	seen   *state.Table[state.MapKey[K, V], uint64]
	counts *state.Table[state.MapKey[K, Facet[V]], int64]
	out    *changes[R]

	// Of the row in hand:
	hash uint64
	key  K
	acc  *A
	op   batch.Op
	// of takes pointers, to memory that is not allocated for each.
	value state.MapKey[K, V]
	in    state.MapKey[K, Facet[V]]
	// ahead are the hashes of the values of a batch, note adds to them.
	ahead []uint64
	note  func(V, uint64)
}

func (o *values[K, V, T, A, R]) open(ctx *operator.Context, out *changes[R], ttl []state.TTL) (err error) {
	o.out = out
	if err = o.rows.open(ctx, out, ttl); err != nil {
		return err
	}
	hash, err := keygroup.HasherOf[K]()
	if err != nil {
		return err
	}
	if o.of, err = keygroup.HasherOf[V](); err != nil {
		return err
	}
	if o.Deletes {
		o.counts, err = state.NewTableHashed[state.MapKey[K, Facet[V]], int64](ctx.State, ValuesState, func(k *state.MapKey[K, Facet[V]]) uint64 {
			return o.facet(hash(&k.Key), &k.Of)
		})
	} else {
		o.seen, err = state.NewTableHashed[state.MapKey[K, V], uint64](ctx.State, ValuesState, func(k *state.MapKey[K, V]) uint64 {
			return state.Within(hash(&k.Key), o.of(&k.Of))
		})
	}
	ctx.State.Describe(ValuesState, "map")
	if err == nil && len(ttl) > 0 {
		o.together()
	}
	return err
}

// together lets the values of a key go with its accumulator: when that expires, and
// when its last row goes. Values may be left then: a delete of a row from before the
// key expired counts against the rows that came since.
func (o *values[K, V, T, A, R]) together() {
	var forget func(hash uint64, key K) int
	if o.Deletes {
		forget = state.PartsOf(o.counts).Clear
	} else {
		forget = state.PartsOf(o.seen).Clear
	}
	o.rows.gone = forget
	o.rows.table.OnExpire(forget)
}

func (o *values[K, V, T, A, R]) facet(hash uint64, f *Facet[V]) uint64 {
	return state.Within(hash, o.of(&f.Of)+uint64(f.Bit))
}

func (o *values[K, V, T, A, R]) fold(hash uint64, key K, b *batch.Batch[T], i int32, next []int32) {
	o.hash, o.key = hash, key
	o.rows.fold(hash, key, b, i, next)
}

func (o *values[K, V, T, A, R]) final(from uint64) (uint64, bool) { return o.rows.final(from) }

// look has memory bring the values of a batch: they are many and far apart, and
// with each row they would be waited for.
func (o *values[K, V, T, A, R]) look(b *batch.Batch[T], g *groups[K]) {
	table := interface {
		Far() bool
		Ahead(hashes []uint64, i int)
	}(o.seen)
	if o.Deletes {
		table = o.counts
	}
	if !table.Far() {
		return
	}
	o.ahead = o.ahead[:0]
	for j, hash := range g.hashes {
		o.hash = hash
		for i := g.first[j]; i >= 0; i = g.next[i] {
			o.Values.Values(b.Values[i], o.note)
		}
	}
	for i := 0; i < len(o.ahead); i += state.Stride {
		table.Ahead(o.ahead, i)
	}
}

func (o *values[K, V, T, A, R]) noteMask(value V, _ uint64) {
	o.value.Of = value
	o.ahead = append(o.ahead, state.Within(o.hash, o.of(&o.value.Of)))
}

func (o *values[K, V, T, A, R]) noteCount(value V, facets uint64) {
	o.in.Of.Of = value
	for left := facets; left != 0; left &= left - 1 {
		o.in.Of.Bit = uint8(bits.TrailingZeros64(left))
		o.ahead = append(o.ahead, o.facet(o.hash, &o.in.Of))
	}
}

// mask takes in a value of input without deletes.
func (o *values[K, V, T, A, R]) mask(value V, facets uint64) {
	o.value = state.MapKey[K, V]{Key: o.key, Of: value}
	hash := state.Within(o.hash, o.of(&o.value.Of))
	seen, ok := o.seen.Get(hash, o.value)
	if ok && facets&^*seen == 0 {
		return
	}
	seen, _ = o.seen.Upsert(hash, o.value)
	fresh := facets &^ *seen
	*seen |= facets
	o.Came(o.acc, value, fresh)
}

// count takes in or out a value.
func (o *values[K, V, T, A, R]) count(value V, facets uint64) {
	changed := uint64(0)
	for left := facets; left != 0; left &= left - 1 {
		bit := left & -left
		o.in = state.MapKey[K, Facet[V]]{Key: o.key, Of: Facet[V]{value, uint8(bits.TrailingZeros64(bit))}}
		at, hash := o.in, o.facet(o.hash, &o.in.Of)
		if o.op == batch.Insert {
			n, fresh := o.counts.Upsert(hash, at)
			*n++
			if fresh {
				changed |= bit
			}
			continue
		}
		n, ok := o.counts.Get(hash, at)
		switch {
		case !ok:
			o.out.unmatched++
		case *n == 1:
			o.counts.Delete(hash, at)
			changed |= bit
		default:
			n, _ = o.counts.Upsert(hash, at)
			*n--
		}
	}
	switch {
	case changed == 0:
	case o.op == batch.Insert:
		o.Came(o.acc, value, changed)
	default:
		o.Went(o.acc, value, changed)
	}
}
