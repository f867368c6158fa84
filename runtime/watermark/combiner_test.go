package watermark

import (
	"math/rand/v2"
	"testing"

	"github.com/millrace/millrace/runtime/batch"
)

func TestCombinerFollowsItsDefinition(t *testing.T) {
	for seed := range uint64(5000) {
		rng := rand.New(rand.NewPCG(seed, 1))
		n := 1 + rng.IntN(5)
		c := NewCombiner(n)
		times, idle := make([]int64, n), make([]bool, n)
		for i := range times {
			times[i] = batch.NoTime
		}
		want := int64(batch.NoTime)
		for range 40 {
			ch := rng.IntN(n)
			var rose bool
			switch rng.IntN(4) {
			case 0:
				idle[ch] = !idle[ch]
				rose = c.SetIdle(ch, idle[ch])
			default:
				at := rng.Int64N(100)
				times[ch] = max(times[ch], at)
				rose = c.SetWatermark(ch, at)
			}
			least, active := int64(batch.EndOfTime), 0
			for i := range times {
				if !idle[i] {
					active++
					least = min(least, times[i])
				}
			}
			before := want
			if active > 0 {
				want = max(want, least)
			}
			if c.Current() != want || rose != (want > before) || c.Idle() != (active == 0) {
				t.Fatalf("seed %d: watermark %d rose %v idle %v, want %d %v %v", seed, c.Current(), rose, c.Idle(), want, want > before, active == 0)
			}
		}
	}
}

func TestCombinerHoldsWhileAllAreIdle(t *testing.T) {
	c := NewCombiner(2)
	c.SetWatermark(0, 100)
	c.SetWatermark(1, 50)
	c.SetIdle(0, true)
	c.SetIdle(1, true)
	if c.Current() != 50 || !c.Idle() {
		t.Fatalf("all idle: %d, idle %v", c.Current(), c.Idle())
	}
	if !c.SetIdle(0, false) || c.Current() != 100 {
		t.Fatalf("one back, alone: %d", c.Current())
	}
	if !c.SetWatermark(0, 101) || c.Current() != 101 {
		t.Fatalf("one back: %d", c.Current())
	}
	c.SetIdle(1, false)
	if c.SetWatermark(0, 200) || c.Current() != 101 {
		t.Fatalf("one back behind the others: %d, want time to stand", c.Current())
	}
	if !c.SetWatermark(1, 150) || c.Current() != 150 {
		t.Fatalf("caught up: %d", c.Current())
	}
}
