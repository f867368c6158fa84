package window

import (
	"cmp"
	"slices"

	"github.com/millrace/millrace/runtime/keygroup"
	"github.com/millrace/millrace/runtime/state"
)

// Greatest returns what makes rankings that choose the n keys of the greatest
// scores, and all that tie with the last of them.
func Greatest[K comparable, A any, V cmp.Ordered](n int, score func(A) V) func() Ranking[K, A] {
	return func() Ranking[K, A] { return &greatest[K, A, V]{n: n, score: score} }
}

// greatest is a heap of the window's keys, the greatest score on top.
//
// Invariants:
//  1. ids maps a key to its item if and only if the item is in use.
//  2. heap[items[id].pos] is id for items in the heap, pos of others is -1.
//     Those are new, and dirty.
//  3. An item that is not dirty has the score of its key's accumulator.
type greatest[K comparable, A any, V cmp.Ordered] struct {
	n      int
	score  func(A) V
	groups keygroup.Range
	ids    *state.Table[K, int32]
	items  []item[K, V]
	free   []int32
	heap   []int32
	dirty  []int32
	// chosen is what the heap says, if valid.
	chosen []place[K]
	valid  bool
	queue  []int32 // of choose
}

type item[K comparable, V any] struct {
	place[K]
	score V
	pos   int32
	dirty bool
}

func (g *greatest[K, A, V]) open(r keygroup.Range) error {
	g.groups = r
	s := state.NewStore(r) // never frozen
	var err error
	if g.ids, err = state.NewTable[K, int32](s, "ranking"); err != nil {
		return err
	}
	return nil
}

func (g *greatest[K, A, V]) reset() {
	clear(g.items) // keys may hold strings
	g.items, g.free, g.heap, g.dirty = g.items[:0], g.free[:0], g.heap[:0], g.dirty[:0]
	g.chosen, g.valid = g.chosen[:0], false
	// The table had this one's types before, so it cannot fail now.
	if err := g.open(g.groups); err != nil {
		panic(err)
	}
}

func (g *greatest[K, A, V]) touch(hash uint64, key *K) {
	p, fresh := g.ids.Upsert(hash, *key)
	if fresh {
		*p = g.item(place[K]{hash, *key})
	}
	if it := &g.items[*p]; !it.dirty {
		it.dirty = true
		g.dirty = append(g.dirty, *p)
	}
	g.valid = false
}

// item returns a new item.
func (g *greatest[K, A, V]) item(p place[K]) int32 {
	fresh := item[K, V]{place: p, pos: -1}
	if n := len(g.free); n > 0 {
		id := g.free[n-1]
		g.free = g.free[:n-1]
		g.items[id] = fresh
		return id
	}
	g.items = append(g.items, fresh)
	return int32(len(g.items) - 1)
}

func (g *greatest[K, A, V]) settle(budget *int, value func(hash uint64, key *K) (*A, bool)) bool {
	for len(g.dirty) > 0 {
		if *budget <= 0 {
			return false
		}
		*budget--
		n := len(g.dirty) - 1
		id := g.dirty[n]
		g.dirty = g.dirty[:n]
		it := &g.items[id]
		it.dirty = false
		acc, ok := value(it.hash, &it.key)
		if !ok {
			g.remove(id)
			continue
		}
		it.score = g.score(*acc)
		if it.pos < 0 {
			it.pos = int32(len(g.heap))
			g.heap = append(g.heap, id)
			g.up(it.pos)
		} else if !g.up(it.pos) {
			g.down(it.pos)
		}
	}
	if !g.valid {
		g.choose()
		g.valid = true
	}
	return true
}

// remove takes a key out whose accumulator is gone.
func (g *greatest[K, A, V]) remove(id int32) {
	it := &g.items[id]
	g.ids.Delete(it.hash, it.key)
	if pos := it.pos; pos >= 0 {
		last := int32(len(g.heap) - 1)
		g.swap(pos, last)
		g.heap = g.heap[:last]
		if pos < last && !g.up(pos) {
			g.down(pos)
		}
	}
	*it = item[K, V]{pos: -1}
	g.free = append(g.free, id)
}

// above says that the item at a place of the heap belongs above another.
func (g *greatest[K, A, V]) above(i, j int32) bool {
	return cmp.Less(g.items[g.heap[j]].score, g.items[g.heap[i]].score)
}

func (g *greatest[K, A, V]) swap(i, j int32) {
	h := g.heap
	h[i], h[j] = h[j], h[i]
	g.items[h[i]].pos, g.items[h[j]].pos = i, j
}

func (g *greatest[K, A, V]) up(i int32) (moved bool) {
	for i > 0 {
		parent := (i - 1) / 2
		if !g.above(i, parent) {
			break
		}
		g.swap(i, parent)
		i, moved = parent, true
	}
	return moved
}

func (g *greatest[K, A, V]) down(i int32) {
	for {
		child := 2*i + 1
		if child >= int32(len(g.heap)) {
			return
		}
		if child+1 < int32(len(g.heap)) && g.above(child+1, child) {
			child++
		}
		if !g.above(child, i) {
			return
		}
		g.swap(i, child)
		i = child
	}
}

// choose goes down the heap from the top, the greatest first: what comes next
// is below what has been taken, so it looks at no more than twice the places
// that it takes.
func (g *greatest[K, A, V]) choose() {
	g.chosen, g.queue = g.chosen[:0], g.queue[:0]
	if len(g.heap) > 0 {
		g.queue = append(g.queue, 0)
	}
	var least V
	for len(g.queue) > 0 {
		at := g.take()
		it := &g.items[g.heap[at]]
		if len(g.chosen) >= g.n && cmp.Less(it.score, least) {
			break
		}
		least = it.score
		g.chosen = append(g.chosen, it.place)
		for child := 2*at + 1; child <= 2*at+2 && child < int32(len(g.heap)); child++ {
			g.offer(child)
		}
	}
	slices.SortFunc(g.chosen, func(a, b place[K]) int { return cmp.Compare(a.hash, b.hash) })
}

// offer and take keep the places that are next in a heap.
func (g *greatest[K, A, V]) offer(at int32) {
	i := len(g.queue)
	g.queue = append(g.queue, at)
	for i > 0 && g.above(g.queue[i], g.queue[(i-1)/2]) {
		g.queue[i], g.queue[(i-1)/2] = g.queue[(i-1)/2], g.queue[i]
		i = (i - 1) / 2
	}
}

func (g *greatest[K, A, V]) take() int32 {
	q := g.queue
	top, last := q[0], len(q)-1
	q[0] = q[last]
	q = q[:last]
	for i := 0; 2*i+1 < last; {
		child := 2*i + 1
		if child+1 < last && g.above(q[child+1], q[child]) {
			child++
		}
		if !g.above(q[child], q[i]) {
			break
		}
		q[i], q[child] = q[child], q[i]
		i = child
	}
	g.queue = q
	return top
}

func (g *greatest[K, A, V]) best() []place[K] { return g.chosen }
