package state

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/millrace/millrace/checkpoint/snapshot"
	"github.com/millrace/millrace/runtime/keygroup"
)

type counter struct {
	Count uint64
	Sum   int64
}

var everything = keygroup.RangeOf(0, 1, keygroup.Default)

func filled[K comparable](b testing.TB, n int, key func(uint64) K) (*Store, *Table[K, counter], []K, []uint64) {
	s := NewStore(everything)
	t, err := NewTable[K, counter](s, "t")
	if err != nil {
		b.Fatal(err)
	}
	h := hasher[K]()
	rng := rand.New(rand.NewPCG(1, 2))
	keys, hashes := make([]K, 1<<20), make([]uint64, 1<<20)
	for i := range keys {
		keys[i] = key(rng.Uint64N(uint64(n)))
		hashes[i] = h(&keys[i])
	}
	for i := range uint64(n) {
		k := key(i)
		t.Upsert(h(&k), k)
	}
	f := s.Freeze(false)
	f.Abort()
	s.unhold(f.epoch)
	return s, t, keys, hashes
}

func number(i uint64) uint64 { return i * 0x9e3779b97f4a7c15 }

func name(i uint64) string { return fmt.Sprint("customer-", i) }

func update[K comparable](b *testing.B, n int, key func(uint64) K) {
	_, t, keys, hashes := filled(b, n, key)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i = (i + 1) & (1<<20 - 1)
		v, _ := t.Upsert(hashes[i], keys[i])
		v.Count++
		v.Sum += int64(i)
	}
}

func BenchmarkUpdate(b *testing.B) {
	b.Run("ints/1M", func(b *testing.B) { update(b, 1_000_000, number) })
	b.Run("ints/10k", func(b *testing.B) { update(b, 10_000, number) })
	b.Run("strings/1M", func(b *testing.B) { update(b, 1_000_000, name) })
	b.Run("strings/10k", func(b *testing.B) { update(b, 10_000, name) })
}

// BenchmarkUpdateWhileFrozen has a barrier every 2 M updates, never released
// before the next: every page is copied in every epoch.
func BenchmarkUpdateWhileFrozen(b *testing.B) {
	s, t, keys, hashes := filled(b, 1_000_000, number)
	b.ReportAllocs()
	var last *Frozen
	i := 0
	for b.Loop() {
		if i&(1<<21-1) == 0 {
			if last != nil {
				last.Release()
			}
			last = s.Freeze(false)
		}
		i++
		j := i & (1<<20 - 1)
		v, _ := t.Upsert(hashes[j], keys[j])
		v.Count++
	}
}

// BenchmarkUpdateBesideWrite updates while another goroutine encodes.
func BenchmarkUpdateBesideWrite(b *testing.B) {
	s, t, keys, hashes := filled(b, 1_000_000, number)
	i, writes := 0, 0
	var writing chan error
	var f *Frozen
	b.ReportAllocs()
	for b.Loop() {
		if i&1023 == 0 {
			select {
			case err := <-writing:
				if err != nil {
					b.Fatal(err)
				}
				f.Release()
				writing = nil
				writes++
			default:
			}
			if writing == nil {
				f = s.Freeze(false)
				done := make(chan error, 1)
				writing = done
				go func(f *Frozen) {
					w := snapshot.NewWriter(everything.N)
					err := f.Write(w)
					if err == nil {
						_, err = w.Finish()
					}
					done <- err
				}(f)
			}
		}
		i++
		j := i & (1<<20 - 1)
		v, _ := t.Upsert(hashes[j], keys[j])
		v.Count++
	}
	<-writing
	b.ReportMetric(float64(writes), "snapshots")
}

// BenchmarkWrite encodes the changes of 1 M keys.
func BenchmarkWrite(b *testing.B) {
	b.Run("ints", func(b *testing.B) { writeAll(b, number) })
	b.Run("strings", func(b *testing.B) { writeAll(b, name) })
}

func writeAll[K comparable](b *testing.B, key func(uint64) K) {
	const n = 1_000_000
	s, t, keys, hashes := filled(b, n, key)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		for j := range n {
			v, _ := t.Upsert(hashes[j], keys[j])
			v.Count++
		}
		f := s.Freeze(false)
		b.StartTimer()
		w := snapshot.NewWriter(everything.N)
		if err := f.Write(w); err != nil {
			b.Fatal(err)
		}
		if _, err := w.Finish(); err != nil {
			b.Fatal(err)
		}
		f.Release()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/entry")
}

func BenchmarkGet(b *testing.B) {
	_, t, keys, hashes := filled(b, 1_000_000, number)
	i := 0
	var sum uint64
	for b.Loop() {
		i = (i + 1) & (1<<20 - 1)
		v, _ := t.Get(hashes[i], keys[i])
		sum += v.Count
	}
	_ = sum
}

func BenchmarkFreeze(b *testing.B) {
	s, t, keys, hashes := filled(b, 1_000_000, number)
	var worst time.Duration
	for b.Loop() {
		b.StopTimer()
		for j := range 100_000 {
			t.Upsert(hashes[j], keys[j])
		}
		b.StartTimer()
		from := time.Now()
		f := s.Freeze(false)
		worst = max(worst, time.Since(from))
		f.Release()
	}
	b.ReportMetric(float64(worst.Nanoseconds()), "worst-ns")
}

