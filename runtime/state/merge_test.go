package state

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// What many keys took is free again when they are gone: those of lists, whose
// hashes are crowded, and others.
func TestATableShrinks(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for _, budget := range []int64{-1, 0, 100_000} {
		t.Run(fmt.Sprintf("budget=%d", budget), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 0))
			s := NewStore(everything)
			if budget >= 0 {
				s.UseDisk(newMemoryDisk(), NewBudget(budget))
			}
			tab := newTable[uint64, int64](t, s, "t")
			var cur Current[uint64]
			list, err := NewList[uint64, string](s, &cur, "list")
			if err != nil {
				t.Fatal(err)
			}
			const hot = 40
			most, keys, rounds := 0, uint64(4000), 30
			if budget >= 0 {
				keys, rounds = 800, 6
			}
			for round := range rounds {
				first := uint64(round * 20_000)
				for k := first; k < first+keys; k++ {
					*value(tab.Upsert(hashOf(k), k)) = 1
					key := first + rng.Uint64N(hot)*rng.Uint64N(2)
					cur.Set(hashOf(key), key)
					list.Append("an element")
					s.Ease()
				}
				s.Freeze(round%7 == 0).Release()
				most = max(most, s.Stats().Bytes)
				held := s.Freeze(round%5 == 0) // sees pages that others take the place of
				for k := first; k < first+keys; k++ {
					if !tab.Delete(hashOf(k), k) {
						t.Fatalf("key %d is not there", k)
					}
					s.Ease()
				}
				for k := first; k < first+hot; k++ {
					cur.Set(hashOf(k), k)
					if k%2 == 0 {
						list.Clear()
					} else {
						list.RemoveWhile(func(string) bool { return true })
					}
				}
				held.Abort()
				for _, tab := range []*table{&tab.table, &list.elements.table} {
					if tab.count != 0 {
						t.Fatalf("%d entries of %s are left", tab.count, tab.of.name)
					}
					if pages := pagesOf(tab); pages > 1 {
						t.Errorf("round %d: %d pages of %s are left, %d bytes of %d", round, pages, tab.of.name, tab.bytes, most)
					}
				}
			}
			if s.tier != nil {
				(&tables{s: s}).checkDisk(t)
			}
		})
	}
}

func value[V any](v *V, _ bool) *V { return v }

func pagesOf(t *table) int {
	n := 0
	for pages := (walk{stack: []ref{t.root}}); pages.next() != nil; {
		n++
	}
	return n
}
