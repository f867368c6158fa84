package snapshot

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math/bits"
	"slices"
	"sync"
)

// waiting are the changes of one key group, as they came.
type waiting struct {
	arena     []byte
	changes   []change
	stretches []stretch
	sorting   []change
	spread    []change
}

// change is free of pointers, so that the collector never walks the list.
type change struct {
	prefix uint64 // first 8 bytes of the key, in an order like theirs
	at     uint64 // of the key in the arena, the value follows
	keyLen uint32
	valLen uint32
	seq    uint32 // later changes have higher ones
	delete bool
}

// stretch are changes that came one after the other, of one state and namespace.
type stretch struct {
	ns       int64
	name     uint32
	from, to int
}

// Few key groups wait at a time, and their memory goes from one to the next.
var waitings = sync.Pool{New: func() any { return new(waiting) }}

func newWaiting() *waiting { return waitings.Get().(*waiting) }

// free gives the memory to another key group.
func (g *waiting) free() {
	g.arena, g.changes, g.stretches, g.sorting = g.arena[:0], g.changes[:0], g.stretches[:0], g.sorting[:0]
	g.spread = g.spread[:0]
	waitings.Put(g)
}

func (g *waiting) held() int { return len(g.arena) + changeSize*len(g.changes) }

func (g *waiting) add(of stretch, key, value []byte, del bool) {
	if n := len(g.stretches); n == 0 || g.stretches[n-1].name != of.name || g.stretches[n-1].ns != of.ns {
		of.from = len(g.changes)
		g.stretches = append(g.stretches, of)
	}
	c := change{
		prefix: prefixOf(key), at: uint64(len(g.arena)), keyLen: uint32(len(key)), valLen: uint32(len(value)),
		seq: uint32(len(g.changes)), delete: del,
	}
	g.arena = append(append(g.arena, key...), value...)
	g.changes = append(g.changes, c)
	g.stretches[len(g.stretches)-1].to = len(g.changes)
}

// encode adds the last change of each key to the blocks, in their order.
func (g *waiting) encode(b *builder, rank []uint32, group int) {
	g.gather(rank)
	for _, s := range g.stretches {
		changes := g.changes[s.from:s.to]
		g.sort(changes)
		for i, c := range changes {
			if i+1 < len(changes) && g.same(c, changes[i+1]) {
				continue
			}
			b.add(group, rank[s.name], s.ns, g.key(c), g.value(c), c.delete)
		}
	}
}

// gather brings the stretches into their order, one for each state and namespace.
func (g *waiting) gather(rank []uint32) {
	order := func(a, b stretch) int {
		return cmp.Or(cmp.Compare(rank[a.name], rank[b.name]), cmp.Compare(a.ns, b.ns))
	}
	// Those that came one after the other are not of one place.
	if slices.IsSortedFunc(g.stretches, order) {
		return
	}
	slices.SortStableFunc(g.stretches, order)
	moved, kept := slices.Grow(g.sorting[:0], len(g.changes)), g.stretches[:0]
	for _, s := range g.stretches {
		if n := len(kept); n == 0 || order(kept[n-1], s) != 0 {
			kept = append(kept, stretch{ns: s.ns, name: s.name, from: len(moved)})
		}
		moved = append(moved, g.changes[s.from:s.to]...)
		kept[len(kept)-1].to = len(moved)
	}
	g.stretches, g.changes, g.sorting = kept, moved, g.changes
}

// sort sorts changes of one state and namespace: first into about as many buckets as
// there are changes, by the leading bits in which their prefixes differ.
func (g *waiting) sort(changes []change) {
	differ := uint64(0)
	for i := range changes {
		differ |= changes[i].prefix ^ changes[0].prefix
	}
	if len(changes) < leastSpread || differ == 0 {
		slices.SortFunc(changes, g.compare)
		return
	}
	const most = 1 << 12
	width := min(bits.Len(uint(len(changes))), bits.Len(most-1))
	shift := max(0, bits.Len64(differ)-width)
	var ends [most + 1]uint32
	bucket := func(c *change) uint64 { return c.prefix >> shift & (1<<width - 1) }
	for i := range changes {
		ends[bucket(&changes[i])+1]++
	}
	for i := range 1 << width {
		ends[i+1] += ends[i]
	}
	g.spread = append(g.spread[:0], changes...)
	for i := range g.spread {
		c := &g.spread[i]
		at := &ends[bucket(c)]
		changes[*at] = *c
		*at++
	}
	from := uint32(0)
	for _, to := range ends[:1<<width] {
		if to-from > 1 {
			slices.SortFunc(changes[from:to], g.compare)
		}
		from = to
	}
}

// leastSpread is the number of changes from which buckets pay.
const leastSpread = 64

// compare orders changes of one state and namespace by key, then as they came.
func (g *waiting) compare(a, b change) int {
	if a.prefix != b.prefix {
		return cmp.Compare(a.prefix, b.prefix)
	}
	if c := bytes.Compare(g.key(a), g.key(b)); c != 0 {
		return c
	}
	return cmp.Compare(a.seq, b.seq)
}

// same says whether two changes are of one key.
func (g *waiting) same(a, b change) bool {
	return a.prefix == b.prefix && a.keyLen == b.keyLen && bytes.Equal(g.key(a), g.key(b))
}

// prefixOf orders like the first 8 bytes of a key. Short keys are padded, so
// that equal prefixes say nothing.
func prefixOf(key []byte) uint64 {
	if len(key) >= 8 {
		return binary.BigEndian.Uint64(key)
	}
	var b [8]byte
	copy(b[:], key)
	return binary.BigEndian.Uint64(b[:])
}

func (g *waiting) key(c change) []byte { return g.arena[c.at : c.at+uint64(c.keyLen)] }

func (g *waiting) value(c change) []byte {
	from := c.at + uint64(c.keyLen)
	return g.arena[from : from+uint64(c.valLen)]
}