// BenchmarkGrow inserts 4 M keys and looks for the longest insert.
func BenchmarkGrow(b *testing.B) {
	const n = 4_000_000
	var worst time.Duration
	for b.Loop() {
		t, err := NewTable[uint64, counter](NewStore(everything), "t")
		if err != nil {
			b.Fatal(err)
		}
		h := hasher[uint64]()
		var key uint64
		for i := range uint64(n) {
			key = number(i)
			hash := h(&key)
			from := time.Now()
			t.Upsert(hash, key)
			worst = max(worst, time.Since(from))
		}
		b.ReportMetric(float64(t.Bytes())/n, "B/key")
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/key")
	b.ReportMetric(float64(worst.Microseconds()), "worst-µs")
}

// BenchmarkSpaces updates 1000 namespaces of 2000 keys, and drops the oldest for
// a new one every 2000 updates.
func BenchmarkSpaces(b *testing.B) {
	s := NewStore(everything)
	p, err := NewSpaces[uint64, counter](s, "p")
	if err != nil {
		b.Fatal(err)
	}
	_, _, keys, hashes := filled(b, 2000, number)
	first, i := int64(0), 0
	for ns := range int64(1000) {
		for j := range 2000 {
			p.Space(ns).Upsert(hashes[j], keys[j])
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		i = (i + 1) & (1<<20 - 1)
		if i%2000 == 0 {
			p.Drop(first)
			first++
			f := s.Freeze(false)
			f.Release()
		}
		v, _ := p.Space(first+999).Upsert(hashes[i], keys[i])
		v.Count++
	}
}

func BenchmarkCollect10M(b *testing.B) {
	s := NewStore(everything)
	t, err := NewTable[uint64, counter](s, "t")
	if err != nil {
		b.Fatal(err)
	}
	h := hasher[uint64]()
	var key uint64
	for i := range uint64(10_000_000) {
		key = number(i)
		t.Upsert(h(&key), key)
	}
	for b.Loop() {
		runtime.GC()
	}
	runtime.KeepAlive(t)
}

// BenchmarkMemory is what the machine gives: three lines of 64 MiB, the reads of
// all rounds independent of each other. An update at 1 M keys needs as many, so
// this is the least that it can cost, and says how busy neighbours are.
func BenchmarkMemory(b *testing.B) {
	words := make([]uint64, 64<<20/8)
	for i := range words {
		words[i] = uint64(i)
	}
	at := make([]uint32, 1<<20)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range at {
		at[i] = rng.Uint32N(uint32(len(words) - 512))
	}
	var sum uint64
	i := 0
	for b.Loop() {
		i = (i + 1) & (1<<20 - 1)
		j := at[i]
		sum += words[j] + words[j+64] + words[j+256]
	}
	words[0] = sum
}

// BenchmarkUpdateAhead updates as operators do, which read ahead.
func BenchmarkUpdateAhead(b *testing.B) {
	b.Run("ints/1M", func(b *testing.B) { updateAhead(b, 1_000_000, number) })
	b.Run("ints/10k", func(b *testing.B) { updateAhead(b, 10_000, number) })
	b.Run("strings/1M", func(b *testing.B) { updateAhead(b, 1_000_000, name) })
	b.Run("strings/10k", func(b *testing.B) { updateAhead(b, 10_000, name) })
}

func updateAhead[K comparable](b *testing.B, n int, key func(uint64) K) {
	_, t, keys, hashes := filled(b, n, key)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i = (i + 1) & (1<<20 - 1)
		if i%Stride == 0 {
			t.Ahead(hashes, i)
		}
		v, _ := t.Upsert(hashes[i], keys[i])
		v.Count++
		v.Sum += int64(i)
	}
}

// BenchmarkTTL is the cost of a time to live for each access of a value: compare
// within one run. Time goes on so that entries live on average for a tenth of
// their time between two uses, and brooms are at work.
func BenchmarkTTL(b *testing.B) {
	for _, c := range []struct {
		name string
		ttl  TTL
	}{
		{"none", TTL{}},
		{"write", TTL{For: time.Second}},
		{"read", TTL{For: time.Second, OnRead: true}},
	} {
		for _, n := range []int{10_000, 1_000_000} {
			b.Run(fmt.Sprintf("%s/%d", c.name, n), func(b *testing.B) {
				var cur Current[uint64]
				s := NewStore(everything)
				h, err := NewValue[uint64, counter](s, &cur, "v", c.ttl)
				if err != nil {
					b.Fatal(err)
				}
				keys, hashes := make([]uint64, 1<<16), make([]uint64, 1<<16)
				rng := rand.New(rand.NewPCG(1, 2))
				for i := range keys {
					keys[i] = number(rng.Uint64N(uint64(n)))
					hashes[i] = hashOf(keys[i])
				}
				perMilli := max(1, n/100)
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					at := i & (1<<16 - 1)
					if at%Stride == 0 {
						s.Ahead(hashes[at:min(at+64, 1<<16)], 0)
					}
					s.SetEventTime(int64(i / perMilli))
					s.Passed(int64(i / perMilli))
					cur.Set(hashes[at], keys[at])
					v := h.Get()
					v.Count++
					h.Set(v)
					i++
				}
			})
		}
	}
}
