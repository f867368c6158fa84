package ledger

import (
	"strings"
	"testing"
)

// books is a job that keeps the accounts of a script of two shards rightly.
type books struct {
	checker *Checker
	script  Script
	shard   func(Record) int
	next    uint64
	sums    map[uint64]int64
}

func open(t *testing.T) *books {
	t.Helper()
	s := Script{Seed: 11, Keys: 5, Timely: true}
	return &books{checker: NewChecker(s, 2), script: s, shard: func(r Record) int { return int(r.Key) % 2 }, sums: map[uint64]int64{}}
}

// take puts n further entries into the input and returns the rows about them.
func (b *books) take(t *testing.T, n uint64) []Row {
	t.Helper()
	var rows []Row
	for ; n > 0; n-- {
		r := b.script.Record(b.next)
		b.next++
		if err := b.checker.Input(b.shard(r), r); err != nil {
			t.Fatal(err)
		}
		b.sums[r.Key] += r.Amount
		rows = append(rows, Row{Kind: Entry, Key: r.Key, Seq: r.Seq, Amount: r.Amount, Time: r.Time, Sum: b.sums[r.Key]})
	}
	return rows
}

// closing are the windows and timers that are due when the first n entries are all.
func (b *books) closing(n uint64) (rows []Row) {
	type place struct {
		key   uint64
		start int64
	}
	windows := map[place]*Row{}
	for i := range n {
		r := b.script.Record(i)
		if HasTimer(r, false) {
			rows = append(rows, Row{Kind: Timer, Key: r.Key, Time: r.Time + TimerDelay})
		}
		at := place{r.Key, WindowOf(r.Time)}
		if windows[at] == nil {
			windows[at] = &Row{Kind: Window, Key: r.Key, Time: at.start}
		}
		windows[at].Seq++
		windows[at].Amount += r.Amount
	}
	// The windows of a key, in their order.
	for key := range b.script.Keys {
		for start := WindowOf(begin - jitter); start < begin+int64(n)*turn; start += WindowMillis {
			if w := windows[place{key, start}]; w != nil {
				rows = append(rows, *w)
			}
		}
	}
	return rows
}

