package join

import (
	"slices"

	"github.com/millrace/millrace/runtime/state"
)

// eras are the kept rows of one side in stretches of event time, each a
// namespace of the state.
//
// Invariant: live holds the eras that have rows, or had, in ascending order of
// start; they do not overlap.
type eras[K comparable, V any] struct {
	s     *state.Store
	heads *state.Spaces[K, Head[V]]
	rest  *state.Spaces[state.ListKey[K], Row[V]]
	live  []era[K, V]
	last  int // the era that was asked for last
}

type era[K comparable, V any] struct {
	start int64
	rows  rows[K, V]
}

// means says what a namespace stands for (state.Spaces.Means).
func newEras[K comparable, V any](s *state.Store, name, means string) (e eras[K, V], err error) {
	hash, err := restHash[K]()
	if err != nil {
		return e, err
	}
	e.s = s
	if e.heads, err = state.NewSpaces[K, Head[V]](s, name); err != nil {
		return e, err
	}
	if e.rest, err = state.NewSpacesHashed[state.ListKey[K], Row[V]](s, name+restSuffix, hash); err != nil {
		return e, err
	}
	e.heads.Means(means)
	e.rest.Means(means)
	describe(s, name)
	return e, nil
}

// restore finds the eras that were loaded.
func (e *eras[K, V]) restore() {
	e.live = e.live[:0]
	for _, start := range slices.Clone(e.heads.Namespaces()) {
		e.live = append(e.live, e.open(start))
	}
}

func (e *eras[K, V]) open(start int64) era[K, V] {
	return era[K, V]{start, rows[K, V]{e.s, e.heads.Space(start), e.rest.Space(start)}}
}

// at returns the era that begins at start, made if need be.
func (e *eras[K, V]) at(start int64) *rows[K, V] {
	if e.last < len(e.live) && e.live[e.last].start == start {
		return &e.live[e.last].rows
	}
	i, found := slices.BinarySearchFunc(e.live, start, func(era era[K, V], start int64) int {
		switch {
		case era.start < start:
			return -1
		case era.start > start:
			return 1
		}
		return 0
	})
	if !found {
		e.live = slices.Insert(e.live, i, e.open(start))
	}
	e.last = i
	return &e.live[i].rows
}

// find returns the era that begins at start, or nil.
func (e *eras[K, V]) find(start int64) *rows[K, V] {
	for i := range e.live {
		if e.live[i].start == start {
			return &e.live[i].rows
		}
	}
	return nil
}

// from is the index of the first live era that begins at or after start.
func (e *eras[K, V]) from(start int64) int {
	i := 0
	for i < len(e.live) && e.live[i].start < start {
		i++
	}
	return i
}

// dropFirst drops the earliest era, in O(1).
func (e *eras[K, V]) dropFirst() {
	e.heads.Drop(e.live[0].start)
	e.rest.Drop(e.live[0].start)
	e.live = slices.Delete(e.live, 0, 1)
	e.last = 0
}
