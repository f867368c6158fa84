package worker

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/millrace/millrace/blob"
)

// The same job, uninterrupted, crashed and rescaled: the same committed rows.
func TestSameness(t *testing.T) {
	const n, step = 4000, 150
	want := wanted(n)
	seed := uint64(time.Now().UnixNano())
	for _, c := range []struct {
		workers, parallelism, crashes, inline int
		overtake                              bool // barriers overtake whatever waits
		tiered                                int  // all state but one byte is on a disk in each such epoch
	}{
		{1, 1, 0, 0, false, 0},
		{1, 3, 0, 0, false, 0},
		{1, 1, 10, 0, false, 0},
		{1, 3, 10, 0, false, 0},
		{1, 3, 10, 1, false, 0}, // every checkpoint is an object
		{2, 4, 10, 1, false, 0},
		{1, 3, 10, 0, true, 0},
		{2, 4, 20, 1, true, 0},
		{1, 1, 0, 0, false, 1},
		{1, 3, 10, 0, false, 1},
		{2, 4, 20, 1, false, 2}, // from one backend to the other at each restart
	} {
		t.Run(fmt.Sprintf("workers=%d/parallelism=%d/crashes=%d/inline=%d/overtake=%v/tiered=%d", c.workers, c.parallelism, c.crashes, c.inline, c.overtake, c.tiered), func(t *testing.T) {
			t.Logf("seed %d", seed)
			out := newLedger()
			src, rng := &feed{n: n}, rand.New(rand.NewPCG(seed, uint64(c.crashes)))
			if c.tiered > 0 {
				testTiered = func(epoch uint64) bool { return int(epoch)%c.tiered == 0 }
				defer func() { testTiered = func(uint64) bool { return false } }()
			}
			if c.overtake {
				testPatience = -1
				defer func() { testPatience = 0 }()
			}
			m := newMaster(t, job(t, src, out), blob.NewMemory(), c.workers, c.inline)
			defer m.stop()
			m.pace = func() { src.raise(1 + rng.Int64N(2*step)) }
			m.live(rng, c.crashes, c.parallelism)
			got := out.committed()
			for i := range min(len(want), len(got)) {
				if want[i] != got[i] {
					t.Fatalf("seed %d: row %d: got %v, want %v", seed, i, got[i], want[i])
				}
			}
			if len(got) != len(want) {
				t.Fatalf("seed %d: %d rows, want %d", seed, len(got), len(want))
			}
			t.Logf("%d epochs, %d checkpoints, %d commits, %d batches in flight", m.epoch, m.id, out.mu.commits, m.flights)
			if c.tiered == 0 && (m.flights > 0) != c.overtake {
				t.Errorf("%d batches were in flight in the checkpoints, overtaking is %v", m.flights, c.overtake)
			}
		})
	}
}
