package state

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/millrace/millrace/runtime/keygroup"
)

func TestStepsPartTheHashes(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 300 {
		n := 1 + rng.IntN(200)
		parallelism := 1 + rng.IntN(n)
		groups := keygroup.RangeOf(rng.IntN(parallelism), parallelism, n)
		all := stepsFor(groups, rng.IntN(300*pagesAStep))
		base, _ := hashesOf(groups.First, n)
		_, top := hashesOf(groups.Last, n)
		spans := [][2]uint64{{base, top}, {0, top}}
		for range 100 {
			a, b := base+rng.Uint64N(top-base), base+rng.Uint64N(top-base)
			spans = append(spans, [2]uint64{min(a, b), max(a, b)}, [2]uint64{a, a})
		}
		parted := all.sort(len(spans), func(i int) (uint64, uint64) { return spans[i][0], spans[i][1] })
		at, group := base, groups.First-1
		s := step{groups: groups}
		for k := range all.n {
			last := all.begin(&s, k)
			if s.first != at || last <= group {
				t.Fatalf("%v in %d steps: step %d begins at %x and ends with group %d, after %x and group %d", groups, all.n, k, s.first, last, at, group)
			}
			at, group = s.last+1, last
			var want []int
			for i, h := range spans {
				if h[0] <= s.last && h[1] >= s.first {
					want = append(want, i)
				}
			}
			if got := slices.Collect(parted.of(&s)); !slices.Equal(got, want) {
				t.Fatalf("%v in %d steps: step %d has %v, want %v", groups, all.n, k, got, want)
			}
		}
		if at != top+1 || group != groups.Last {
			t.Fatalf("%v in %d steps: they end at %x with group %d", groups, all.n, at, group)
		}
	}
}
