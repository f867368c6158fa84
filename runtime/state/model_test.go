package state

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/checkpoint/snapshot"
	"github.com/millrace/millrace/runtime/keygroup"
)

// A model is what the store should hold, kept in Go's maps: per state,
// namespace and key, the value.
type modelKey struct {
	state string
	ns    int64
	key   string
}

type model map[modelKey]string

// acc is a value that holds memory of its own.
type acc struct {
	Sum  int64
	List []int32
}

// tables are the states that the tests drive: fixed, with strings, with
// values that hold slices, with namespaces, and crowded at few hashes.
type tables struct {
	s       *Store
	fixed   *Table[uint64, int64]
	strings *Table[string, string]
	accs    *Table[uint64, acc]
	spaces  *Spaces[uint64, uint32]
	crowded *Table[uint64, int64]
	list    *List[uint64, int32]
	mapping *Map[uint64, string, int64]
	cur     Current[uint64]
	ebb     bool // most steps remove
}

var hash8, hashString = hasher[uint64](), hasher[string]()

func hasher[K comparable]() func(*K) uint64 {
	h, err := keygroup.HasherOf[K]()
	if err != nil {
		panic(err)
	}
	return h
}

func hashOf(k uint64) uint64 { return hash8(&k) }

// crowdedHash puts keys on 40 hashes that share long prefixes; the last bits
// differ by key, save for every eighth key.
func crowdedHash(k *uint64) uint64 {
	c := *k % 40
	h := hash8(&c)&^0xffff | *k&0xfff8
	return h
}

// placeOf says where the next store keeps its state; nil, and a nil Disk, stand
// for memory.
var placeOf func() (Disk, *Budget)

func newTables(r keygroup.Range) *tables {
	t := &tables{s: NewStore(r)}
	if placeOf != nil {
		if d, b := placeOf(); d != nil {
			t.s.UseDisk(d, b)
		}
	}
	var err [7]error
	t.fixed, err[0] = NewTable[uint64, int64](t.s, "fixed")
	t.strings, err[1] = NewTable[string, string](t.s, "strings")
	t.accs, err[2] = NewTable[uint64, acc](t.s, "accs")
	t.spaces, err[3] = NewSpaces[uint64, uint32](t.s, "spaces")
	t.crowded, err[4] = NewTableHashed[uint64, int64](t.s, "crowded", crowdedHash)
	t.list, err[5] = NewList[uint64, int32](t.s, &t.cur, "list")
	t.mapping, err[6] = NewMap[uint64, string, int64](t.s, &t.cur, "map")
	for _, e := range err {
		if e != nil {
			panic(e)
		}
	}
	return t
}

func content[K comparable, V any](into model, name string, ns int64, t *Table[K, V]) {
	prev := uint64(0)
	for from, done := uint64(0), false; !done; {
		from, done = t.Scan(from, 10, func(h uint64, k *K, v *V) bool {
			if keygroup.Of(h, t.s.groups.N) < keygroup.Of(prev, t.s.groups.N) && t.count > 100000 {
				panic("scan goes back")
			}
			prev = h
			key := modelKey{name, ns, fmt.Sprint(*k)}
			if _, ok := into[key]; ok {
				panic(fmt.Sprintf("scan yields %v twice", key))
			}
			into[key] = fmt.Sprint(*v)
			return true
		})
	}
}

// dump reads all of a store.
func (t *tables) dump() model {
	m := model{}
	content(m, "fixed", 0, t.fixed)
	content(m, "strings", 0, t.strings)
	content(m, "accs", 0, t.accs)
	content(m, "crowded", 0, t.crowded)
	for _, ns := range t.spaces.Namespaces() {
		content(m, "spaces", ns, t.spaces.Lookup(ns))
	}
	content(m, "list", 0, t.list.elements)
	content(m, "list/size", 0, t.list.sizes)
	content(m, "map", 0, t.mapping.entries)
	content(m, "map/size", 0, t.mapping.sizes)
	if got := t.s.Stats().Entries; got != len(m) {
		panic(fmt.Sprintf("Stats say %d entries, scans found %d", got, len(m)))
	}
	return m
}

