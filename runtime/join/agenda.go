package join

import "math"

// due is something to do for a key at an event time: with the waiting row of a
// number, or to clean its versions.
type due[K comparable] struct {
	at     int64
	hash   uint64
	key    K
	number uint64
}

// cleaning comes after the rows of its time.
const cleaning = math.MaxUint64

func (d *due[K]) before(e *due[K]) bool {
	return d.at < e.at || d.at == e.at && d.number < e.number
}

// agenda is a binary heap of what is due, the earliest first. It is not state, but
// made anew of it.
type agenda[K comparable] struct{ dues []due[K] }

func (a *agenda[K]) push(d due[K]) {
	a.dues = append(a.dues, d)
	i := len(a.dues) - 1
	for i > 0 {
		parent := (i - 1) / 2
		if !d.before(&a.dues[parent]) {
			break
		}
		a.dues[i] = a.dues[parent]
		i = parent
	}
	a.dues[i] = d
}

func (a *agenda[K]) pop() due[K] {
	top, n := a.dues[0], len(a.dues)-1
	last := a.dues[n]
	a.dues[n] = due[K]{}
	a.dues = a.dues[:n]
	for i := 0; n > 0; {
		child := 2*i + 1
		if child+1 < n && a.dues[child+1].before(&a.dues[child]) {
			child++
		}
		if child >= n || !a.dues[child].before(&last) {
			a.dues[i] = last
			break
		}
		a.dues[i] = a.dues[child]
		i = child
	}
	return top
}
