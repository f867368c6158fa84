package timer

import (
	"slices"

	"github.com/millrace/millrace/runtime/state"
)

// Timers are the timers of one operator in one domain of time (event or
// processing). Times are Unix milliseconds.
//
// Invariants:
//  1. Every (time, key) in the state has an entry in the heap.
//  2. A heap entry whose (time, key) is not in the state is dead: it is
//     dropped when it surfaces, and dead ones never outnumber the live ones
//     by more than deadSlack.
type Timers[K comparable] struct {
	times *state.Table[K, []int64]
	heap  heap[K]
	live  int
}

// deadSlack is how many dead heap entries are let be before a rebuild.
const deadSlack = 1024

// New declares the timers' state under a name. Rebuild must be called once
// state has been loaded.
func New[K comparable](s *state.Store, name string) (*Timers[K], error) {
	t, err := state.NewTable[K, []int64](s, name)
	if err != nil {
		return nil, err
	}
	s.Describe(name, "timer")
	return &Timers[K]{times: t}, nil
}

// Rebuild makes the heap from the state.
func (t *Timers[K]) Rebuild() {
	t.heap.reset()
	t.live = 0
	for from, done := uint64(0), false; !done; {
		from, done = t.times.Scan(from, 1<<16, func(hash uint64, key *K, at *[]int64) bool {
			for _, a := range *at {
				t.heap.push(entry[K]{at: a, hash: hash, key: *key})
				t.live++
			}
			return true
		})
	}
}

// Register sets a timer; one that is set already stays.
func (t *Timers[K]) Register(at int64, hash uint64, key K) {
	if times, ok := t.times.Get(hash, key); ok {
		if _, found := slices.BinarySearch(*times, at); found {
			return
		}
	}
	times, _ := t.times.Upsert(hash, key)
	i, _ := slices.BinarySearch(*times, at)
	*times = slices.Insert(*times, i, at)
	t.heap.push(entry[K]{at: at, hash: hash, key: key})
	t.live++
}

// Delete takes a timer back; one that is not set is no error.
func (t *Timers[K]) Delete(at int64, hash uint64, key K) {
	if t.remove(at, hash, key) && t.heap.len() > 2*t.live+deadSlack {
		t.Rebuild()
	}
}

// remove takes (at, key) out of the state and says whether it was there.
func (t *Timers[K]) remove(at int64, hash uint64, key K) bool {
	times, ok := t.times.Get(hash, key)
	if !ok {
		return false
	}
	i, found := slices.BinarySearch(*times, at)
	if !found {
		return false
	}
	if len(*times) == 1 {
		t.times.Delete(hash, key)
	} else {
		times, _ = t.times.Upsert(hash, key)
		*times = slices.Delete(*times, i, i+1)
	}
	t.live--
	return true
}

// Next is the time of the earliest timer.
func (t *Timers[K]) Next() (int64, bool) {
	for t.heap.len() > 0 {
		top := &t.heap.entries[0]
		if t.set(top) {
			return top.at, true
		}
		t.heap.pop()
	}
	return 0, false
}

func (t *Timers[K]) set(e *entry[K]) bool {
	times, ok := t.times.Get(e.hash, e.key)
	if !ok {
		return false
	}
	_, found := slices.BinarySearch(*times, e.at)
	return found
}

// Advance fires the timers up to and including to, earliest first and of one
// time in order of key hash, at most max of them. A timer is gone before fire
// sees it, so fire may set it anew. More says that some are left.
func (t *Timers[K]) Advance(to int64, max int, fire func(at int64, hash uint64, key K) error) (more bool, err error) {
	for n := 0; ; n++ {
		at, ok := t.Next()
		if !ok || at > to {
			return false, nil
		}
		if n == max {
			return true, nil
		}
		e := t.heap.pop()
		t.remove(e.at, e.hash, e.key)
		if err := fire(e.at, e.hash, e.key); err != nil {
			return false, err
		}
	}
}

// Len is the number of timers that are set.
func (t *Timers[K]) Len() int { return t.live }
