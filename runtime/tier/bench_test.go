package tier

import (
	"math/rand/v2"
	"testing"

	"github.com/millrace/millrace/runtime/keygroup"
	"github.com/millrace/millrace/runtime/state"
)

type counter struct {
	Count uint64
	Sum   int64
}

const benchKeys = 1_000_000

// filled is a store with a million counters, which take some 60 MB, and a
// budget for a share of them.
func filled(b *testing.B, budget int64) (*state.Store, *state.Table[uint64, counter], func(i uint64) (uint64, uint64)) {
	d, err := Open(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = d.Close() })
	s := state.NewStore(keygroup.RangeOf(0, 1, keygroup.Default))
	if budget > 0 {
		s.UseDisk(d, state.NewBudget(budget))
	}
	t, err := state.NewTable[uint64, counter](s, "t")
	if err != nil {
		b.Fatal(err)
	}
	h, err := keygroup.HasherOf[uint64]()
	if err != nil {
		b.Fatal(err)
	}
	key := func(i uint64) (hash, key uint64) {
		key = i * 0x9e3779b97f4a7c15
		return h(&key), key
	}
	for i := range uint64(benchKeys) {
		t.Upsert(key(i))
		if i%state.Stride == 0 {
			s.Ease()
		}
	}
	s.Freeze(false).Release()
	return s, t, key
}

// updates is the time of an update, keys drawn by draw; a barrier every million
// of them, complete at the next.
func updates(b *testing.B, budget int64, draw func(rng *rand.Rand, i int) uint64) {
	s, t, key := filled(b, budget)
	rng := rand.New(rand.NewPCG(1, 2))
	hashes, keys := make([]uint64, 512), make([]uint64, 512)
	var f *state.Frozen
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; i < b.N; i++ {
		if i%512 == 0 {
			for j := range hashes {
				hashes[j], keys[j] = key(draw(rng, i+j))
			}
		}
		if i%1_000_000 == 0 {
			if f != nil {
				f.Release()
			}
			f = s.Freeze(false)
		}
		if i%state.Stride == 0 {
			t.Ahead(hashes, i%512)
		}
		v, _ := t.Upsert(hashes[i%512], keys[i%512])
		v.Count++
	}
	stats := s.Stats()
	b.ReportMetric(float64(stats.Bytes)/(1<<20), "MiB-memory")
	b.ReportMetric(float64(stats.Disk)/(1<<20), "MiB-disk")
}

func uniform(rng *rand.Rand, _ int) uint64 { return rng.Uint64N(benchKeys) }

// hot draws one key of 20 from all, the others from a tenth.
func hot(rng *rand.Rand, _ int) uint64 {
	if rng.IntN(20) == 0 {
		return rng.Uint64N(benchKeys)
	}
	return rng.Uint64N(benchKeys / 10)
}

// tenth draws from a tenth of the keys only.
func tenth(rng *rand.Rand, _ int) uint64 { return rng.Uint64N(benchKeys / 10) }

func BenchmarkUpdateTiered(b *testing.B) {
	b.Run("memory", func(b *testing.B) { updates(b, 0, uniform) })
	b.Run("fits", func(b *testing.B) { updates(b, 1<<30, uniform) })
	b.Run("hot set fits", func(b *testing.B) { updates(b, 16<<20, tenth) })
	b.Run("mostly hot", func(b *testing.B) { updates(b, 16<<20, hot) })
	b.Run("uniform, 4 times the budget", func(b *testing.B) { updates(b, 16<<20, uniform) })
}

// BenchmarkWindowsTiered updates slices one after the other, 100,000 keys each, of
// which ten are kept and the budget has room for two; it reads each before it
// drops it.
func BenchmarkWindowsTiered(b *testing.B) {
	for _, c := range []struct {
		name   string
		budget int64
	}{{"memory", 0}, {"tiered", 16 << 20}} {
		b.Run(c.name, func(b *testing.B) {
			d, err := Open(b.TempDir(), Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = d.Close() }()
			s := state.NewStore(keygroup.RangeOf(0, 1, keygroup.Default))
			if c.budget > 0 {
				s.UseDisk(d, state.NewBudget(c.budget))
			}
			p, err := state.NewSpaces[uint64, counter](s, "p")
			if err != nil {
				b.Fatal(err)
			}
			h, err := keygroup.HasherOf[uint64]()
			if err != nil {
				b.Fatal(err)
			}
			const slice = 100_000
			b.ResetTimer()
			for i := 0; i < b.N; i++ {
				if i%slice == 0 {
					s.Freeze(false).Release()
					old := int64(i/slice - 10)
					if t := p.Lookup(old); t != nil {
						for from, done := uint64(0), false; !done; {
							from, done = t.Scan(from, 4096, func(uint64, *uint64, *counter) bool { return true })
							s.Ease()
						}
						p.Drop(old)
					}
				}
				if i%state.Stride == 0 {
					s.Ease()
				}
				key := uint64(i%slice) * 0x9e3779b97f4a7c15
				v, _ := p.Space(int64(i/slice)).Upsert(h(&key), key)
				v.Count++
			}
		})
	}
}