// check compares store and model for one key, by Get.
func check[K comparable, V any](t *testing.T, m model, name string, ns int64, tab *Table[K, V], h uint64, k K) {
	t.Helper()
	want, in := m[modelKey{name, ns, fmt.Sprint(k)}]
	v, ok := tab.Get(h, k)
	if ok != in || ok && fmt.Sprint(*v) != want {
		t.Fatalf("%s[%d] %v: got %v %v, want %v %v", name, ns, k, ok, v, in, want)
	}
}

func edit[K comparable, V any](t *testing.T, m model, name string, ns int64, tab *Table[K, V], h uint64, k K, remove bool, f func(*V)) {
	t.Helper()
	at := modelKey{name, ns, fmt.Sprint(k)}
	_, in := m[at]
	if remove {
		if tab.Delete(h, k) != in {
			t.Fatalf("%v: Delete says %v", at, !in)
		}
		delete(m, at)
	} else {
		v, fresh := tab.Upsert(h, k)
		if fresh == in {
			t.Fatalf("%v: Upsert says fresh %v", at, fresh)
		}
		if fresh && !reflect.ValueOf(*v).IsZero() {
			t.Fatalf("%v: fresh value is %v", at, *v)
		}
		f(v)
		m[at] = fmt.Sprint(*v)
	}
	check(t, m, name, ns, tab, h, k)
}

// step does one random thing to the store and the model.
func (t *tables) step(tt *testing.T, m model, rng *rand.Rand, keys int) {
	t.s.Ease()
	k := rng.Uint64N(uint64(keys))
	if t.s.groups.Len() < t.s.groups.N {
		for !t.s.groups.Contains(keygroup.Of(hashOf(k), t.s.groups.N)) {
			k = rng.Uint64N(uint64(keys))
		}
	}
	remove, x := (rng.IntN(3) == 0) != (t.ebb && rng.IntN(10) > 0), int64(rng.Uint64()>>40)
	switch op := rng.IntN(16); op {
	case 0, 1, 2, 3:
		edit(tt, m, "fixed", 0, t.fixed, hashOf(k), k, remove, func(v *int64) { *v += x })
	case 4, 5:
		s := fmt.Sprint("key", k)
		edit(tt, m, "strings", 0, t.strings, hashString(&s), s, remove, func(v *string) { *v = fmt.Sprint(x) })
	case 6, 7, 8:
		edit(tt, m, "accs", 0, t.accs, hashOf(k), k, remove, func(v *acc) {
			v.Sum += x
			if len(v.List) > 0 {
				v.List[rng.IntN(len(v.List))]++ // in place: a snapshot must not see it
			}
			v.List = append(v.List, int32(x))
		})
	case 9, 10:
		ns := int64(rng.IntN(6)) - 2
		edit(tt, m, "spaces", ns, t.spaces.Space(ns), hashOf(k), k, remove, func(v *uint32) { *v++ })
	case 11:
		if rng.IntN(keys) < 20 {
			ns := int64(rng.IntN(6)) - 2
			t.spaces.Drop(ns)
			maps.DeleteFunc(m, func(k modelKey, _ string) bool { return k.state == "spaces" && k.ns == ns })
		}
	case 12, 13:
		edit(tt, m, "crowded", 0, t.crowded, crowdedHash(&k), k, remove, func(v *int64) { *v += x })
	case 14:
		t.stepList(tt, m, rng, k%7, int32(x))
	case 15:
		t.stepMap(tt, m, rng, k%7, x)
	}
}

func (t *tables) stepList(tt *testing.T, m model, rng *rand.Rand, k uint64, x int32) {
	t.cur.Set(hashOf(k), k)
	want := []int32{}
	size := modelKey{"list/size", 0, fmt.Sprint(k)}
	for i := 0; ; i++ {
		v, ok := m[modelKey{"list", 0, fmt.Sprint(ListKey[uint64]{k, uint64(i)})}]
		if !ok {
			break
		}
		var n int32
		fmt.Sscan(v, &n)
		want = append(want, n)
	}
	got := slices.AppendSeq([]int32{}, t.list.All())
	if d := gocmp.Diff(want, got); d != "" || t.list.Len() != len(want) {
		tt.Fatalf("list of %d: %s", k, d)
	}
	switch rng.IntN(8) {
	case 0:
		t.list.Clear()
		want = nil
	case 1:
		want = want[:rng.IntN(len(want)+1)]
		t.list.Set(want)
	default:
		t.list.Append(x, x+1)
		want = append(want, x, x+1)
	}
	delete(m, size)
	for i := range got {
		delete(m, modelKey{"list", 0, fmt.Sprint(ListKey[uint64]{k, uint64(i)})})
	}
	for i, v := range want {
		m[modelKey{"list", 0, fmt.Sprint(ListKey[uint64]{k, uint64(i)})}] = fmt.Sprint(v)
		m[size] = fmt.Sprint(len(want))
	}
}

