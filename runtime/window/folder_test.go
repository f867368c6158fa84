package window

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/internal/clock"
	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/keygroup"
	"github.com/millrace/millrace/runtime/operator"
)

func folding(c *Config[string, pair, int64, string]) { c.Folded, c.Late = true, "" }

// TestFoldedRecordsGiveTheSameResults compares a rig that takes each record by
// itself with one behind a folder: updates of fired windows and the count of late
// records are the same, too.
func TestFoldedRecordsGiveTheSameResults(t *testing.T) { sameWithLateRecords(t, true) }

// TestRestartsMakeNothingLate compares a rig that runs through with one that is
// restored now and then.
func TestRestartsMakeNothingLate(t *testing.T) { sameWithLateRecords(t, false) }

// sameWithLateRecords feeds two rigs the same random records, out of order and
// late. The second one restarts, and folds if asked to.
func sameWithLateRecords(t *testing.T, fold bool) {
	seeds := uint64(100)
	if testing.Short() {
		seeds = 25
	}
	for seed := range seeds {
		r := rand.New(rand.NewPCG(seed, 3))
		a := Assigner{Size: 1 + r.Int64N(50), Slide: 1 + r.Int64N(30), Offset: r.Int64N(20) - 10}
		if r.IntN(3) == 0 {
			a.Slide = a.Size
		} else if r.IntN(4) == 0 {
			a.Size, a.Cumulate = a.Slide*(1+r.Int64N(6)), true
		} else if r.IntN(3) == 0 {
			a = Assigner{Gap: 1 + r.Int64N(20)}
		}
		lateness := r.Int64N(2) * r.Int64N(20)
		subtract := r.IntN(2) == 0
		change := func(fold bool) func(c *Config[string, pair, int64, string]) {
			return func(c *Config[string, pair, int64, string]) {
				c.AllowedLateness, c.Folded, c.Late = lateness, fold, ""
				if subtract {
					subtracting(c)
				}
			}
		}
		plain, other := newRig(t, a, change(false)), newRig(t, a, change(fold))
		keys, bound := 1+r.IntN(60), r.Int64N(30)
		now, mark := int64(0), int64(batch.NoTime)
		dropped := uint64(0)
		for range 300 {
			now += r.Int64N(4)
			for range 1 + r.IntN(6) {
				// A third of the keys are hot, and a tenth of the records late.
				key := fmt.Sprint("k", r.IntN(1+r.IntN(keys)))
				at, value := now-r.Int64N(bound+1), r.Int64N(100)
				if r.IntN(10) == 0 {
					at -= 2 * bound
				}
				plain.push(key, value, at)
				other.push(key, value, at)
			}
			switch r.IntN(12) {
			case 0, 1, 2:
				if now-bound-1 > mark {
					mark = now - bound - 1
					plain.watermark(mark, nil)
					other.watermark(mark, nil)
				}
			case 3:
				dropped += other.dropped()
				other.start(1+r.IntN(4), other.save())
				if mark != batch.NoTime {
					other.watermark(mark, nil)
				}
			}
		}
		plain.watermark(batch.EndOfTime, nil)
		other.watermark(batch.EndOfTime, nil)
		slices.Sort(plain.results)
		slices.Sort(other.results)
		if diff := cmp.Diff(plain.results, other.results); diff != "" {
			t.Fatalf("seed %d, %+v, lateness %d, %d keys, bound %d: (-plain +other)\n%s", seed, a, lateness, keys, bound, diff)
		}
		if got := dropped + other.dropped(); got != plain.dropped() {
			t.Fatalf("seed %d: %d records counted as late, want %d", seed, got, plain.dropped())
		}
	}
}

// TestWindowsOfFoldedRecordsEqualTheOracle is TestWindowsEqualTheOracle behind
// a folder.
func TestWindowsOfFoldedRecordsEqualTheOracle(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 4))
		a := Assigner{Size: 1 + r.Int64N(50), Slide: 1 + r.Int64N(30)}
		if r.IntN(3) == 0 {
			a = Assigner{Gap: 1 + r.Int64N(30)}
		}
		w := newRig(t, a, folding)
		o := &oracle{a: a}
		w.storm(r, o)
		slices.Sort(w.results)
		if diff := cmp.Diff(o.results(), w.results); diff != "" {
			t.Fatalf("seed %d, %+v: (-oracle +operator)\n%s", seed, a, diff)
		}
	}
}

