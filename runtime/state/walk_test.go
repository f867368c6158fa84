package state

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/millrace/millrace/checkpoint/snapshot"
)

// walker is a list and a map of three keys against plain ones.
type walker struct {
	s       *Store
	cur     Current[uint64]
	list    *List[uint64, string]
	mapping *Map[uint64, string, int]
	lists   map[uint64][]string
	maps    map[uint64]map[string]int
	next    int
}

func newWalker(t *testing.T, tiered bool) *walker {
	t.Helper()
	w := &walker{s: NewStore(everything), lists: map[uint64][]string{}, maps: map[uint64]map[string]int{}}
	if tiered {
		w.s.UseDisk(newMemoryDisk(), NewBudget(0))
	}
	var err error
	if w.list, err = NewList[uint64, string](w.s, &w.cur, "list"); err != nil {
		t.Fatal(err)
	}
	if w.mapping, err = NewMap[uint64, string, int](w.s, &w.cur, "map"); err != nil {
		t.Fatal(err)
	}
	return w
}

// moved is the walker after a restore.
func (w *walker) moved(t *testing.T, tiered bool) *walker {
	t.Helper()
	next := newWalker(t, tiered)
	next.lists, next.maps, next.next = w.lists, w.maps, w.next
	f := w.s.Freeze(true)
	run, err := writeRun(f, everything)
	if err != nil {
		t.Fatal(err)
	}
	r, err := snapshot.Open("run", run.Bytes, 0, everything.N-1)
	if err != nil {
		t.Fatal(err)
	}
	if err := next.s.Load([]*snapshot.Reader{r}, Restore{}); err != nil {
		t.Fatal(err)
	}
	return next
}

func (w *walker) fresh(n int) (all []string) {
	for range n {
		w.next++
		all = append(all, fmt.Sprint("element ", w.next))
	}
	return all
}

func (w *walker) check(t *testing.T, k uint64) {
	t.Helper()
	w.cur.Set(hashOf(k), k)
	if got := slices.Collect(w.list.All()); !slices.Equal(got, w.lists[k]) || w.list.Len() != len(got) {
		t.Fatalf("list of %d: %d elements, Len %d, want %d: %q, want %q", k, len(got), w.list.Len(), len(w.lists[k]), got, w.lists[k])
	}
	if got := maps.Collect(w.mapping.All()); !maps.Equal(got, w.maps[k]) || w.mapping.Len() != len(got) {
		t.Fatalf("map of %d: %v, Len %d, want %v", k, got, w.mapping.Len(), w.maps[k])
	}
}

func (w *walker) stepList(t *testing.T, rng *rand.Rand, k uint64) {
	all := w.lists[k]
	some := rng.IntN(len(all) + 2)
	switch rng.IntN(12) {
	case 0:
		w.list.Clear()
		all = nil
	case 1:
		all = w.fresh(rng.IntN(100))
		w.list.Set(all)
	case 2:
		w.list.RemoveFirst(some)
		all = all[min(some, len(all)):]
	case 3:
		last := ""
		if some < len(all) {
			last = all[some]
			all = all[some:]
		} else {
			all = nil
		}
		w.list.RemoveWhile(func(e string) bool { return e != last })
	case 4:
		third := func(e string) bool { return len(e)%3 == 0 || e[len(e)-1]%3 == 0 }
		w.list.Retain(func(e string) bool { return !third(e) })
		all = slices.DeleteFunc(all, third)
	case 5: // changes in the midst of a walk
		stop, more := rng.IntN(len(all)+1), w.fresh(3)
		var got []string
		for e := range w.list.All() {
			if len(got) == stop {
				w.list.Append(more...)
				w.list.RemoveFirst(stop + 2)
			}
			got = append(got, e)
		}
		want := all
		if stop < len(all) {
			// What was removed does not come, but for the one in hand.
			want = slices.Concat(all[:stop+1], all[min(stop+2, len(all)):])
			all = slices.Concat(all, more)[min(stop+2, len(all)+3):]
		}
		if !slices.Equal(got, want) {
			t.Fatalf("a walk with changes at %d: %q, want %q", stop, got, want)
		}
	default:
		more := w.fresh(1 + rng.IntN(80))
		w.list.Append(more...)
		all = slices.Concat(all, more)
	}
	w.lists[k] = slices.Clip(all)
}

