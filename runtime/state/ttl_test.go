package state

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/checkpoint/snapshot"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

const life = 1000 // milliseconds

// mortal is a store of states that expire, against a model with ages.
type mortal struct {
	ttl     TTL
	s       *Store
	cur     Current[uint64]
	value   *Value[uint64, int64]
	list    *List[uint64, int64]
	mapping *Map[uint64, int64, []int64]

	now, passed int64
	front       int64
	values      map[uint64]*lived
	lists       map[uint64][]*lived
	maps        map[[2]int64]*lived
}

type lived struct{ v, at int64 }

func (m *mortal) over(l *lived) bool { return l == nil || m.now >= l.at+life }

// read is the value of something that is read.
func (m *mortal) read(l *lived) (int64, bool) {
	if m.over(l) {
		return 0, false
	}
	if m.ttl.OnRead {
		l.at = max(l.at, m.now)
	}
	return l.v, true
}

// open makes a store for the model, with a TTL or without.
func (m *mortal) open(t *testing.T, tiered bool, ttl ...TTL) {
	t.Helper()
	m.s = NewStore(everything)
	m.s.UseClock(func() time.Time { return time.UnixMilli(m.now) })
	if tiered {
		m.s.UseDisk(newMemoryDisk(), NewBudget(0))
	}
	var e1, e2, e3 error
	m.value, e1 = NewValue[uint64, int64](m.s, &m.cur, "value", ttl...)
	m.list, e2 = NewList[uint64, int64](m.s, &m.cur, "list", ttl...)
	m.mapping, e3 = NewMap[uint64, int64, []int64](m.s, &m.cur, "map", ttl...)
	if err := errors.Join(e1, e2, e3); err != nil {
		t.Fatal(err)
	}
}

// tell lets the store know the time, as an operator does.
func (m *mortal) tell() {
	m.s.SetEventTime(m.now)
	m.s.Passed(m.passed)
	m.s.between()
}

func (m *mortal) step(t *testing.T, rng *rand.Rand) {
	t.Helper()
	m.front += int64(rng.IntN(25))
	m.now = m.front
	if m.passed = max(m.passed, m.front-100); m.ttl.Processing {
		m.passed = m.front
	} else {
		m.now = max(m.passed, m.front-int64(rng.IntN(40))) // out of order
	}
	m.tell()
	k := rng.Uint64N(150)
	m.cur.Set(hashOf(k), k)
	x := rng.Int64N(1000)
	want, in := m.read(m.values[k])
	if got, ok := m.value.Lookup(); got != want || ok != in {
		t.Fatalf("at %d: value of %d is %d %v, want %d %v of %+v", m.now, k, got, ok, want, in, m.values[k])
	}
	switch rng.IntN(5) {
	case 0:
	case 1:
		m.value.Clear()
		delete(m.values, k)
	case 2:
		m.value.Update(func(v *int64) {
			if *v != want {
				t.Fatalf("an update of %d finds %d, want %d", k, *v, want)
			}
			*v += x
		})
		at := m.now
		if in {
			at = max(at, m.values[k].at)
		}
		m.values[k] = &lived{want + x, at}
	default:
		m.value.Set(x)
		at := m.now
		if in {
			at = max(at, m.values[k].at)
		}
		m.values[k] = &lived{x, at}
	}
	k %= 5
	m.now = m.front
	m.tell()
	m.cur.Set(hashOf(k), k)
	m.stepList(t, rng, k, x)
	m.stepMap(t, rng, k, x)
}

func (m *mortal) stepList(t *testing.T, rng *rand.Rand, k uint64, x int64) {
	t.Helper()
	m.lists[k] = slices.DeleteFunc(m.lists[k], m.over)
	if n := m.list.Len(); n != len(m.lists[k]) {
		t.Fatalf("at %d: list of %d has %d elements, want %d", m.now, k, n, len(m.lists[k]))
	}
	var want []int64
	for _, l := range m.lists[k] {
		v, _ := m.read(l)
		want = append(want, v)
	}
	if got := slices.Collect(m.list.All()); !slices.Equal(got, want) {
		t.Fatalf("at %d: list of %d is %v, want %v", m.now, k, got, want)
	}
	switch rng.IntN(6) {
	case 0:
		n := rng.IntN(len(want) + 2)
		m.list.RemoveFirst(n)
		m.lists[k] = m.lists[k][min(n, len(want)):]
	case 1:
		m.list.Retain(func(v int64) bool { return v%3 > 0 })
		m.lists[k] = slices.DeleteFunc(m.lists[k], func(l *lived) bool { return l.v%3 == 0 })
	case 2:
		if rng.IntN(4) == 0 {
			m.list.Set([]int64{x, x + 1})
			m.lists[k] = []*lived{{x, m.now}, {x + 1, m.now}}
		}
	default:
		m.list.Append(x, x+1)
		m.lists[k] = append(m.lists[k], &lived{x, m.now}, &lived{x + 1, m.now})
	}
}

