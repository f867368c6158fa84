package state

import (
	"math"
	"testing"

	"github.com/millrace/millrace/runtime/keygroup"
)

// TestSpread spreads tables of key groups that begin and end anywhere, and
// looks whether each hash still has the one page that says it has it.
func TestSpread(t *testing.T) {
	for _, n := range []int{1, 3, 128, 100} {
		mine := keygroup.RangeOf(0, min(n, 2), n)
		s := NewStore(mine)
		table, err := NewTable[uint64, counter](s, "t")
		if err != nil {
			t.Fatal(err)
		}
		h := hasher[uint64]()
		keys := map[uint64]uint64{}
		put := func(from, to, group int) {
			for i := from; i < to; i++ {
				k := number(uint64(i))
				if g := keygroup.Of(h(&k), n); mine.Contains(g) && (group < 0 || g == group) {
					v, _ := table.Upsert(h(&k), k)
					v.Count = k
					keys[k] = h(&k)
				}
			}
		}
		put(0, 10, -1)
		for g := mine.First; g <= mine.Last; g++ {
			first, last := hashesOf(g, n)
			if keygroup.Of(first, n) != g || keygroup.Of(last, n) != g {
				t.Fatalf("hashes %x to %x are not those of key group %d of %d", first, last, g, n)
			}
			table.spread(first, last, 1000)
			put(0, 3000, g)
		}
		if table.Len() != len(keys) {
			t.Errorf("%d groups: %d keys, want %d", n, table.Len(), len(keys))
		}
		for k, hash := range keys {
			if v, ok := table.Get(hash, k); !ok || v.Count != k {
				t.Fatalf("%d groups: key %d is not there", n, k)
			}
		}
		bytes, pages := 0, 0
		eachLeaf(table.root, s.base&^lastOf(0, s.common), s.common, 0, math.MaxUint64, func(g graft) {
			if g.p.prefix != g.prefix || g.p.depth != g.depth || table.now.pages[g.p.pos] != g.p {
				t.Errorf("%d groups: page of %x/%d hangs at %x/%d", n, g.p.prefix, g.p.depth, g.prefix, g.depth)
			}
			bytes, pages = bytes+table.of.size(g.p), pages+1
		})
		if bytes != table.Bytes() || pages != len(table.now.pages) {
			t.Errorf("%d groups: %d pages of %d bytes, the table says %d of %d", n, pages, bytes, len(table.now.pages), table.Bytes())
		}
	}
}
