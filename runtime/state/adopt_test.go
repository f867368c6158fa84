package state

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/checkpoint/snapshot"
	"github.com/millrace/millrace/runtime/keygroup"
)

// fleet is the stores of all subtasks of one operator.
type fleet struct {
	t      *testing.T
	rng    *rand.Rand
	groups int
	stores []*tables
	chains [][]*durable // by subtask
	model  model
	// checkpoints counts those that are durable.
	checkpoints int
}

// durable is a run of a checkpoint that completed.
type durable struct {
	checkpoint int
	run        snapshot.Run
}

func newFleet(t *testing.T, rng *rand.Rand, groups, parallelism int) *fleet {
	f := &fleet{t: t, rng: rng, groups: groups, model: model{}}
	f.stores, f.chains = f.empty(parallelism), make([][]*durable, parallelism)
	return f
}

func (f *fleet) empty(parallelism int) []*tables {
	var out []*tables
	for i := range parallelism {
		out = append(out, newTables(keygroup.RangeOf(i, parallelism, f.groups)))
	}
	return out
}

// owner is the store of a hash.
func (f *fleet) owner(h uint64) *tables {
	return f.stores[keygroup.Owner(keygroup.Of(h, f.groups), len(f.stores), f.groups)]
}

// step does one random thing to the store that it belongs to.
func (f *fleet) step(keys int) {
	rng, m := f.rng, f.model
	k, remove, x := rng.Uint64N(uint64(keys)), rng.IntN(3) == 0, int64(rng.Uint64()>>40)
	h := hashOf(k)
	own := f.owner(h)
	own.s.Ease()
	switch rng.IntN(8) {
	case 0:
		edit(f.t, m, "fixed", 0, own.fixed, h, k, remove, func(v *int64) { *v += x })
	case 1:
		s := fmt.Sprint("key", k)
		h := hashString(&s)
		edit(f.t, m, "strings", 0, f.owner(h).strings, h, s, remove, func(v *string) { *v = fmt.Sprint(x) })
	case 2, 3:
		edit(f.t, m, "accs", 0, own.accs, h, k, remove, func(v *acc) {
			v.Sum += x
			if len(v.List) > 0 {
				v.List[rng.IntN(len(v.List))]++ // in place: nobody else may see it
			}
			v.List = append(v.List, int32(x))
		})
	case 4:
		ns := int64(rng.IntN(6)) - 2
		edit(f.t, m, "spaces", ns, own.spaces.Space(ns), h, k, remove, func(v *uint32) { *v++ })
		if rng.IntN(keys) == 0 {
			for _, s := range f.stores {
				s.spaces.Drop(ns)
			}
			maps.DeleteFunc(m, func(k modelKey, _ string) bool { return k.state == "spaces" && k.ns == ns })
		}
	case 5:
		h := crowdedHash(&k)
		edit(f.t, m, "crowded", 0, f.owner(h).crowded, h, k, remove, func(v *int64) { *v += x })
	case 6:
		f.owner(hashOf(k%7)).stepList(f.t, m, rng, k%7, int32(x))
	case 7:
		f.owner(hashOf(k%7)).stepMap(f.t, m, rng, k%7, x)
	}
}

// checkpoint freezes all stores, writes what they froze beside further steps
// of the job, and makes it durable.
func (f *fleet) checkpoint(steps int) {
	f.checkpoints++
	var wg sync.WaitGroup
	frozen, runs := make([]*Frozen, len(f.stores)), make([]snapshot.Run, len(f.stores))
	want := maps.Clone(f.model)
	for i, s := range f.stores {
		frozen[i] = s.s.Freeze(f.rng.IntN(8) == 0)
		wg.Go(func() {
			var err error
			if runs[i], err = writeRun(frozen[i], s.s.groups); err != nil {
				f.t.Error(err)
			}
		})
	}
	for range steps {
		f.step(300)
	}
	wg.Wait()
	if steps > 0 && f.rng.IntN(4) == 0 {
		for _, fr := range frozen {
			fr.Abort()
		}
		return
	}
	for i, fr := range frozen {
		if fr.Full() {
			f.chains[i] = nil
		}
		if !runs[i].Empty() {
			f.chains[i] = append(f.chains[i], &durable{f.checkpoints, runs[i]})
		}
		// The last command before tasks end may not reach them.
		if steps > 0 || f.rng.IntN(2) == 0 {
			fr.Release()
		}
	}
	if d := diff(want, f.restored(1+f.rng.IntN(5))); d != "" {
		f.t.Fatalf("checkpoint %d restored at another parallelism:\n%s", f.checkpoints, d)
	}
}