func (m *mortal) stepMap(t *testing.T, rng *rand.Rand, k uint64, x int64) {
	t.Helper()
	want := map[int64]int64{}
	for at, l := range m.maps {
		if at[0] == int64(k) && !m.over(l) {
			want[at[1]] = l.v
		}
	}
	if n := m.mapping.Len(); n != len(want) {
		t.Fatalf("at %d: map of %d has %d entries, want %d", m.now, k, n, len(want))
	}
	got := map[int64]int64{}
	for mk, v := range m.mapping.All() {
		got[mk] = v[0]
		m.read(m.maps[[2]int64{int64(k), mk}])
	}
	if !maps.Equal(got, want) {
		t.Fatalf("at %d: map of %d is %v, want %v", m.now, k, got, want)
	}
	mk := rng.Int64N(60)
	at := [2]int64{int64(k), mk}
	old := m.maps[at]
	switch rng.IntN(4) {
	case 0:
		if m.mapping.Delete(mk) == m.over(old) {
			t.Fatalf("Delete says %v", m.over(old))
		}
		delete(m.maps, at)
	case 1:
		want, in := m.read(old)
		if v, ok := m.mapping.Get(mk); ok != in || ok && v[0] != want {
			t.Fatalf("map entry is %v %v, want %v %v", v, ok, want, in)
		}
	default:
		stamp := m.now
		if !m.over(old) {
			stamp = max(stamp, old.at)
		}
		m.mapping.Put(mk, []int64{x})
		m.maps[at] = &lived{x, stamp}
	}
}

// alive counts what is alive at the time that has passed.
func (m *mortal) alive() (values, n int) {
	count := func(l *lived) {
		if m.passed < l.at+life {
			n++
		}
	}
	for _, l := range m.values {
		count(l)
	}
	values = n
	for _, all := range m.lists {
		for _, l := range all {
			count(l)
		}
	}
	for _, l := range m.maps {
		count(l)
	}
	return values, n
}

// entries counts those of a store, without sizes and gaps.
func (m *mortal) entries() int {
	return m.value.table.Len() + m.list.elements.Len() + m.mapping.entries.Len()
}

func loadRuns(t *testing.T, s *Store, runs []snapshot.Run, how Restore) {
	t.Helper()
	var readers []*snapshot.Reader
	for i, run := range runs {
		if run.Empty() {
			continue
		}
		r, err := snapshot.Open(fmt.Sprint("run ", i), run.Bytes, 0, everything.N-1)
		if err != nil {
			t.Fatal(err)
		}
		readers = append(readers, r)
	}
	if err := s.Load(readers, how); err != nil {
		t.Fatal(err)
	}
}

// TestEntriesExpire drives values, lists and maps with a TTL against a model, in
// memory and on a disk, through snapshots of both kinds and restores.
func TestEntriesExpire(t *testing.T) {
	start := uint64(time.Now().UnixNano())
	for i, ttl := range []TTL{
		{For: life * time.Millisecond},
		{For: life * time.Millisecond, OnRead: true},
		{For: life * time.Millisecond, Processing: true},
		{For: life * time.Millisecond, Processing: true, OnRead: true},
	} {
		for _, tiered := range []bool{false, true} {
			t.Run(fmt.Sprintf("%+v,tiered=%v", ttl, tiered), func(t *testing.T) {
				seed := start + uint64(i)
				t.Logf("seed %d", seed)
				rng := rand.New(rand.NewPCG(seed, 2))
				m := &mortal{ttl: ttl, now: 1 << 40, passed: 1 << 40, front: 1 << 40, values: map[uint64]*lived{}, lists: map[uint64][]*lived{}, maps: map[[2]int64]*lived{}}
				m.open(t, tiered, ttl)
				var chain []snapshot.Run
				for range 30 {
					for range rng.IntN(150) {
						m.step(t, rng)
					}
					f := m.s.Freeze(rng.IntN(4) == 0)
					values, alive := m.alive()
					run, err := writeRun(f, everything)
					if err != nil {
						t.Fatal(err)
					}
					if f.Full() {
						chain = nil
					}
					chain = append(chain, run)
					f.Release()
					next := *m
					next.open(t, tiered && rng.IntN(2) == 0, ttl)
					loadRuns(t, next.s, chain, Restore{Declared: m.s.Declared()})
					// Old runs of a chain may still have what expired since then.
					if n, v := next.entries(), next.value.table.Len(); n < alive || f.Full() && v != values {
						t.Fatalf("%d entries, %d values in a snapshot, full %v, of %d, %d that live", n, v, f.Full(), alive, values)
					}
					if rng.IntN(3) == 0 {
						*m = next
						m.value.cur, m.list.cur, m.mapping.cur = &m.cur, &m.cur, &m.cur
						m.s.UseClock(func() time.Time { return time.UnixMilli(m.now) })
						m.tell()
					}
				}
				m.now += 3 * life
				m.passed = m.now
				for range 500 {
					m.tell()
				}
				if n := m.s.Stats().Entries; n != 0 {
					t.Errorf("%d entries stay for ever", n)
				}
			})
		}
	}
}

