package window

import (
	"slices"

	"github.com/millrace/millrace/runtime/operator"
)

// Kept is a record of a window that keeps its records, with its event time in
// Unix milliseconds.
type Kept[T any] struct {
	Millis int64
	Value  T
}

// Evictor chooses, before a window fires, which of its records are to stay, in
// order of arrival. It may take the slice apart.
type Evictor[T any] func(w Window, all []Kept[T]) []Kept[T]

// KeepLast keeps the n records that came last.
func KeepLast[T any](n int) Evictor[T] {
	return func(_ Window, all []Kept[T]) []Kept[T] { return all[max(0, len(all)-n):] }
}

// KeepNewest keeps records that are not more than some milliseconds older than
// the newest.
func KeepNewest[T any](millis int64) Evictor[T] {
	return func(_ Window, all []Kept[T]) []Kept[T] {
		newest := all[0].Millis
		for _, k := range all {
			newest = max(newest, k.Millis)
		}
		return slices.DeleteFunc(all, func(k Kept[T]) bool { return k.Millis < newest-millis })
	}
}

// EvictingConfig describes windows that keep their records.
type EvictingConfig[K comparable, T, S, R any] struct {
	Assigner        Assigner
	Key             func(T) K
	Trigger         Trigger[T, S]
	Purging         bool
	AllowedLateness int64
	Late            string
	// Evict is asked before a window fires; nil keeps all. What it leaves out
	// is gone for good.
	Evict Evictor[T]
	// Result is called with the records that are left, if any. It must not keep
	// the slice.
	Result func(w Window, key K, all []T) R
}

// Triggered is the configuration of one subtask.
func (c EvictingConfig[K, T, S, R]) Triggered() TriggeredConfig[K, T, []Kept[T], S, R] {
	var at int64
	var values []T
	t := TriggeredConfig[K, T, []Kept[T], S, R]{Trigger: c.Trigger, Purging: c.Purging, Time: func(t int64) { at = t }}
	t.Assigner, t.Key, t.AllowedLateness, t.Late = c.Assigner, c.Key, c.AllowedLateness, c.Late
	t.Aggregate = Aggregate[T, []Kept[T]]{
		New:   func() []Kept[T] { return nil },
		Add:   func(acc *[]Kept[T], v T) { *acc = append(*acc, Kept[T]{at, v}) },
		Merge: func(a, b *[]Kept[T]) { *a = append(*a, *b...) },
	}
	if c.Evict != nil {
		t.Evict = func(w Window, acc *[]Kept[T]) bool {
			if len(*acc) > 0 {
				*acc = slices.Clip(c.Evict(w, *acc))
			}
			return len(*acc) > 0
		}
	}
	if c.Result != nil {
		t.Result = func(w Window, key K, acc []Kept[T]) R {
			values = values[:0]
			for i := range acc {
				values = append(values, acc[i].Value)
			}
			defer clear(values)
			return c.Result(w, key, values)
		}
	}
	return t
}

// NewEvicting makes the operator of one subtask.
func NewEvicting[K comparable, T, S, R any](c EvictingConfig[K, T, S, R]) operator.Operator {
	return NewTriggered(c.Triggered())
}
