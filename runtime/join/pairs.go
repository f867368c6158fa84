package join

// Pairs is an Each that makes a result of each pair of rows, and of rows without a
// match on the sides of outer, for which the other argument of pair is nil.
func Pairs[K comparable, L, R, U any](outer Outer, pair func(l *L, r *R) U) func() func(*Group[K, L, R], func(U)) {
	return func() func(*Group[K, L, R], func(U)) {
		p := &pairs[K, L, R, U]{outer: outer, pair: pair}
		p.left, p.right, p.alone = p.onLeft, p.onRight, p.onAlone
		return p.each
	}
}

// pairs is where one subtask stands in a group. Its walks call functions that are
// made once, and point to the rows in it: a group allocates nothing.
type pairs[K comparable, L, R, U any] struct {
	outer   Outer
	pair    func(*L, *R) U
	group   *Group[K, L, R]
	emit    func(U)
	l       L
	r       R
	any     bool // there are left rows
	matched bool // there are right rows

	left  func(L) bool
	right func(R) bool
	alone func(R) bool
}

func (p *pairs[K, L, R, U]) each(g *Group[K, L, R], emit func(U)) {
	p.group, p.emit, p.any, p.matched = g, emit, false, false
	g.Left(p.left)
	if !p.any && p.outer.Right {
		g.Right(p.alone)
	}
}

func (p *pairs[K, L, R, U]) onLeft(l L) bool {
	p.l, p.any = l, true
	p.group.Right(p.right)
	if !p.matched && p.outer.Left {
		p.emit(p.pair(&p.l, nil))
	}
	return p.matched || p.outer.Left
}

func (p *pairs[K, L, R, U]) onRight(r R) bool {
	p.r, p.matched = r, true
	p.emit(p.pair(&p.l, &p.r))
	return true
}

func (p *pairs[K, L, R, U]) onAlone(r R) bool {
	p.r = r
	p.emit(p.pair(nil, &p.r))
	return true
}