// A savepoint without a TTL is restored with one, and the other way round, and with
// another: ages stay where they are known.
func TestATTLComesAndGoes(t *testing.T) {
	event, longer := TTL{For: life * time.Millisecond}, TTL{For: 5 * life * time.Millisecond}
	clock := TTL{For: life * time.Millisecond, Processing: true}
	none := TTL{}
	const t0 = int64(1 << 40)
	for _, c := range []struct {
		name     string
		from, to TTL
		old, new [2]bool // whether the entries written at t0 and t0+600 are there at t0+1100, and at t0+1700
	}{
		{"none to event", none, event, [2]bool{true, true}, [2]bool{true, true}},
		{"none to processing", none, clock, [2]bool{true, true}, [2]bool{true, true}},
		{"event to none", event, none, [2]bool{true, true}, [2]bool{true, true}},
		{"event to longer", event, longer, [2]bool{true, true}, [2]bool{true, true}},
		{"event to event", event, event, [2]bool{false, true}, [2]bool{false, false}},
		{"longer to event", longer, event, [2]bool{false, true}, [2]bool{false, false}},
		{"event to processing", event, clock, [2]bool{true, true}, [2]bool{true, true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := &mortal{now: t0, passed: t0}
			m.open(t, false, c.from)
			put := func(k uint64) {
				m.tell()
				m.cur.Set(hashOf(k), k)
				m.value.Set(7)
				m.list.Append(8)
				m.mapping.Put(9, []int64{9})
			}
			put(1)
			m.now += 600
			m.passed = m.now
			put(2)
			m.now, m.passed = t0+900, t0+900
			m.tell()
			run, err := writeRun(m.s.Freeze(true), everything)
			if err != nil {
				t.Fatal(err)
			}
			declared := m.s.Declared()
			m.now, m.passed = t0+1100, t0+1100
			m.open(t, false, c.to)
			loadRuns(t, m.s, []snapshot.Run{run}, Restore{Declared: declared})
			if c.from != c.to && c.from.For*c.to.For == 0 && !m.s.Freeze(false).Full() {
				t.Error("the first checkpoint after the restore is not full: a chain would have values of two forms")
			}
			look := func(want [2]bool) {
				t.Helper()
				m.tell()
				for k := range uint64(2) {
					m.cur.Set(hashOf(k+1), k+1)
					v, ok := m.value.Lookup()
					mv, in := m.mapping.Get(9)
					if ok != want[k] || ok && v != 7 || m.list.Len() > 0 != want[k] || in != want[k] || in && mv[0] != 9 {
						t.Errorf("at %d: key %d has %d %v, %d elements, %v %v, want %v", m.now-t0, k+1, v, ok, m.list.Len(), mv, in, want[k])
					}
				}
			}
			look(c.old)
			m.now, m.passed = t0+1700, t0+1700
			look(c.new)
			if c.to == none {
				return
			}
			// Ages that were not known count from the restore.
			m.now, m.passed = t0+1100+6*life, t0+1100+6*life
			look([2]bool{})
		})
	}
}

func TestDeclaredTTL(t *testing.T) {
	var cur Current[string]
	s := NewStore(everything)
	if _, err := NewValue[string, int64](s, &cur, "v", TTL{For: time.Microsecond}); err == nil || !strings.Contains(err.Error(), "at least 1ms") {
		t.Errorf("a TTL of a microsecond: %v", err)
	}
	if _, err := NewValue[string, int64](s, &cur, "w", TTL{For: time.Minute, Processing: true}); err != nil {
		t.Fatal(err)
	}
	want := &pb.StateDecl{Name: "w", Kind: "value", KeySchema: "string", ValueSchema: "{At int64,Value int64}", Ttl: "processing", TtlMs: 60_000}
	if got := s.Declared()[0]; got.String() != want.String() {
		t.Errorf("declared %v, want %v", got, want)
	}
	if s.Aging() {
		t.Error("a state in processing time wants event time")
	}
}

// Brooms of a long TTL have next to nothing to do, and what has expired on the
// disk is found without reading what has not.
func TestBroomsReadOnlyWhatHasExpired(t *testing.T) {
	d := newMemoryDisk()
	s := NewStore(everything)
	s.UseDisk(d, NewBudget(0))
	tab, err := NewTable[uint64, int64](s, "t", TTL{For: life * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	const n = 20_000
	now := int64(1 << 40)
	for k := range uint64(n) {
		s.SetEventTime(now)
		tab.Renew(hashOf(k), k)
		s.Ease()
	}
	s.Freeze(false).Release()
	for range 200 {
		s.Ease()
	}
	reads := d.reads.Load()
	for now += life / 2; now < 1<<40+life; now += 10 {
		s.Passed(now)
		for range 100 {
			s.between()
		}
	}
	if r := d.reads.Load() - reads; r > 0 {
		t.Errorf("%d pages read where nothing had expired", r)
	}
	s.Passed(now)
	for range 20_000 {
		s.between()
	}
	if tab.Len() != 0 {
		t.Errorf("%d entries of %d are left", tab.Len(), n)
	}
}