func (t *tables) stepMap(tt *testing.T, m model, rng *rand.Rand, k uint64, x int64) {
	t.cur.Set(hashOf(k), k)
	mk := fmt.Sprint("m", rng.IntN(150))
	name := func(mk string) modelKey { return modelKey{"map", 0, fmt.Sprint(MapKey[uint64, string]{k, mk})} }
	n := 0
	for range t.mapping.All() {
		n++
	}
	for k, v := range t.mapping.All() {
		if m[name(k)] != fmt.Sprint(v) {
			tt.Fatalf("map entry %s is %d, want %s", k, v, m[name(k)])
		}
	}
	_, in := m[name(mk)]
	if _, ok := t.mapping.Get(mk); ok != in || n != t.mapping.Len() {
		tt.Fatalf("map: Get %v want %v; %d entries, Len %d", ok, in, n, t.mapping.Len())
	}
	switch rng.IntN(24) {
	case 0:
		t.mapping.Clear()
		for i := range 150 {
			delete(m, name(fmt.Sprint("m", i)))
		}
		n = 0
	case 1, 2, 3:
		if t.mapping.Delete(mk) != in {
			tt.Fatal("map: Delete disagrees")
		}
		delete(m, name(mk))
		if in {
			n--
		}
	default:
		t.mapping.Put(mk, x)
		m[name(mk)] = fmt.Sprint(x)
		if !in {
			n++
		}
	}
	size := modelKey{"map/size", 0, fmt.Sprint(k)}
	if delete(m, size); n > 0 {
		m[size] = fmt.Sprint(n)
	}
}

// writeRun encodes a frozen store.
func writeRun(f *Frozen, r keygroup.Range) (snapshot.Run, error) {
	w := snapshot.NewWriter(r.N)
	w.Own(r.First, r.Last)
	if err := f.Write(w); err != nil {
		return snapshot.Run{}, err
	}
	return w.Finish()
}

// restore loads a chain of runs into new stores, split over subtasks, and
// returns all that they hold.
func restore(t *testing.T, runs []snapshot.Run, n, parallelism int) (model, []*tables) {
	t.Helper()
	all := model{}
	var stores []*tables
	for subtask := range parallelism {
		r := keygroup.RangeOf(subtask, parallelism, n)
		tabs := newTables(r)
		var readers []*snapshot.Reader
		for i, run := range runs {
			if run.Empty() {
				continue
			}
			reader, err := snapshot.Open(fmt.Sprint("run ", i), run.Bytes, r.First, r.Last)
			if err != nil {
				t.Fatal(err)
			}
			readers = append(readers, reader)
		}
		if err := tabs.s.Load(readers, Restore{Declared: tabs.s.Declared()}); err != nil {
			t.Fatal(err)
		}
		maps.Copy(all, tabs.dump())
		stores = append(stores, tabs)
	}
	return all, stores
}

func diff(want, got model) string {
	if maps.Equal(want, got) {
		return "" // cmp is slow for much that is the same
	}
	d := gocmp.Diff(want, got)
	return d[:min(len(d), 2000)]
}

// TestStoreIsAMap drives a store with random operations, barriers of every
// fate, and restores at other parallelisms, against plain maps.
func TestStoreIsAMap(t *testing.T) {
	seeds := 6
	if testing.Short() {
		seeds = 2
	}
	start := uint64(time.Now().UnixNano())
	for i := range seeds {
		seed := start + uint64(i)
		keys := []int{12, 300, 3000}[i%3]
		t.Run(fmt.Sprintf("keys=%d", keys), func(t *testing.T) {
			t.Logf("seed %d", seed)
			drive(t, rand.New(rand.NewPCG(seed, 0)), keys)
		})
	}
}

