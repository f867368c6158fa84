package update

import (
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/checkpoint/snapshot"
	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/keygroup"
	"github.com/millrace/millrace/runtime/operator"
	"github.com/millrace/millrace/runtime/state"
	"github.com/millrace/millrace/runtime/tier"
)

const life = 1000 // milliseconds

// group is what a plain evaluation knows of one key until it forgets it.
type group interface {
	// take takes a row in or out, and says how many deletes found nothing.
	take(op batch.Op, v bid) (unmatched int)
	rows() int
	table() table
}

// counting is a group of an aggregate, which tells no rows apart.
type counting struct {
	n, sum int64
	show   func(sum int64) result
}

func (c *counting) take(op batch.Op, v bid) int {
	switch {
	case op == batch.Insert:
		c.n, c.sum = c.n+1, c.sum+v.Price/10
	case c.n == 0:
		return 1
	default:
		c.n, c.sum = c.n-1, c.sum-v.Price/10
	}
	return 0
}

func (c *counting) rows() int { return int(c.n) }

func (c *counting) table() table {
	if c.n == 0 {
		return table{}
	}
	return table{c.show(c.sum): 1}
}

// keeping is a group that has its rows.
type keeping struct {
	all   []bid
	model func(rows []bid) table
}

func (k *keeping) take(op batch.Op, v bid) int {
	if op == batch.Insert {
		k.all = append(k.all, v)
		return 0
	}
	i := slices.Index(k.all, v)
	if i < 0 {
		return 1
	}
	k.all = slices.Delete(k.all, i, i+1)
	return 0
}

func (k *keeping) rows() int { return len(k.all) }

func (k *keeping) table() table { return k.model(k.all) }

// naming is a group of an aggregate of different names.
type naming struct {
	key    int64
	n      int64
	values [2]map[string]int
}

func (n *naming) take(op batch.Op, v bid) (unmatched int) {
	facets := n.values[:1]
	if v.Price >= 10 {
		facets = n.values[:2]
	}
	if op == batch.Insert {
		n.n++
		for _, f := range facets {
			f[v.Name]++
		}
		return 0
	}
	if n.n == 0 {
		return 1
	}
	n.n--
	for _, f := range facets {
		if f[v.Name] == 0 {
			unmatched++
		} else if f[v.Name]--; f[v.Name] == 0 {
			delete(f, v.Name)
		}
	}
	return unmatched
}

func (n *naming) rows() int { return int(n.n) }

func (n *naming) table() table {
	if n.n == 0 {
		return table{}
	}
	return table{fmt.Sprint(n.key, [3]int64{int64(len(n.values[0])), int64(len(n.values[1])), n.n}): 1}
}

// mortals are the operators that forget keys. writes says that each row writes,
// else one that changes the result does.
var mortals = []struct {
	name            string
	deletes, writes bool
	make            func(ttl state.TTL) operator.Operator
	group           func(key int64) group
}{
	{"sum", true, true, func(ttl state.TTL) operator.Operator { return NewAggregate(sum(), ttl) }, func(key int64) group {
		return &counting{show: func(sum int64) result { return fmt.Sprintf("%d: %d", key, sum) }}
	}},
	{"keys", true, true, func(ttl state.TTL) operator.Operator {
		return behind(NewDistinct(keyOf, ttl), func(v bid) result { return fmt.Sprint(v.Key) })
	}, func(key int64) group {
		return &counting{show: func(int64) result { return fmt.Sprint(key) }}
	}},
	{"top 3", false, false, func(ttl state.TTL) operator.Operator { return NewTopN(top(3, byPrice, false), ttl) },
		func(int64) group { return &keeping{model: modelTop(3, byPrice, false)} }},
	{"top 7 ranked", false, false, func(ttl state.TTL) operator.Operator { return NewTopN(top(7, byPrice, true), ttl) },
		func(int64) group { return &keeping{model: modelTop(7, byPrice, true)} }},
	{"top 3 of what goes", true, true, func(ttl state.TTL) operator.Operator { return NewRanked(top(3, byNumber, false), ttl) },
		func(int64) group { return &keeping{model: modelTop(3, byNumber, false)} }},
	{"top 5 ranked of what goes", true, true, func(ttl state.TTL) operator.Operator { return NewRanked(top(5, byNumber, true), ttl) },
		func(int64) group { return &keeping{model: modelTop(5, byNumber, true)} }},
	{"names", false, true, func(ttl state.TTL) operator.Operator { return NewValues(distinctNames(false), ttl) }, newNaming},
	{"names of what goes", true, true, func(ttl state.TTL) operator.Operator { return NewValues(distinctNames(true), ttl) }, newNaming},
	{"best", false, false, func(ttl state.TTL) operator.Operator {
		return behind(NewBest(keyOf, byPrice, ttl), func(v bid) result { return top(1, byPrice, false).Row(0, v) })
	}, func(int64) group { return &keeping{model: modelTop(1, byPrice, false)} }},
	{"first", false, false, func(ttl state.TTL) operator.Operator {
		return behind(NewFirst(keyOf, ttl), func(v bid) result { return fmt.Sprint(v) })
	}, func(int64) group {
		return &keeping{model: func(rows []bid) table {
			if len(rows) == 0 {
				return table{}
			}
			return table{fmt.Sprint(rows[0]): 1}
		}}
	}},
}

