package exchange

// ring is a queue that keeps its memory.
type ring[E any] struct {
	buf  []E
	head int
	n    int
}

func (r *ring[E]) len() int { return r.n }

func (r *ring[E]) push(e E) {
	if r.n == len(r.buf) {
		grown := make([]E, max(8, 2*len(r.buf)))
		k := copy(grown, r.buf[r.head:])
		copy(grown[k:], r.buf[:r.head])
		r.buf, r.head = grown, 0
	}
	r.buf[r.index(r.n)] = e
	r.n++
}

func (r *ring[E]) pop() E {
	var zero E
	e := r.buf[r.head]
	r.buf[r.head] = zero
	r.head = r.index(1)
	r.n--
	return e
}

// remove takes the element at a place, counted from the first.
func (r *ring[E]) remove(i int) E {
	e := *r.at(i)
	for ; i > 0; i-- {
		*r.at(i) = *r.at(i - 1)
	}
	_ = r.pop()
	return e
}

func (r *ring[E]) at(i int) *E { return &r.buf[r.index(i)] }

func (r *ring[E]) first() *E { return &r.buf[r.head] }

func (r *ring[E]) last() *E { return &r.buf[r.index(r.n-1)] }

func (r *ring[E]) index(i int) int {
	i += r.head
	if i >= len(r.buf) {
		i -= len(r.buf)
	}
	return i
}
