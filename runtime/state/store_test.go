package state

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unsafe"

	"github.com/millrace/millrace/checkpoint/snapshot"
	"github.com/millrace/millrace/checkpoint/upgrade"
	"github.com/millrace/millrace/runtime/codec"
	"github.com/millrace/millrace/runtime/keygroup"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

var small = keygroup.RangeOf(0, 1, 16)

func newTable[K comparable, V any](t *testing.T, s *Store, name string) *Table[K, V] {
	t.Helper()
	tab, err := NewTable[K, V](s, name)
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

func frozenRun(t *testing.T, s *Store) *snapshot.Reader {
	t.Helper()
	run, err := writeRun(s.Freeze(false), s.groups)
	if err != nil {
		t.Fatal(err)
	}
	r, err := snapshot.Open("run", run.Bytes, s.groups.First, s.groups.Last)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRestoreReadsOlderTypesAndThenWritesInFull(t *testing.T) {
	type before struct {
		Count uint32
		Old   string
	}
	type after struct {
		New   []int64
		Count uint64
	}
	s := NewStore(small)
	old := newTable[uint32, before](t, s, "accounts")
	key := uint32(7)
	h := hasher[uint32]()(&key)
	v, _ := old.Upsert(h, key)
	*v = before{Count: 3, Old: "x"}

	next := NewStore(small)
	tab := newTable[uint64, after](t, next, "accounts")
	if err := next.Load([]*snapshot.Reader{frozenRun(t, s)}, Restore{Declared: s.Declared()}); err != nil {
		t.Fatal(err)
	}
	if got, ok := tab.Get(h, 7); !ok || got.Count != 3 || got.New != nil {
		t.Fatalf("restored %v %v", got, ok)
	}
	if f := next.Freeze(false); !f.Full() {
		t.Fatal("keys have other bytes now, but the next checkpoint is a delta")
	}
}

func TestRestoreRefusesWhatDoesNotFit(t *testing.T) {
	s := NewStore(small)
	tab := newTable[uint64, int64](t, s, "count")
	tab.Upsert(hashOf(1), 1)
	run := frozenRun(t, s)

	var unmatched *UnmatchedError
	empty := NewStore(small)
	if err := empty.Load([]*snapshot.Reader{run}, Restore{}); !errors.As(err, &unmatched) || unmatched.State != "count" {
		t.Errorf("unmatched state: %v", err)
	}
	again, _ := snapshot.Open("run", mustRun(t, s), 0, 15)
	if err := empty.Load([]*snapshot.Reader{again}, Restore{AllowUnmatched: true}); err != nil {
		t.Errorf("allowed: %v", err)
	}
	if !empty.Freeze(false).Full() {
		t.Error("state that was dropped stays in the chain: the next checkpoint is a delta")
	}

	var differs *upgrade.Refusal
	narrow := NewStore(small)
	newTable[uint64, int32](t, narrow, "count")
	again, _ = snapshot.Open("run", mustRun(t, s), 0, 15)
	if err := narrow.Load([]*snapshot.Reader{again}, Restore{Declared: s.Declared()}); !errors.As(err, &differs) || differs.Verdict != upgrade.Incompatible {
		t.Errorf("narrower: %v", err)
	}
	spaces := &pb.StateDecl{Name: "a", NamespaceSchema: "int64", KeySchema: "string", ValueSchema: "int8"}
	plain := &pb.StateDecl{Name: "a", KeySchema: "string", ValueSchema: "int8"}
	if CompatibleState(spaces, plain) == nil || CompatibleState(plain, plain) != nil {
		t.Error("CompatibleState passes over namespaces")
	}
}

// mustRun is a full run of a store.
func mustRun(t *testing.T, s *Store) []byte {
	t.Helper()
	f := s.Freeze(true)
	run, err := writeRun(f, s.groups)
	if err != nil {
		t.Fatal(err)
	}
	f.Abort()
	return run.Bytes
}

func TestDeclarationsAreThoseOfTheStore(t *testing.T) {
	var cur Current[string]
	s := NewStore(small)
	_, e1 := NewMap[string, int64, []byte](s, &cur, "m")
	_, e2 := NewList[string, float64](s, &cur, "l")
	_, e3 := NewValue[string, bool](s, &cur, "v")
	m, e4 := DeclareMap[string, int64, []byte]("m")
	l, e5 := DeclareList[string, float64]("l")
	v, e6 := DeclareValue[string, bool]("v")
	if err := errors.Join(e1, e2, e3, e4, e5, e6); err != nil {
		t.Fatal(err)
	}
	byName := map[string]*pb.StateDecl{}
	for _, d := range append(append(m, l...), v...) {
		byName[d.GetName()] = d
	}
	for _, d := range s.Declared() {
		if err := CompatibleState(byName[d.GetName()], d); err != nil || byName[d.GetName()].GetKeySchema() != d.GetKeySchema() {
			t.Errorf("%v declared as %v: %v", d, byName[d.GetName()], err)
		}
	}
	if _, err := NewValue[string, bool](s, &cur, "v"); err == nil {
		t.Error("two states of one name")
	}
	if _, err := DeclareValue[string, func()]("f"); err == nil || !strings.Contains(err.Error(), `"f"`) {
		t.Errorf("a func as state: %v", err)
	}
}

func TestCrowdedHashesMakeLargePagesNotDeepTrees(t *testing.T) {
	s := NewStore(everything)
	const n = 100_000
	// All keys share 32 bits of hash, as the entries of one large map do.
	hash := func(k *uint64) uint64 { return 0xabcdef01<<32 | hash8(k)>>32 }
	tab, err := NewTableHashed[uint64, int64](s, "t", hash)
	if err != nil {
		t.Fatal(err)
	}
	for k := range uint64(n) {
		tab.Upsert(hash(&k), k)
	}
	nodes, pages, largest := 0, 0, 0
	seen := map[ref]bool{}
	var count func(r ref)
	count = func(r ref) {
		if seen[r] {
			return
		}
		if seen[r] = true; width(r) == 0 {
			pages, largest = pages+1, max(largest, (*page)(r).capacity())
			return
		}
		nodes += nodeHead + 8*len(placesOf(r))
		for _, c := range placesOf(r) {
			count(c)
		}
	}
	count(tab.root)
	if nodes > tab.Bytes()/2 {
		t.Errorf("%d bytes of nodes for %d pages of %d bytes", nodes, pages, tab.Bytes())
	}
	if largest > 4*tab.of.full {
		t.Errorf("a page of %d slots, though its entries can be parted", largest)
	}
	for k := range uint64(n) {
		if _, ok := tab.Get(hash(&k), k); !ok {
			t.Fatalf("key %d is lost", k)
		}
	}
	// One hash for all: nothing can part them, and they are found still.
	same, err := NewTableHashed[uint64, int64](s, "same", func(*uint64) uint64 { return 42 })
	if err != nil {
		t.Fatal(err)
	}
	for k := range uint64(500) {
		same.Upsert(42, k)
	}
	if same.Len() != 500 || !same.Delete(42, 499) {
		t.Error("keys of one hash are lost")
	}
}

func TestSteadyUpdatesDoNotAllocate(t *testing.T) {
	s, tab, keys, hashes := filled(t, 20_000, number)
	names := NewStore(small)
	strs := newTable[string, int64](t, names, "s")
	for i := range uint64(1000) {
		k := name(i)
		strs.Upsert(hashString(&k), k)
	}
	k := name(77)
	i := 0
	if n := testing.AllocsPerRun(5000, func() {
		i++
		v, _ := tab.Upsert(hashes[i], keys[i])
		v.Count++
		tab.Get(hashes[i+1], keys[i+1])
		strs.Upsert(hashString(&k), k)
	}); n != 0 {
		t.Errorf("%v allocations an update", n)
	}
	// Nor do copies beside a snapshot, once a first round has left its pages.
	for range 3 {
		f := s.Freeze(false)
		for j := range keys {
			tab.Upsert(hashes[j], keys[j])
		}
		f.Release()
	}
	if len(tab.of.released) == 0 {
		t.Error("pages that copies replaced are not offered again")
	}
}

// TestTextsAreTheTablesOwn: the memory of a batch is used again for the next
// one, or kept whole by one string; neither is for state to suffer from.
func TestTextsAreTheTablesOwn(t *testing.T) {
	type row struct {
		Name string
		N    int
	}
	s := NewStore(keygroup.RangeOf(0, 1, 16))
	table, err := NewTable[string, row](s, "rows")
	if err != nil {
		t.Fatal(err)
	}
	memory := []byte("k1 first")
	key, name := unsafe.String(&memory[0], 2), unsafe.String(&memory[3], 5)
	if !table.Put(1, key, row{name, 1}) {
		t.Fatal("the key was there")
	}
	copy(memory, "XXXXXXXX")
	if v, ok := table.Get(1, "k1"); !ok || v.Name != "first" {
		t.Fatalf("%v, %v: the table kept memory of the batch", v, ok)
	}
	if n := testing.AllocsPerRun(100, func() { table.Put(1, "k1", row{"first", 2}) }); n != 0 {
		t.Errorf("%v allocations to put the same text again", n)
	}
	v, _ := table.Upsert(1, "k1")
	copy(memory, "xxxsecon")
	table.Set(1, v, row{name, v.N + 1})
	copy(memory, "XXXXXXXX")
	if v, _ := table.Get(1, "k1"); *v != (row{"secon", 3}) {
		t.Fatalf("%v", v)
	}
}

func TestAKeyOfAnotherSubtaskIsAnError(t *testing.T) {
	s := NewStore(keygroup.RangeOf(0, 4, 16))
	tab := newTable[uint64, int64](t, s, "t")
	k := uint64(0)
	for s.groups.Contains(keygroup.Of(hashOf(k), 16)) {
		k++
	}
	tab.Upsert(hashOf(k), k)
	if _, err := writeRun(s.Freeze(false), s.groups); err == nil || !strings.Contains(err.Error(), fmt.Sprint("key ", k)) {
		t.Errorf("got %v", err)
	}
}

type broken struct{ X int }

func (broken) MarshalBinary() ([]byte, error)  { return nil, errors.New("cannot") }
func (*broken) UnmarshalBinary(b []byte) error { return nil }

func TestAValueThatCannotBeEncodedFailsTheSnapshot(t *testing.T) {
	s := NewStore(small)
	newTable[uint64, broken](t, s, "t").Upsert(hashOf(1), 1)
	var bad *codec.MarshalError
	if _, err := writeRun(s.Freeze(false), small); !errors.As(err, &bad) {
		t.Errorf("got %v", err)
	}
}

func TestGivenUpSnapshotsAreNotWritten(t *testing.T) {
	s := NewStore(small)
	newTable[uint64, int64](t, s, "t").Upsert(hashOf(1), 1)
	f := s.Freeze(false)
	f.Abort()
	if _, err := writeRun(f, small); !errors.Is(err, ErrAborted) {
		t.Errorf("got %v", err)
	}
	// Ever more failures end in a full snapshot, and hold no more memory.
	for range 3 * maxHeld {
		f = s.Freeze(false)
		f.Abort()
	}
	if f = s.Freeze(false); !f.Full() || len(s.held) > maxHeld || len(s.layers) > maxHeld+1 {
		t.Errorf("full %v, %d held, %d layers", f.Full(), len(s.held), len(s.layers))
	}
	f.Release()
	if f = s.Freeze(false); f.Full() {
		t.Error("full again after a full one was released")
	}
}

// TestASliceStartsAsLargeAsTheLast: a namespace expects as many keys as the one
// made before it, and is right also when it gets more or fewer.
func TestASliceStartsAsLargeAsTheLast(t *testing.T) {
	s := NewStore(everything)
	p, err := NewSpaces[uint64, counter](s, "p")
	if err != nil {
		t.Fatal(err)
	}
	hash := hasher[uint64]()
	sizes := []int{50, 1, 50, 3000, 20, 50}
	firsts := []int{8, 64, 8, 64, 64, 8} // slots of the page that the first key is in
	for ns, n := range sizes {
		table := p.Space(int64(ns))
		for k := range uint64(n) {
			v, _ := table.Upsert(hash(&k), k)
			v.Count = k
			if k == 0 {
				if got := table.leaf(hash(&k)).capacity(); got != firsts[ns] {
					t.Errorf("slice %d of %d keys begins with %d slots, want %d", ns, n, got, firsts[ns])
				}
			}
		}
		if ns == 4 {
			p.Drop(4) // what is gone is no example
		}
	}
	for ns, n := range sizes {
		if table := p.Lookup(int64(ns)); ns != 4 && table.Len() != n {
			t.Errorf("slice %d has %d keys, want %d", ns, table.Len(), n)
		}
	}
}

// TestChangesBetweenFullSnapshotsAreKept: after too many barriers without a
// durable checkpoint two full snapshots are under way; the first becomes
// durable, the second does not, and the changes after it build on the first.
func TestChangesBetweenFullSnapshotsAreKept(t *testing.T) {
	s := NewStore(everything)
	table, err := NewTable[uint64, counter](s, "t")
	if err != nil {
		t.Fatal(err)
	}
	hash := hasher[uint64]()
	set := func(k uint64) {
		v, _ := table.Upsert(hash(&k), k)
		v.Count++
	}
	for range maxHeld {
		set(1)
		s.Freeze(false).Abort()
	}
	var runs []snapshot.Run
	write := func(f *Frozen) {
		w := snapshot.NewWriter(everything.N)
		w.Own(everything.First, everything.Last)
		if err := f.Write(w); err != nil {
			t.Fatal(err)
		}
		run, err := w.Finish()
		if err != nil {
			t.Fatal(err)
		}
		runs = append(runs, run)
	}
	first := s.Freeze(false)
	write(first)
	set(2)
	second := s.Freeze(false)
	if !first.Full() || !second.Full() {
		t.Fatal("two snapshots under way after too many barriers must be full")
	}
	first.Release()
	set(3)
	third := s.Freeze(false)
	second.Abort()
	if third.Full() {
		t.Error("a full snapshot is durable, and the next is full again")
	}
	write(third)
	got := NewStore(everything)
	back, err := NewTable[uint64, counter](got, "t")
	if err != nil {
		t.Fatal(err)
	}
	var readers []*snapshot.Reader
	for _, run := range runs {
		r, err := snapshot.Open("run", run.Bytes, everything.First, everything.Last)
		if err != nil {
			t.Fatal(err)
		}
		readers = append(readers, r)
	}
	if err := got.Load(readers, Restore{}); err != nil {
		t.Fatal(err)
	}
	for k, want := range map[uint64]uint64{1: maxHeld, 2: 1, 3: 1} {
		if v, ok := back.Get(hash(&k), k); !ok || v.Count != want {
			t.Errorf("key %d came back as %v (%v), want %d", k, v, ok, want)
		}
	}
}

// TestATablesShapeDoesNotDependOnItsShare fills stores of the most different
// key groups with as many keys and compares what that takes. Ranges that cross
// the middle of all hashes share no leading bit, however small they are.
func TestATablesShapeDoesNotDependOnItsShare(t *testing.T) {
	const keys = 20_000
	shape := func(r keygroup.Range) (bytes, pages, nodes int) {
		s := NewStore(r)
		tab := newTable[uint64, counter](t, s, "t")
		rng := rand.New(rand.NewPCG(1, 2))
		for range keys {
			h := s.base + rng.Uint64N(max(s.top-s.base, 1)) // the range of all has 2^64-1
			tab.Upsert(h, h)
		}
		seen := map[ref]bool{}
		for stack := []ref{tab.root}; len(stack) > 0; {
			r := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			switch {
			case seen[r]:
			case width(r) > 0:
				nodes += len(placesOf(r))
				stack = append(stack, placesOf(r)...)
			default:
				pages++
			}
			seen[r] = true
		}
		return tab.Bytes(), pages, nodes
	}
	bytes, pages, _ := shape(everything)
	for _, r := range []keygroup.Range{
		keygroup.RangeOf(1, 2, 1024), keygroup.RangeOf(1, 3, 1024), keygroup.RangeOf(512, 1024, 1024),
		{First: 511, Last: 512, N: 1024}, {First: 500, Last: 513, N: 1024}, {First: 16383, Last: 16384, N: 32768},
	} {
		b, p, n := shape(r)
		if b > bytes*5/4 || p > pages*5/4 || p < pages*3/4 || 8*n > bytes/20 {
			t.Errorf("%v: %d bytes in %d pages, %d places; all groups: %d bytes, %d pages", r, b, p, n, bytes, pages)
		}
	}
}

// TestStateThatAllChangesIsWrittenInFull: where nearly all entries change between
// two barriers a full snapshot is no larger, and takes the place of the chain.
func TestStateThatAllChangesIsWrittenInFull(t *testing.T) {
	const n = 1000
	s := NewStore(small)
	tab := newTable[uint64, counter](t, s, "t")
	change := func(keys uint64) {
		for k := range keys {
			v, _ := tab.Upsert(hashOf(k), k)
			v.Count++
		}
	}
	checkpoint := func() (full bool, entries int) {
		f := s.Freeze(false)
		run, err := writeRun(f, s.groups)
		if err != nil {
			t.Fatal(err)
		}
		f.Release()
		return f.Full(), run.Entries
	}
	for i, step := range []struct {
		keys    uint64
		full    bool
		entries int
	}{
		{n, false, n},     // nothing was known
		{n / 10, true, n}, // all had changed
		{n / 10, false, n / 10},
		{n * 3 / 4, false, n * 3 / 4},
		{n, true, n}, // three in four had changed
		{n, true, n},
		{1, true, n},
		{1, false, 1},
	} {
		change(step.keys)
		if full, entries := checkpoint(); full != step.full || entries != step.entries {
			t.Errorf("checkpoint %d: full %v with %d entries, want %v with %d", i, full, entries, step.full, step.entries)
		}
	}
}