// TestARowThatComesTooLateCountsItsRecords: a receiver may be ahead of a sender
// that was idle.
func TestARowThatComesTooLateCountsItsRecords(t *testing.T) {
	r := newRig(t, Tumbling(10*time.Millisecond), folding)
	for range 5 {
		r.push("a", 1, 3)
	}
	if _, err := r.subs[0].op.Watermark(20); err != nil {
		t.Fatal(err)
	}
	r.watermark(30, nil)
	if r.dropped() != 5 || len(r.results) > 0 {
		t.Fatalf("%d records counted as late, want 5; results %q", r.dropped(), r.results)
	}
}

// text collects strings, whose order shows, in memory that it must not share.
func text() Aggregate[pair, []string] {
	return Aggregate[pair, []string]{
		New:   func() []string { return nil },
		Add:   func(acc *[]string, p pair) { *acc = append(*acc, fmt.Sprint(p.Value)) },
		Merge: func(a, b *[]string) { *a = append(*a, *b...) },
	}
}

// foldRig is a folder by hand.
type foldRig struct {
	t     testing.TB
	op    *Folder[string, pair, []string]
	clock *clock.Virtual
	rows  []string
	in    batch.Batch[pair]
}

func newFoldRig(t testing.TB, a Assigner) *foldRig {
	t.Helper()
	r := &foldRig{t: t, clock: clock.NewVirtual(time.UnixMilli(0))}
	r.op = NewFolder(Config[string, pair, []string, int]{Assigner: a, Key: func(p pair) string { return p.Key }, Aggregate: text()}).(*Folder[string, pair, []string])
	if err := r.op.Open(&operator.Context{Clock: r.clock, Metrics: &operator.Metrics{}}); err != nil {
		t.Fatal(err)
	}
	r.op.out.Attach(r)
	return r
}

func (r *foldRig) Push(b *batch.Batch[Partial[string, pair, []string]]) error {
	for i, p := range b.Values {
		if p.N == 0 {
			r.rows = append(r.rows, fmt.Sprintf("%s raw %d @%d", p.Key, p.Raw.Value, b.Times[i]))
			continue
		}
		row := fmt.Sprintf("%s %d %v @%d", p.Key, p.N, p.Acc, b.Times[i])
		if p.Span > 0 {
			row += fmt.Sprint(" to ", b.Times[i]+int64(p.Span))
		}
		r.rows = append(r.rows, row)
	}
	return nil
}

func (r *foldRig) push(at int64, ps ...pair) {
	r.t.Helper()
	r.in.Reset()
	for _, p := range ps {
		r.in.Append(p, at)
	}
	if err := r.op.Push(&r.in); err != nil {
		r.t.Fatal(err)
	}
}

func (r *foldRig) want(rows ...string) {
	r.t.Helper()
	slices.Sort(r.rows)
	if diff := cmp.Diff(rows, r.rows); diff != "" {
		r.t.Errorf("rows (-want +got):\n%s", diff)
	}
	r.rows = nil
}

func TestFoldedRecordsLeaveBeforeAWatermark(t *testing.T) {
	r := newFoldRig(t, Tumbling(10*time.Millisecond))
	r.push(3, pair{"a", 1}, pair{"b", 2}, pair{"a", 3})
	r.push(12, pair{"a", 4})
	r.want()
	if _, err := r.op.Watermark(9); err != nil {
		t.Fatal(err)
	}
	r.want("a 1 [4] @10", "a 2 [1 3] @0", "b 1 [2] @0")
	// The slice has fired: each record is on its own.
	r.push(5, pair{"a", 5}, pair{"a", 6})
	r.want("a raw 5 @5", "a raw 6 @5")
	r.push(13, pair{"a", 7})
	if err := r.op.Flush(); err != nil { // out of input
		t.Fatal(err)
	}
	r.want("a 1 [7] @10")
}

