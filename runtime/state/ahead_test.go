package state

import (
	"math/rand/v2"
	"testing"
)

// TestAheadChangesNothing reads ahead of keys that are there and of others, in
// pages of every size, those of crowded hashes included.
func TestAheadChangesNothing(t *testing.T) {
	for _, crowded := range []bool{false, true} {
		s := NewStore(everything)
		hash := hasher[uint64]()
		of := func(k uint64) uint64 {
			h := hash(&k)
			if crowded && k%2 == 0 {
				h = h>>52 | 1<<63 // 4096 hashes side by side
			}
			return h
		}
		table, err := NewTable[uint64, counter](s, "t")
		if err != nil {
			t.Fatal(err)
		}
		const n = 60_000
		for k := range uint64(n) {
			v, _ := table.Upsert(of(k), k)
			v.Count = k
		}
		if table.Bytes() < farBytes {
			t.Fatalf("%d bytes are too few for Ahead to read anything", table.Bytes())
		}
		s.Freeze(false).Abort()
		rng := rand.New(rand.NewPCG(1, 2))
		for range 2000 {
			hashes := make([]uint64, rng.IntN(2*Stride))
			for i := range hashes {
				if hashes[i] = rng.Uint64(); rng.IntN(2) == 0 {
					hashes[i] = of(rng.Uint64N(n))
				}
			}
			s.Ahead(hashes, Stride*rng.IntN(3))
		}
		for k := range uint64(n) {
			if v, ok := table.Get(of(k), k); !ok || v.Count != k {
				t.Fatalf("crowded %v: key %d is %v, %v", crowded, k, v, ok)
			}
		}
		if table.Len() != n {
			t.Errorf("crowded %v: %d keys, want %d", crowded, table.Len(), n)
		}
	}
}