// flight is a snapshot that is being written beside the store.
type flight struct {
	f    *Frozen
	want model // as of the barrier
	run  snapshot.Run
	err  error
	done sync.WaitGroup
}

func drive(t *testing.T, rng *rand.Rand, keys int) {
	defer func(n int) { pagesAStep = n }(pagesAStep)
	pagesAStep = 1 + rng.IntN(20)
	const groups = 64
	all := keygroup.RangeOf(0, 1, groups)
	tabs, m := newTables(all), model{}
	var chain []snapshot.Run // of durable checkpoints
	var flying []*flight
	land := func(i int, release bool) {
		fl := flying[i]
		if !release {
			fl.f.Abort() // maybe while it is written
			fl.done.Wait()
			flying = slices.Delete(flying, i, i+1)
			return
		}
		fl.done.Wait()
		if fl.err != nil {
			t.Fatal(fl.err)
		}
		if fl.f.Full() {
			chain = nil
		}
		chain = append(chain, fl.run)
		got, _ := restore(t, chain, groups, 1+rng.IntN(5))
		if d := diff(fl.want, got); d != "" {
			t.Fatalf("restored from %d runs (last full: %v):\n%s", len(chain), fl.f.Full(), d)
		}
		fl.f.Release()
		// Older ones are overtaken: the coordinator aborts them.
		for j := i - 1; j >= 0; j-- {
			flying[j].done.Wait()
			flying[j].f.Abort()
		}
		flying = slices.Delete(flying, 0, i+1)
	}
	for range 60 {
		tabs.ebb = rng.IntN(4) == 0
		for range rng.IntN(keys * 2) {
			tabs.step(t, m, rng, keys)
		}
		fl := &flight{f: tabs.s.Freeze(rng.IntN(8) == 0), want: maps.Clone(m)}
		fl.done.Go(func() { fl.run, fl.err = writeRun(fl.f, all) })
		flying = append(flying, fl)
		for range rng.IntN(keys) {
			tabs.step(t, m, rng, keys)
		}
		switch rng.IntN(5) {
		case 0:
			land(len(flying)-1, false)
		case 1, 2, 3:
			land(rng.IntN(len(flying)), true)
		case 4: // stays under way
		}
		if d := diff(m, tabs.dump()); d != "" {
			t.Fatal(d)
		}
		if len(chain) > 0 && len(flying) == 0 && rng.IntN(10) == 0 {
			// Fail over: go on from the last checkpoint, in one store again.
			got, stores := restore(t, chain, groups, 1)
			tabs, m = stores[0], got
		}
	}
	for i := range flying {
		flying[i].done.Wait()
		flying[i].f.Abort()
	}
	if tabs.s.tier != nil {
		tabs.checkDisk(t)
	}
}

func TestScanIsInOrderAndResumes(t *testing.T) {
	r := keygroup.RangeOf(2, 5, 128)
	s := NewStore(r)
	tab, err := NewTable[uint64, int](s, "t")
	if err != nil {
		t.Fatal(err)
	}
	var want []uint64
	for k := uint64(0); len(want) < 5000; k++ {
		if h := hashOf(k); r.Contains(keygroup.Of(h, r.N)) {
			tab.Upsert(h, k)
			want = append(want, h)
		}
	}
	slices.Sort(want)
	var got []uint64
	pages := 0
	for from, done := uint64(0), false; !done; pages++ {
		var part []uint64
		stop := pages%7 == 3
		from, done = tab.Scan(from, 1, func(h uint64, _ *uint64, _ *int) bool {
			if h < from {
				t.Fatalf("hash %x before %x", h, from)
			}
			part = append(part, h)
			return !stop
		})
		if stop {
			continue // the page comes again, whole
		}
		slices.SortFunc(part, cmp.Compare)
		got = append(got, part...)
	}
	if !slices.Equal(want, got) || pages < 50 {
		t.Fatalf("%d of %d hashes in %d steps, or out of order", len(got), len(want), pages)
	}
}
