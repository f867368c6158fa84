package sdk

import (
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

// StateOption is an option of keyed state: TTL.
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

// options gathers those of a state.
func (o *KeyedOp[K]) options(kind, name string, opts []StateOption) stateOptions {
	var all stateOptions
	for _, opt := range opts {
		if t, ok := opt.(StateTTL); ok && t.bad != nil {
			o.failed(kind, name, t.bad)
			continue
		}
		if opt != nil {
			opt.applyTo(&all)
		}
	}
	return all
}

// Value declares a value state.
func (o *KeyedOp[K]) Value[V any](name string, opts ...StateOption) *Value[K, V] {
	h, err := state.NewValue[K, V](o.store, o.cur, name, o.options("value", name, opts).ttl...)
	o.failed("value", name, err)
	return h
}

// List declares a list state.
func (o *KeyedOp[K]) List[E any](name string, opts ...StateOption) *List[K, E] {
	h, err := state.NewList[K, E](o.store, o.cur, name, o.options("list", name, opts).ttl...)
	o.failed("list", name, err)
	return h
}

// Map declares a map state.
func (o *KeyedOp[K]) Map[MK comparable, MV any](name string, opts ...StateOption) *Map[K, MK, MV] {
	h, err := state.NewMap[K, MK, MV](o.store, o.cur, name, o.options("map", name, opts).ttl...)
	o.failed("map", name, err)
	return h
}

// Reducing declares a state whose Add reduces what is there and a value to one:
// f of the reduction so far and the value. f must depend on its arguments alone.
func (o *KeyedOp[K]) Reducing[V any](name string, f func(sofar, v V) V, opts ...StateOption) *Reducing[K, V] {
	h, err := state.NewReducing(o.store, o.cur, name, f, o.options("reducing", name, opts).ttl...)
	if err == nil && f == nil {
		err = fmt.Errorf("its function is nil")
	}
	o.failed("reducing", name, err)
	return h
}

// Aggregating declares a state whose Add folds values into an accumulator, as agg
// says: Count, ApproxDistinct, or one's own. Of agg, New and Add are used.
func (o *KeyedOp[K]) Aggregating[T, A any](name string, agg Aggregate[T, A], opts ...StateOption) *Aggregating[K, T, A] {
	h, err := state.NewAggregating(o.store, o.cur, name, agg.New, agg.Add, o.options("aggregating", name, opts).ttl...)
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
