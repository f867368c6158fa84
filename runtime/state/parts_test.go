package state

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/millrace/millrace/checkpoint/snapshot"
)

// family is a table whose entries expire, and one of what belongs to them.
type family struct {
	s     *Store
	heads *Table[uint64, int64]
	parts *Table[MapKey[uint64, int64], int64]
	of    *Parts[uint64, int64, int64]
}

func newFamily(t *testing.T, tiered bool) *family {
	t.Helper()
	f := &family{s: NewStore(everything)}
	if tiered {
		f.s.UseDisk(newMemoryDisk(), NewBudget(0))
	}
	var err error
	if f.heads, err = NewTable[uint64, int64](f.s, "heads", TTL{For: life * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	if f.parts, err = NewTableHashed[MapKey[uint64, int64], int64](f.s, "parts", func(k *MapKey[uint64, int64]) uint64 {
		return Within(hashOf(k.Key), uint64(k.Of))
	}); err != nil {
		t.Fatal(err)
	}
	f.of = PartsOf(f.parts)
	f.heads.OnExpire(f.of.Clear)
	return f
}

func (f *family) add(key uint64, n int) {
	head, _ := f.heads.Renew(hashOf(key), key)
	for range n {
		*head++
		at := *head
		*f.part(key, at)++
		head, _ = f.heads.Renew(hashOf(key), key)
	}
}

func (f *family) part(key uint64, at int64) *int64 {
	v, _ := f.parts.Upsert(Within(hashOf(key), uint64(at)), MapKey[uint64, int64]{key, at})
	return v
}

// check fails the test unless each head has its parts, and there are no others.
func (f *family) check(t *testing.T) {
	t.Helper()
	n := int64(0)
	f.heads.scanAll(func(v *int64) { n += *v })
	if int64(f.parts.Len()) != n {
		t.Fatalf("%d parts, of heads that have %d", f.parts.Len(), n)
	}
}

// scanAll is a Scan that sees what has expired, too.
func (t *Table[K, V]) scanAll(f func(v *V)) {
	now := t.s.now
	t.s.now = unknownTimes
	defer func() { t.s.now = now }()
	t.Scan(0, 1<<62, func(_ uint64, _ *K, v *V) bool { f(v); return true })
}

// What belongs to an entry goes with it: it is all there, or gone, after whatever
// access, in each snapshot of either kind, in memory and on a disk.
func TestWhatBelongsToAnEntryGoesWithIt(t *testing.T) {
	for _, tiered := range []bool{false, true} {
		t.Run(fmt.Sprint("tiered=", tiered), func(t *testing.T) {
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			rng := rand.New(rand.NewPCG(seed, 3))
			f, now := newFamily(t, tiered), int64(1<<40)
			var chain []snapshot.Run
			for range 60 {
				for range 40 {
					now += rng.Int64N(40)
					f.s.SetEventTime(now)
					f.s.Passed(now)
					f.s.between()
					f.add(rng.Uint64N(80), rng.IntN(4)*rng.IntN(12))
				}
				frozen := f.s.Freeze(rng.IntN(4) == 0)
				f.check(t)
				run, err := writeRun(frozen, everything)
				if err != nil {
					t.Fatal(err)
				}
				if frozen.Full() {
					chain = nil
				}
				chain = append(chain, run)
				frozen.Release()
				next := newFamily(t, tiered)
				loadRuns(t, next.s, chain, Restore{Declared: f.s.Declared()})
				next.check(t)
				if rng.IntN(3) == 0 {
					f = next
				}
			}
			f.s.Passed(now + 2*life)
			for range 500 {
				f.s.between()
			}
			if n := f.s.Stats().Entries; n != 0 {
				t.Errorf("%d entries stay for ever", n)
			}
		})
	}
}

// A broom does not take away much at once, though all entries of a page are over
// and each has a lot.
func TestABroomRestsAfterALotHasGone(t *testing.T) {
	f := newFamily(t, false)
	const keys, each = 40, othersAtOnce / 4
	f.s.SetEventTime(1)
	for k := range uint64(keys) {
		f.add(k, each)
	}
	f.s.Passed(1 + life)
	for f.parts.Len() > 0 {
		before := f.parts.Len()
		f.s.between()
		f.check(t)
		if gone := before - f.parts.Len(); gone > othersAtOnce+each || gone == 0 {
			t.Fatalf("%d of %d went at once", gone, before)
		}
	}
}

// All of a key goes from many pages of a store that has room for none.
func TestClearTakesAllOfAKey(t *testing.T) {
	f := newFamily(t, true)
	const n = 3000
	f.s.SetEventTime(1)
	for range n / 10 {
		f.add(7, 10)
		f.s.Ease()
	}
	for range 50 {
		f.s.Ease()
	}
	head, _ := f.heads.Renew(hashOf(7), 7)
	if gone := f.of.Clear(hashOf(7), 7); gone != n {
		t.Fatalf("%d parts went, of %d", gone, n)
	}
	*head = 0
	f.check(t)
}