func (w *walker) stepMap(t *testing.T, rng *rand.Rand, k uint64) {
	m := w.maps[k]
	if m == nil {
		m = map[string]int{}
		w.maps[k] = m
	}
	key := func() string { return fmt.Sprint("key ", rng.IntN(400)) }
	switch rng.IntN(6) {
	case 0:
		if rng.IntN(4) == 0 {
			w.mapping.Clear()
			clear(m)
		}
	case 1: // changes in the midst of a walk
		came := map[string]bool{}
		was := maps.Clone(m)
		for mk, v := range w.mapping.All() {
			want, in := m[mk]
			if came[mk] || !in || v != want {
				t.Fatalf("%q comes with %d, twice %v, want %d %v", mk, v, came[mk], want, in)
			}
			came[mk] = true
			for range rng.IntN(3) {
				if other := key(); rng.IntN(2) == 0 {
					w.next++
					w.mapping.Put(other, w.next)
					m[other] = w.next
				} else {
					w.mapping.Delete(other)
					delete(m, other)
				}
			}
		}
		for mk := range was {
			if _, in := m[mk]; in && !came[mk] {
				// Removed and put again, it may come or not.
				if v := m[mk]; v == was[mk] {
					t.Fatalf("%q never came", mk)
				}
			}
		}
	default:
		for range rng.IntN(60) {
			mk := key()
			w.next++
			w.mapping.Put(mk, w.next)
			m[mk] = w.next
		}
		if mk := key(); w.mapping.Delete(mk) != (func() bool { _, in := m[mk]; return in }()) {
			t.Fatal("Delete disagrees")
		} else {
			delete(m, mk)
		}
	}
}

// TestWalks drives lists and maps with removals, and with changes in the midst of
// walks, against slices and maps, in memory and with all pages on a disk.
func TestWalks(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	for _, tiered := range []bool{false, true} {
		t.Run(fmt.Sprintf("tiered=%v", tiered), func(t *testing.T) {
			t.Logf("seed %d", seed)
			rng := rand.New(rand.NewPCG(seed, 1))
			w := newWalker(t, tiered)
			for i := range 250 {
				k := rng.Uint64N(3)
				w.cur.Set(hashOf(k), k)
				w.stepList(t, rng, k)
				w.stepMap(t, rng, k)
				w.s.Ease()
				w.check(t, k)
				if i%50 == 49 {
					w = w.moved(t, tiered != (rng.IntN(3) == 0))
				}
			}
			for k := range uint64(3) {
				w.cur.Set(hashOf(k), k)
				w.list.RemoveFirst(1 << 30)
				w.mapping.Clear()
			}
			if n := w.s.Stats().Entries; n != 0 {
				t.Errorf("%d entries are left of nothing", n)
			}
		})
	}
}

// TestWalksAreNotWholeInMemory: a list and a map that are much larger than the
// budget go by within it, also when they change on the way.
func TestWalksAreNotWholeInMemory(t *testing.T) {
	const n, limit = 8_000, 150_000
	d, b := newMemoryDisk(), NewBudget(limit)
	s := NewStore(everything)
	s.UseDisk(d, b)
	var cur Current[uint64]
	list, e1 := NewList[uint64, [4]int64](s, &cur, "list")
	mapping, e2 := NewMap[uint64, int64, [4]int64](s, &cur, "map")
	if e1 != nil || e2 != nil {
		t.Fatal(e1, e2)
	}
	cur.Set(hashOf(1), 1)
	for i := range int64(n) {
		list.Append([4]int64{i})
		mapping.Put(i, [4]int64{i})
		s.Ease()
	}
	s.Freeze(false).Release()
	for range 100 {
		s.Ease()
	}
	if all := s.Stats().Disk; all < 3*limit {
		t.Fatalf("%d bytes on the disk prove nothing", all)
	}
	peak := int64(0)
	see := func(what string, i int) {
		if peak = max(peak, b.Used()); peak > limit+limit/3 {
			t.Fatalf("%s: %d bytes in memory at element %d, of a budget of %d", what, peak, i, limit)
		}
	}
	walk := func(what string, change bool) {
		i := 0
		reads := d.reads.Load()
		for e := range list.All() {
			if e[0] != int64(i) {
				t.Fatalf("%s: element %d is %v", what, i, e)
			}
			i++
			see(what, i)
		}
		// In order of their places, and yet a page is read once or twice.
		if r := d.reads.Load() - reads; r > n/16 {
			t.Errorf("%s: %d reads for %d elements", what, r, n)
		}
		j := 0
		for k, v := range mapping.All() {
			if v[0] != k {
				t.Fatalf("%s: entry %d is %v", what, k, v)
			}
			if j++; change {
				mapping.Put(k, v)
			}
			see(what, j)
		}
		if i != n || j != n {
			t.Fatalf("%s: %d elements and %d entries of %d", what, i, j, n)
		}
	}
	walk("read", false)
	walk("change", true)
	list.Retain(func(e [4]int64) bool { see("retain", int(e[0])); return e[0]%2 == 0 })
	if list.Len() != n/2 {
		t.Errorf("%d elements are left", list.Len())
	}
	mapping.Clear()
	list.Clear()
	see("clear", 0)
	if left := s.Stats().Entries; left != 0 {
		t.Errorf("%d entries are left", left)
	}
}
