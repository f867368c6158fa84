package update

import (
	"github.com/millrace/millrace/runtime/batch"
)

// slots is the size of the table of groups: twice as many as rows, so that
// searches are short.
const slots = 2 * batch.Rows

// groups are the keys of up to batch.Rows rows, in the order in which they
// first come, each with the list of its rows, in their order.
type groups[K comparable] struct {
	hashes []uint64
	keys   []K
	// first and last row of each key; next row of the same key by row, -1 for none.
	first, last []int32
	next        []int32
	// table finds a key's group by its hash: group number and the round in
	// which it was written, so that it is never cleared.
	table [slots]slot
	round uint32
}

type slot struct {
	round uint32
	group int32
}

// begin forgets all groups.
func (g *groups[K]) begin() {
	g.hashes, g.keys = g.hashes[:0], g.keys[:0]
	g.first, g.last, g.next = g.first[:0], g.last[:0], g.next[:0]
	if g.round++; g.round == 0 { // once in four billion batches
		g.round, g.table = 1, [slots]slot{}
	}
}

// add adds the next row.
func (g *groups[K]) add(hash uint64, key K) {
	row := int32(len(g.next))
	g.next = append(g.next, -1)
	for at := hash % slots; ; at = (at + 1) % slots {
		s := &g.table[at]
		if s.round != g.round {
			s.round, s.group = g.round, int32(len(g.keys))
			g.hashes, g.keys = append(g.hashes, hash), append(g.keys, key)
			g.first, g.last = append(g.first, row), append(g.last, row)
			return
		}
		if i := s.group; g.hashes[i] == hash && g.keys[i] == key {
			g.next[g.last[i]] = row
			g.last[i] = row
			return
		}
	}
}
