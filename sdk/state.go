package sdk

import (
	"cmp"
	"fmt"
	"time"

	"github.com/millrace/millrace/runtime/state"
)

// State for the current key. Methods are for the goroutine of the subtask,
// inside the calls of its KeyedFn.
type (
	// Value is one value for each key.
	Value[K comparable, V any] = state.Value[K, V]
	// List is a list for each key; a checkpoint takes only what was added. A list
	// may be larger than memory: All walks it bit by bit.
	List[K comparable, E any] = state.List[K, E]
	// Map is a map for each key, of which each entry is state of its own. A map
	// may be larger than memory: All walks it bit by bit.
	Map[K, MK comparable, MV any] = state.Map[K, MK, MV]
	// Reducing is one value for each key, to which Add reduces others.
	Reducing[K comparable, V any] = state.Reducing[K, V]
	// Aggregating is an accumulator for each key, into which Add folds values.
	Aggregating[K comparable, T, A any] = state.Aggregating[K, T, A]
)

// StateOption is an option of keyed state, be it declared in a Process or that of
// an operator such as Reduce or TopN: TTL.
type StateOption interface{ applyTo(*stateOptions) }

type stateOptions struct {
	ttl []state.TTL
}

// StateTTL says when entries of a state expire; see TTL.
type StateTTL struct {
	ttl state.TTL
	bad error
}

// TTL lets entries of a state expire: a value, an element of a list, an entry of
// a map lives for d after it was last written, and is from then on as if it had
// been deleted. It is in event time, unless InProcessingTime.
//
//	last := op.Value[Visit]("last", sdk.TTL(24*time.Hour))
//
// In event time an entry that a record of time t wrote is there for records before
// t + d, and for those that are not late no sooner is it gone; for a record that
// comes late, and for timers in processing time, the time is the operator's
// watermark. In processing time the clock is read every few records. Both are
// exact to the millisecond, and d is at least one.
//
// What has expired is never returned, and is removed, from memory and from
// checkpoints, while records come, a little at a time. A list or a map with a TTL
// counts its Len by a walk.
//
// A TTL may come, change or go between versions of a job. Entries keep the time
// of their last use, by which a new d counts; entries of a state that had no TTL,
// or one in another time, are as if they had been used soon after the restore.
//
// # Operators
//
// An operator that keeps something for each key of its input takes a TTL as its
// last argument, as Flink's table.exec.state.ttl gives one to all:
//
//	best := bids.KeyBy(auctionOf).Best("best", higher, sdk.TTL(24*time.Hour))
//
// All that it has for a key is forgotten at once, d after that was last written:
// the number of rows, all values that are counted apart, all rows that are ranked.
// A record writes where the operator takes it in: always in Reduce, Aggregate, Max,
// Min, Distinct, CountDistinct and AggregateDistinct; the first of a key in First;
// one that takes a place in Best, Last and TopN, and in TopN each where rows also
// go. Those that are not taken in only read: with OnRead a key lives on as long as
// it has any records.
//
// What is forgotten is forgotten silently: nothing is emitted, and no row is taken
// back. The next record of the key begins anew, as the first one did: its result is
// an Insert without a Delete of the one before. That stays in the table that the
// changes add up to, until a sink that knows rows by a key (KeyedSink) puts the new
// one in its place; operators behind this one hold it until it expires there, so
// give them a TTL, too. A Delete of a row that came before the key was forgotten
// finds none and is passed over, counted as unmatchedRetractions; where the key has
// new rows, and the operator does not tell rows apart (Aggregate, Distinct), it
// takes away one of those. A TTL is longer than any two records are apart that
// belong together, and exact results do without.
//
// In event time what is forgotten depends on the records alone and not on how they
// were batched; changes of one key are then emitted for each event time that its
// rows have. In a batch run (Env.Batch) operators forget nothing, for it shows the
// result of all records; state declared in a Process expires there as ever.
func TTL(d time.Duration) StateTTL {
	t := StateTTL{ttl: state.TTL{For: d}}
	if d < time.Millisecond {
		t.bad = fmt.Errorf("TTL(%v): it must be at least 1ms", d)
	}
	return t
}

// InProcessingTime takes the clock of the machine instead of event times.
func (t StateTTL) InProcessingTime() StateTTL {
	t.ttl.Processing = true
	return t
}

// OnRead lets an entry live on when it is read, too. Each read is then a change
// for the next checkpoint.
func (t StateTTL) OnRead() StateTTL {
	t.ttl.OnRead = true
	return t
}

func (t StateTTL) applyTo(o *stateOptions) { o.ttl = append(o.ttl, t.ttl) }

// lifetimes gathers the times to live among options, of which there can be one.
func lifetimes(opts []StateOption) (ttl []state.TTL, err error) {
	var all stateOptions
	for _, opt := range opts {
		if t, ok := opt.(StateTTL); ok && t.bad != nil {
			err = cmp.Or(err, t.bad)
			continue
		}
		if opt != nil {
			opt.applyTo(&all)
		}
	}
	return all.ttl, err
}

// lifetimes gathers those of a state.
func (o *KeyedOp[K]) lifetimes(kind, name string, opts []StateOption) []state.TTL {
	ttl, err := lifetimes(opts)
	if err != nil {
		o.failed(kind, name, err)
	}
	return ttl
}

// Value declares a value state.
func (o *KeyedOp[K]) Value[V any](name string, opts ...StateOption) *Value[K, V] {
	h, err := state.NewValue[K, V](o.store, o.cur, name, o.lifetimes("value", name, opts)...)
	o.failed("value", name, err)
	return h
}

// List declares a list state.
func (o *KeyedOp[K]) List[E any](name string, opts ...StateOption) *List[K, E] {
	h, err := state.NewList[K, E](o.store, o.cur, name, o.lifetimes("list", name, opts)...)
	o.failed("list", name, err)
	return h
}

// Map declares a map state.
func (o *KeyedOp[K]) Map[MK comparable, MV any](name string, opts ...StateOption) *Map[K, MK, MV] {
	h, err := state.NewMap[K, MK, MV](o.store, o.cur, name, o.lifetimes("map", name, opts)...)
	o.failed("map", name, err)
	return h
}

// Reducing declares a state whose Add reduces what is there and a value to one:
// f of the reduction so far and the value. f must depend on its arguments alone.
func (o *KeyedOp[K]) Reducing[V any](name string, f func(sofar, v V) V, opts ...StateOption) *Reducing[K, V] {
	h, err := state.NewReducing(o.store, o.cur, name, f, o.lifetimes("reducing", name, opts)...)
	if err == nil && f == nil {
		err = fmt.Errorf("its function is nil")
	}
	o.failed("reducing", name, err)
	return h
}

// Aggregating declares a state whose Add folds values into an accumulator, as agg
// says: Count, ApproxDistinct, or one's own. Of agg, New and Add are used.
func (o *KeyedOp[K]) Aggregating[T, A any](name string, agg Aggregate[T, A], opts ...StateOption) *Aggregating[K, T, A] {
	h, err := state.NewAggregating(o.store, o.cur, name, agg.New, agg.Add, o.lifetimes("aggregating", name, opts)...)
	if err == nil && (agg.New == nil || agg.Add == nil) {
		err = fmt.Errorf("an aggregate needs New and Add")
	}
	o.failed("aggregating", name, err)
	return h
}

func (o *KeyedOp[K]) failed(kind, name string, err error) {
	if err == nil {
		err = checkName(name)
	}
	if err != nil {
		o.errs = append(o.errs, fmt.Errorf("%s state %q: %w", kind, name, err))
	}
}