func newNaming(key int64) group {
	return &naming{key: key, values: [2]map[string]int{{}, {}}}
}

// forgetful evaluates row by row, and forgets keys.
type forgetful struct {
	ttl       state.TTL
	writes    bool
	group     func(key int64) group
	groups    map[int64]group
	used      map[int64]int64
	shown     table
	unmatched int
}

func (f *forgetful) take(op batch.Op, v bid, at int64) {
	g := f.groups[v.Key]
	if g == nil || at >= f.used[v.Key]+life {
		g = f.group(v.Key) // what it showed is still shown
		f.groups[v.Key], f.used[v.Key] = g, at
	}
	before := g.table()
	f.unmatched += g.take(op, v)
	after := g.table()
	if f.writes || f.ttl.OnRead || !maps.Equal(before, after) {
		f.used[v.Key] = max(f.used[v.Key], at)
	}
	for row, n := range before {
		f.shown[row] -= n
	}
	for row, n := range after {
		f.shown[row] += n
	}
	for row, n := range f.shown {
		if n == 0 {
			delete(f.shown, row)
		}
	}
	if g.rows() == 0 {
		delete(f.groups, v.Key)
	}
}

// aging drives an operator that forgets, and a plain evaluation beside it.
type aging struct {
	*rig[result]
	ttl         state.TTL
	make        func(state.TTL) operator.Operator
	disk        state.Disk // nil for memory
	clock       int64
	front, mark int64
	chain       [][]byte
	unmatched   float64 // by operators before a restart
}

func (a *aging) start(t *testing.T) {
	t.Helper()
	groups := keygroup.RangeOf(0, 1, keygroup.Default)
	r := &rig[result]{op: a.make(a.ttl), out: &results[result]{table: table{}}}
	if a.rig != nil {
		r.out = a.out
	}
	r.ctx = &operator.Context{Name: "op", UID: "op", Parallelism: 1, KeyGroups: groups, State: state.NewStore(groups),
		Log: slog.New(slog.DiscardHandler), Metrics: &operator.Metrics{}}
	r.ctx.State.UseClock(func() time.Time { return time.UnixMilli(a.clock) })
	if a.disk != nil {
		r.ctx.State.UseDisk(a.disk, state.NewBudget(0))
	}
	if err := r.op.Open(r.ctx); err != nil {
		t.Fatal(err)
	}
	r.op.Output("").(*operator.Output[result]).Attach(r.out)
	a.rig = r
}

// save takes a checkpoint.
func (a *aging) save(t *testing.T, full bool) {
	t.Helper()
	frozen := a.ctx.State.Freeze(full)
	w := snapshot.NewWriter(keygroup.Default)
	if err := frozen.Write(w); err != nil {
		t.Fatal(err)
	}
	run, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	if frozen.Full() {
		a.chain = nil
	}
	if frozen.Release(); !run.Empty() {
		a.chain = append(a.chain, run.Bytes)
	}
}