// readers opens what a store needs of the chains of others, save those kept.
func (f *fleet) readers(to keygroup.Range, kept []bool) []*snapshot.Reader {
	var out []*snapshot.Reader
	for i, chain := range f.chains {
		theirs := keygroup.RangeOf(i, len(f.chains), f.groups)
		first, last := max(to.First, theirs.First), min(to.Last, theirs.Last)
		if kept[i] || first > last {
			continue
		}
		for _, d := range chain {
			r, err := snapshot.Open("run", d.run.Bytes, first, last)
			if err != nil {
				f.t.Fatal(err)
			}
			out = append(out, r)
		}
	}
	return out
}

func (f *fleet) restored(parallelism int) model {
	all := model{}
	for _, s := range f.empty(parallelism) {
		if err := s.s.Load(f.readers(s.s.groups, make([]bool, len(f.chains))), Restore{}); err != nil {
			f.t.Fatal(err)
		}
		maps.Copy(all, s.dump())
	}
	return all
}

// joined is the chain of a store after a rescale.
func (f *fleet) joined(r keygroup.Range) []*durable {
	var out []*durable
	for i, chain := range f.chains {
		theirs := keygroup.RangeOf(i, len(f.chains), f.groups)
		for _, d := range chain {
			if theirs.Overlaps(r.First, r.Last) && r.Overlaps(d.run.KeyGroupFirst, d.run.KeyGroupLast) && !slices.Contains(out, d) {
				out = append(out, d)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b *durable) int { return a.checkpoint - b.checkpoint })
	return out
}

// rescale hands the state over to other stores, all at the same time; some of
// the old ones were in a process that is gone.
func (f *fleet) rescale(parallelism int) {
	kept := make([]bool, len(f.stores))
	for i, s := range f.stores {
		kept[i] = f.rng.IntN(4) > 0
		if err := s.s.Detach(); err != nil {
			f.t.Fatal(err)
		}
	}
	now, chains := f.empty(parallelism), make([][]*durable, parallelism)
	var wg sync.WaitGroup
	for i, s := range now {
		chains[i] = f.joined(s.s.groups)
		from := f.readers(s.s.groups, kept)
		wg.Go(func() {
			var old []*Store
			for j, o := range f.stores {
				if kept[j] && o.s.groups.Overlaps(s.s.groups.First, s.s.groups.Last) {
					old = append([]*Store{o.s}, old...)
				}
			}
			err := s.s.Adopt(old, Restore{})
			if err == nil && len(from) > 0 {
				err = s.s.Load(from, Restore{})
			}
			if err != nil {
				f.t.Error(err)
			}
			// The first one is at work while others still adopt.
			if i%2 == 0 {
				s.s.Freeze(false).Abort()
			}
			for k := range uint64(50) {
				if h := hashOf(k); s.s.groups.Contains(keygroup.Of(h, f.groups)) {
					if v, ok := s.accs.Get(h, k); ok && len(v.List) > 0 {
						v, _ = s.accs.Upsert(h, k)
						v.List[0] = v.List[0] ^ 0
					}
				}
			}
		})
	}
	wg.Wait()
	if err := Forsake(storesOf(f.stores), storesOf(now)); err != nil {
		f.t.Fatal(err)
	}
	f.stores, f.chains = now, chains
	f.check("after the rescale")
}

func storesOf(all []*tables) (stores []*Store) {
	for _, t := range all {
		stores = append(stores, t.s)
	}
	return stores
}

func (f *fleet) check(when string) {
	got := model{}
	for _, s := range f.stores {
		maps.Copy(got, s.dump())
	}
	if d := diff(f.model, got); d != "" {
		f.t.Fatalf("%s:\n%s", when, d)
	}
}

// TestAdoptedStateIsTheSame rescales live, again and again.
func TestAdoptedStateIsTheSame(t *testing.T) { rescaleAtRandom(t, 12) }

// TestAdoptedTieredStateIsTheSame does so with stubs in place of most pages, all
// of one disk.
func TestAdoptedTieredStateIsTheSame(t *testing.T) {
	defer func() { placeOf = nil }()
	for _, budget := range []int64{0, 30_000} {
		d := newMemoryDisk()
		placeOf = func() (Disk, *Budget) { return d, NewBudget(budget) }
		rescaleAtRandom(t, 6)
		if d.mu.misuse != nil {
			t.Error(d.mu.misuse)
		}
		if n := d.reads.Load(); n < 1000 {
			t.Errorf("%d pages were read: this proves nothing", n)
		}
	}
}

func rescaleAtRandom(t *testing.T, seeds int) {
	if testing.Short() {
		seeds = 3
	}
	start := uint64(time.Now().UnixNano())
	for i := range seeds {
		seed := start + uint64(i)
		keys, groups := []int{12, 300, 2000}[i%3], []int{7, 64, 1000, 1024}[i%4]
		t.Run(fmt.Sprintf("keys=%d/groups=%d", keys, groups), func(t *testing.T) {
			t.Logf("seed %d", seed)
			f := newFleet(t, rand.New(rand.NewPCG(seed, 0)), groups, 1+int(seed%5))
			for range 6 {
				for range 1 + f.rng.IntN(3) {
					for range f.rng.IntN(3 * keys) {
						f.step(keys)
					}
					f.checkpoint(1 + f.rng.IntN(200))
				}
				f.checkpoint(0) // the halt
				f.rescale(1 + f.rng.IntN(6))
			}
		})
	}
}

// What was adopted is in the restored checkpoint, not in the next one; and most
// of it went without a look at an entry.
func TestAdoptedPagesAreNeitherCopiedNorWritten(t *testing.T) {
	s := NewStore(everything)
	tab := newTable[uint64, counter](t, s, "t")
	const keys = 100_000
	for k := range uint64(keys) {
		tab.Upsert(hashOf(k), k)
	}
	s.Freeze(false)
	if err := s.Detach(); err != nil {
		t.Fatal(err)
	}
	old := map[*page]bool{}
	for pages := (walk{stack: []ref{tab.root}}); ; {
		p := pages.next()
		if p == nil {
			break
		}
		old[p] = true
	}
	total := 0
	for i := range 3 {
		next := NewStore(keygroup.RangeOf(i, 3, everything.N))
		mine := newTable[uint64, counter](t, next, "t")
		if err := next.Adopt([]*Store{s}, Restore{}); err != nil {
			t.Fatal(err)
		}
		made := 0
		for pages := (walk{stack: []ref{mine.root}}); ; {
			p := pages.next()
			if p == nil {
				break
			}
			if !old[p] {
				made++
			}
			delete(old, p)
		}
		if made > 30 {
			t.Errorf("subtask %d made %d pages", i, made)
		}
		total += mine.Len()
		if f := next.Freeze(false); len(f.layers[0].changes) > 0 || f.Full() {
			t.Errorf("subtask %d: the next checkpoint has %d tables to write, full %v", i, len(f.layers[0].changes), f.Full())
		}
	}
	if total != keys || len(old) > 3 {
		t.Errorf("%d keys, want %d; %d pages were left behind", total, keys, len(old))
	}
}

// The third of all groups in the middle shares no bits, the sixth after the
// middle does: its root lies deeper than a page that holds all its keys.
func TestAPageAboveTheRootOfItsNewStoreIsTakenApart(t *testing.T) {
	s := NewStore(keygroup.RangeOf(1, 3, 1024))
	tab := newTable[uint64, int64](t, s, "t")
	rng := rand.New(rand.NewPCG(1, 2))
	r := keygroup.RangeOf(3, 6, 1024)
	next := NewStore(r)
	key := func() uint64 { return next.base + rng.Uint64N(next.top-next.base) }
	var keys []uint64
	for range 40 {
		keys = append(keys, key())
		tab.Upsert(keys[len(keys)-1], keys[len(keys)-1])
		h := s.base + rng.Uint64N(next.base-s.base)
		tab.Upsert(h, h)
	}
	s.Freeze(false)
	if err := s.Detach(); err != nil {
		t.Fatal(err)
	}
	mine := newTable[uint64, int64](t, next, "t")
	if err := next.Adopt([]*Store{s}, Restore{}); err != nil {
		t.Fatal(err)
	}
	for range 10_000 {
		keys = append(keys, key())
		mine.Upsert(keys[len(keys)-1], keys[len(keys)-1])
	}
	for _, k := range keys {
		if _, ok := mine.Get(k, k); !ok {
			t.Fatalf("key %x is lost", k)
		}
	}
}

func TestDetachRefusesStateInUse(t *testing.T) {
	s := NewStore(small)
	tab := newTable[uint64, int64](t, s, "t")
	tab.Upsert(hashOf(1), 1)
	if err := s.Detach(); !errors.Is(err, ErrInUse) {
		t.Errorf("changes after the barrier: %v", err)
	}
	f := s.Freeze(false)
	f.phase.Store(phaseWriting)
	if err := s.Detach(); !errors.Is(err, ErrInUse) {
		t.Errorf("a snapshot that is being written: %v", err)
	}
	f.Abort()
	if err := s.Detach(); !errors.Is(err, ErrInUse) {
		t.Errorf("a snapshot that was given up while it is being written: %v", err)
	}
	f.phase.Store(phaseWritten)
	if err := s.Detach(); err != nil {
		t.Error(err)
	}
	other := NewStore(small)
	newTable[uint64, int32](t, other, "t")
	if err := other.Adopt([]*Store{s}, Restore{}); err == nil {
		t.Error("a table became one of another type")
	}
	var unmatched *UnmatchedError
	if err := NewStore(small).Adopt([]*Store{s}, Restore{}); !errors.As(err, &unmatched) {
		t.Errorf("state without a table: %v", err)
	}
	dropped := NewStore(small)
	if err := dropped.Adopt([]*Store{s}, Restore{AllowUnmatched: true}); err != nil || !dropped.Freeze(false).Full() {
		t.Errorf("allowed: %v, and the next checkpoint has to be full", err)
	}
}