func TestTheBooksBalance(t *testing.T) {
	b := open(t)
	for range 10 {
		if err := b.checker.Commit(b.take(t, 10), false); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.checker.Commit(b.closing(100), false); err != nil {
		t.Fatal(err)
	}
	if err := b.checker.End(); err != nil {
		t.Fatal(err)
	}
	if c := b.checker.Counts(); c.Entries != 100 || c.Windows == 0 || c.Fired == 0 {
		t.Errorf("counted %+v", c)
	}
}

// TestWhatIsWrongIsFound breaks one commit of thirty entries, closing rows
// included, in one way each.
func TestWhatIsWrongIsFound(t *testing.T) {
	of := func(rows []Row, k Kind) int {
		for i, r := range rows {
			if r.Kind == k {
				return i
			}
		}
		panic("no such row")
	}
	without := func(k Kind) func([]Row) []Row {
		return func(rows []Row) []Row {
			i := of(rows, k)
			return append(rows[:i:i], rows[i+1:]...)
		}
	}
	twice := func(k Kind) func([]Row) []Row {
		return func(rows []Row) []Row { return append(rows, rows[of(rows, k)]) }
	}
	change := func(k Kind, f func(*Row)) func([]Row) []Row {
		return func(rows []Row) []Row { f(&rows[of(rows, k)]); return rows }
	}
	for _, c := range []struct {
		name, want string
		spoil      func([]Row) []Row
	}{
		{"an entry is lost", "gap", without(Entry)},
		{"an entry comes twice", "duplicate", twice(Entry)},
		{"two entries change places", "gap", func(rows []Row) []Row { rows[0], rows[5] = rows[5], rows[0]; return rows }},
		{"an entry is of another amount", "corrupted", change(Entry, func(r *Row) { r.Amount++ })},
		{"a sum forgets", "state", change(Entry, func(r *Row) { r.Sum++ })},
		{"an entry is called a repeat", "gap", change(Entry, func(r *Row) { r.Kind = Repeat })},
		{"the last entry is lost", "windows", func(rows []Row) []Row { return append(rows[:29:29], rows[30:]...) }},
		{"a window is lost", "windows", without(Window)},
		{"a window fires twice", "windows", twice(Window)},
		{"a window counts too little", "windows", change(Window, func(r *Row) { r.Seq-- })},
		{"a window's sum is wrong", "windows", change(Window, func(r *Row) { r.Amount-- })},
		{"a timer is lost", "timers", without(Timer)},
		{"a timer fires twice", "timers", twice(Timer)},
		{"a timer is made up", "timers", change(Timer, func(r *Row) { r.Time++ })},
		{"an entry in time is late", "late", func(rows []Row) []Row { r := rows[0]; r.Kind = Late; return append(rows, r) }},
	} {
		for _, inFlight := range []bool{false, true} {
			b := open(t)
			rows := c.spoil(append(b.take(t, 30), b.closing(30)...))
			err := b.checker.Commit(rows, inFlight)
			if err == nil {
				err = b.checker.End()
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s, records in flight %v: found %v, want %q", c.name, inFlight, err, c.want)
			}
		}
	}
}

// TestAHoleIsForgivenWhereRecordsAreInFlight: what a barrier has overtaken comes
// later, by one path before the other.
func TestAHoleIsForgivenWhereRecordsAreInFlight(t *testing.T) {
	b := open(t)
	rows := b.take(t, 5)
	first, last := rows[4:5], rows[:4] // of different keys
	if err := b.checker.Commit(first, true); err != nil {
		t.Fatalf("with a record in flight: %v", err)
	}
	if err := b.checker.Commit(last, false); err != nil {
		t.Fatalf("when it has come: %v", err)
	}

	b = open(t)
	rows = b.take(t, 10)
	if err := b.checker.Commit(rows[4:5], false); err == nil || !strings.Contains(err.Error(), "prefix") {
		t.Errorf("without: %v, want a prefix that is none", err)
	}
}

// TestAChildComesAfterItsParents: what is visible of a child says that all of what
// it was split off or merged of is.
func TestAChildComesAfterItsParents(t *testing.T) {
	grown := func(t *testing.T) (b *books, parents, child []Row) {
		t.Helper()
		b = open(t)
		parents = b.take(t, 10)
		if err := b.checker.Child(2, 0, 1); err != nil { // merged
			t.Fatal(err)
		}
		if err := b.checker.Child(3, 2); err != nil { // split, before it held anything
			t.Fatal(err)
		}
		if err := b.checker.Child(4, 2); err != nil {
			t.Fatal(err)
		}
		b.shard = func(Record) int { return 3 }
		return b, parents, b.take(t, 10)
	}
	b, parents, child := grown(t)
	for _, rows := range [][]Row{parents[:5], append(parents[5:], child[:5]...), child[5:], b.closing(20)} {
		if err := b.checker.Commit(rows, false); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.checker.End(); err != nil {
		t.Fatal(err)
	}

	// The first round of all keys, without the last one of shard 1; the next round,
	// and one of the child's: no key has a gap.
	b, parents, child = grown(t)
	if err := b.checker.Commit(append(parents[:9:9], child[0]), false); err == nil || !strings.Contains(err.Error(), "prefix: 1 positions of shard 3") {
		t.Errorf("a child before its parent: %v, want a prefix that is none", err)
	}
	b, parents, child = grown(t)
	if err := b.checker.Commit(append(parents[:9:9], child[0]), true); err != nil {
		t.Errorf("with records in flight: %v", err)
	}
	for _, c := range []struct {
		name string
		err  error
	}{
		{"a shard that begins again", b.checker.Child(3, 2)},
		{"a child of nobody", b.checker.Child(6, 5)},
		{"an entry that the parent holds", b.checker.Input(4, b.script.Record(19))},
		{"an entry behind the end", b.checker.Input(0, b.script.Record(20))},
		{"an entry of no shard", b.checker.Input(9, b.script.Record(20))},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), "the input itself is wrong") {
			t.Errorf("%s: %v", c.name, c.err)
		}
	}
}
