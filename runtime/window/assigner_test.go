package window

import (
	"math/rand/v2"
	"testing"
)

// The slices of an assigner are checked against its windows, found by trying
// every start: a slice never crosses a window's bound, and its first and last
// ends are those of the windows that hold it.
func TestSlicesLieInsideWindows(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		a := Assigner{Size: 1 + r.Int64N(40), Slide: 1 + r.Int64N(40), Offset: r.Int64N(60) - 30}
		for range 40 {
			x := r.Int64N(400) - 200
			start, end, covered := a.slice(x)
			if x < start || x >= end {
				t.Fatalf("seed %d %+v: slice of %d is [%d,%d)", seed, a, x, start, end)
			}
			var ends []int64
			for s := x - a.Size + 1; s <= x; s++ {
				if (s-a.Offset)%a.Slide == 0 {
					if s > start || s+a.Size < end {
						t.Fatalf("seed %d %+v: slice [%d,%d) crosses window [%d,%d)", seed, a, start, end, s, s+a.Size)
					}
					ends = append(ends, s+a.Size)
				}
			}
			if covered != (len(ends) > 0) {
				t.Fatalf("seed %d %+v: slice of %d covered = %v, windows end at %v", seed, a, x, covered, ends)
			}
			if covered && (a.firstEnd(start) != ends[0] || a.lastEnd(start) != ends[len(ends)-1]) {
				t.Fatalf("seed %d %+v: slice [%d,%d) ends %d..%d, want %v", seed, a, start, end, a.firstEnd(start), a.lastEnd(start), ends)
			}
		}
	}
}