// restart takes a checkpoint and goes on with another operator, from all that
// checkpoints have written since the last full one.
func (a *aging) restart(t *testing.T, full bool) {
	t.Helper()
	a.save(t, full)
	declared := a.ctx.State.Declared()
	a.unmatched += *a.ctx.Metrics.User[CounterUnmatched]
	a.start(t)
	var readers []*snapshot.Reader
	for _, bytes := range a.chain {
		r, err := snapshot.Open("checkpoint", bytes, a.ctx.KeyGroups.First, a.ctx.KeyGroups.Last)
		if err != nil {
			t.Fatal(err)
		}
		readers = append(readers, r)
	}
	if err := a.ctx.State.Load(readers, state.Restore{Declared: declared}); err != nil {
		t.Fatal(err)
	}
	a.watermark(t)
}

func (a *aging) watermark(t *testing.T) {
	t.Helper()
	if _, err := a.op.Watermark(a.mark); err != nil {
		t.Fatal(err)
	}
}

// times gives the rows of a batch theirs, out of order, late ones among them.
func (a *aging) times(rng *rand.Rand, b *batch.Batch[bid]) {
	for i := range b.Times {
		if rng.IntN(30) == 0 {
			a.front += rng.Int64N(life / 2)
		}
		a.front += rng.Int64N(20)
		b.Times[i] = a.front - rng.Int64N(150)
	}
	a.clock += rng.Int64N(life / 3)
}

// TestKeysAreForgotten: what operators with a TTL emit adds up to what a plain
// evaluation row by row gives, whichever time and backend it is and however rows
// are batched, through restarts; and in the end nothing is left of any key.
func TestKeysAreForgotten(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for _, c := range mortals {
		for n, ttl := range []state.TTL{
			{For: life * time.Millisecond},
			{For: life * time.Millisecond, OnRead: true},
			{For: life * time.Millisecond, Processing: true},
			{For: life * time.Millisecond, Processing: true, OnRead: true},
		} {
			for _, tiered := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/processing=%v,onread=%v,tiered=%v", c.name, ttl.Processing, ttl.OnRead, tiered), func(t *testing.T) {
					rng := rand.New(rand.NewPCG(seed, uint64(n)))
					for _, keys := range []int64{4, 150} {
						a := &aging{ttl: ttl, make: c.make, clock: 1 << 40, front: 1 << 40, mark: 1 << 40}
						if tiered {
							a.disk = openDisk(t)
						}
						a.start(t)
						a.watermark(t)
						want := &forgetful{ttl: ttl, writes: c.writes, group: c.group, groups: map[int64]group{}, used: map[int64]int64{}, shown: table{}}
						f := &feed{rng: rng, keys: keys, deletes: c.deletes}
						for step := range 20 {
							b := f.batch(1 + rng.IntN(40))
							a.times(rng, b)
							for i, v := range b.Values {
								at := max(b.Times[i], a.mark)
								if ttl.Processing {
									at = a.clock
								}
								want.take(b.OpOf(i), v, at)
							}
							a.push(t, b)
							if diff := cmp.Diff(want.shown, a.out.table); diff != "" {
								t.Fatalf("%d keys, step %d (want -, got +):\n%s", keys, step, diff)
							}
							if n := a.unmatched + *a.ctx.Metrics.User[CounterUnmatched]; n != float64(want.unmatched) {
								t.Fatalf("%d keys, step %d: %v deletes of rows that were not there, want %d", keys, step, n, want.unmatched)
							}
							a.mark = max(a.mark, a.front-100)
							a.watermark(t)
							switch rng.IntN(6) {
							case 0:
								a.restart(t, rng.IntN(2) == 0)
							case 1:
								a.save(t, rng.IntN(4) == 0)
							}
						}
						a.forgetAll(t)
					}
				})
			}
		}
	}
}

// forgetAll lets a long time pass.
func (a *aging) forgetAll(t *testing.T) {
	t.Helper()
	a.clock += 10 * life
	a.front += 10 * life
	a.mark = a.front
	a.watermark(t)
	for range 20 { // brooms go at barriers
		a.ctx.State.Freeze(false).Release()
	}
	if n := a.ctx.State.Stats().Entries; n > 0 {
		t.Errorf("%d entries stay for ever", n)
	}
}

func openDisk(t *testing.T) state.Disk {
	t.Helper()
	d, err := tier.Open(t.TempDir(), tier.Options{Memory: 2 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}