func TestSessionsAreFoldedInPieces(t *testing.T) {
	r := newFoldRig(t, Session(10*time.Millisecond))
	flush := func() {
		t.Helper()
		if err := r.op.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	r.push(20, pair{"a", 1}, pair{"b", 2})
	r.push(29, pair{"a", 3})
	r.push(11, pair{"a", 4})
	r.want()
	// A gap apart: another piece.
	r.push(39, pair{"a", 5})
	r.want("a 3 [1 3 4] @11 to 29")
	r.push(29, pair{"a", 6})
	r.want("a 1 [5] @39")
	flush()
	r.want("a 1 [6] @29", "b 1 [2] @20")
	// By itself a record of 20 would fire a session at once. Whether it is late
	// depends on what is held of its key, which goes first.
	if _, err := r.op.Watermark(29); err != nil {
		t.Fatal(err)
	}
	r.push(21, pair{"a", 7}, pair{"b", 8})
	r.want()
	r.push(20, pair{"a", 9})
	if diff := cmp.Diff([]string{"a 1 [7] @21", "a raw 9 @20"}, r.rows); diff != "" {
		t.Errorf("rows in order (-want +got):\n%s", diff)
	}
	r.rows = nil
	flush()
	r.want("b 1 [8] @21")
}

func TestABusyFolderHoldsNothingForLong(t *testing.T) {
	r := newFoldRig(t, Tumbling(10*time.Millisecond))
	r.push(3, pair{"a", 1})
	r.clock.Advance(foldFor - 1)
	r.push(3, pair{"a", 2})
	r.want()
	r.clock.Advance(1)
	r.push(3, pair{"a", 3})
	r.want("a 3 [1 2 3] @0")
}

// TestFoldingStopsWhereItDoesNotReduce sends keys that never come again, until
// records travel as they are, and then one key, until they are folded again.
func TestFoldingStopsWhereItDoesNotReduce(t *testing.T) {
	r := newFoldRig(t, Tumbling(time.Hour))
	n := 0
	unique := func() pair { n++; return pair{fmt.Sprint("k", n), int64(n)} }
	for range sample + batch.Rows {
		r.push(1, unique())
	}
	r.rows = nil
	r.push(1, unique())
	r.want(fmt.Sprintf("k%d raw %d @1", n, n))
	same := make([]pair, batch.Rows)
	for i := range same {
		same[i] = pair{"hot", 0}
	}
	for range restAfter/batch.Rows + 1 {
		r.push(1, same...)
	}
	r.rows = nil
	for range 4 * sample / batch.Rows {
		r.push(1, same...)
	}
	r.want()
}

// TestPartialsKeepTheOrderOfRecords has more keys than places, so that most are
// driven out and come back.
func TestPartialsKeepTheOrderOfRecords(t *testing.T) {
	r := newFoldRig(t, Sliding(40*time.Millisecond, 10*time.Millisecond))
	rnd := rand.New(rand.NewPCG(1, 1))
	type slice struct {
		key string
		at  int64
	}
	want, got := map[slice][]string{}, map[slice][]string{}
	r.op.out = operator.Output[Partial[string, pair, []string]]{}
	r.op.out.Attach(stage(func(p Partial[string, pair, []string], at int64) {
		s := slice{p.Key, at}
		got[s] = append(got[s], p.Acc...)
	}))
	for i := range int64(20000) {
		p, at := pair{fmt.Sprint("k", rnd.IntN(5000)), i}, rnd.Int64N(40)
		r.push(at, p)
		s := slice{p.Key, at / 10 * 10}
		want[s] = append(want[s], fmt.Sprint(i))
		if i%5000 == 0 {
			if err := r.op.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		r.op.worth = worth{on: true}
	}
	if err := r.op.Flush(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("records by key and slice (-want +got):\n%s", diff)
	}
}

type stage func(Partial[string, pair, []string], int64)

func (s stage) Push(b *batch.Batch[Partial[string, pair, []string]]) error {
	for i, p := range b.Values {
		s(p, b.Times[i])
	}
	return nil
}

// wide is a record of some width, as real ones are.
type wide struct {
	Key, Value uint64
	Rest       [12]uint64
}

// BenchmarkFold is the cost of a record from the sender's chain to the state of
// the receiver, over a copy that stands for the exchange, for keys of which one
// in two records is one of a hundred, for keys that hardly ever come again, and
// for a single one; folded and not.
func BenchmarkFold(b *testing.B) {
	for _, c := range []struct {
		name string
		key  func(i uint64) uint64
	}{
		{"hot", func(i uint64) uint64 {
			h := i * 0x9e3779b97f4a7c15 >> 20
			if h&1 == 0 {
				return h >> 1 % 100
			}
			return h >> 1 % 1000
		}},
		{"unique", func(i uint64) uint64 { return i * 0x9e3779b97f4a7c15 >> 20 % 2_000_000 }},
		{"one", func(uint64) uint64 { return 0 }},
	} {
		for _, fold := range []bool{false, true} {
			name := c.name + "/plain"
			if fold {
				name = c.name + "/folded"
			}
			b.Run(name, func(b *testing.B) { benchmarkFold(b, c.key, fold) })
		}
	}
}

func benchmarkFold(b *testing.B, key func(i uint64) uint64, fold bool) {
	cfg := Config[uint64, wide, int64, int64]{
		Assigner: Tumbling(10 * time.Second),
		Key:      func(v wide) uint64 { return v.Key },
		Aggregate: Aggregate[wide, int64]{
			New: func() int64 { return 0 }, Add: func(acc *int64, _ wide) { *acc++ }, Merge: func(a, b *int64) { *a += *b },
		},
		Result: func(_ Window, _ uint64, n int64) int64 { return n },
		Folded: fold,
	}
	hash, err := keygroup.HasherOf[uint64]()
	if err != nil {
		b.Fatal(err)
	}
	op := openBench(b, New(cfg))
	var send func(in *batch.Batch[wide]) error
	var mark func(t int64) error
	if fold {
		f := openBench(b, NewFolder(cfg))
		to := &edge[Partial[uint64, wide, int64]]{key: func(p *Partial[uint64, wide, int64]) uint64 { return hash(&p.Key) }, to: op.Input(0).(operator.Stage[Partial[uint64, wide, int64]])}
		f.Output("").(*operator.Output[Partial[uint64, wide, int64]]).Attach(to)
		send = f.Input(0).(operator.Stage[wide]).Push
		mark = func(t int64) error {
			if _, err := f.Watermark(t); err != nil {
				return err
			}
			return to.flush()
		}
	} else {
		to := &edge[wide]{key: func(v *wide) uint64 { return hash(&v.Key) }, to: op.Input(0).(operator.Stage[wide])}
		send = to.Push
		mark = func(int64) error { return to.flush() }
	}
	in := &batch.Batch[wide]{}
	n := uint64(0)
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N / batch.Rows {
		in.Values, in.Times = in.Values[:0], in.Times[:0]
		for range batch.Rows {
			in.Append(wide{Key: key(n)}, int64(n/10))
			n++
		}
		if err := send(in); err != nil {
			b.Fatal(err)
		}
		if i%32 == 31 { // a watermark each 16,384 records, 1.6 s of event time
			t := int64(n/10 - 1)
			if err := mark(t); err != nil {
				b.Fatal(err)
			}
			for reached := int64(batch.NoTime); reached < t; {
				if reached, err = op.Watermark(t); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
}

// edge stands for an exchange: records are copied to a batch of the receiver's.
type edge[T any] struct {
	key  func(*T) uint64
	to   operator.Stage[T]
	open batch.Batch[T]
}

func (e *edge[T]) Push(b *batch.Batch[T]) error {
	for i := range b.Values {
		e.open.AppendKeyed(b.Values[i], b.Times[i], e.key(&b.Values[i]))
		if e.open.Full() {
			if err := e.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (e *edge[T]) flush() error {
	defer e.open.Reset()
	return e.to.Push(&e.open)
}
