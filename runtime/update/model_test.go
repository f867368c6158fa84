package update

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/operator"
)

type result = string

func sum() Aggregate[int64, bid, int64, result] {
	return Aggregate[int64, bid, int64, result]{
		Key: keyOf, New: func() int64 { return 0 },
		Add:    func(acc *int64, v bid) { *acc += v.Price / 10 },
		Remove: func(acc *int64, v bid) { *acc -= v.Price / 10 },
		Result: func(key, acc int64) result { return fmt.Sprintf("%d: %d", key, acc) },
		Same:   func(a, b result) bool { return a == b },
	}
}

// byPrice is an order with ties, byNumber one without.
func byPrice(a, b bid) bool { return a.Price > b.Price }

func byNumber(a, b bid) bool {
	return a.Price > b.Price || a.Price == b.Price && a.Number < b.Number
}

func top(n int, before func(a, b bid) bool, ranked bool) Top[int64, bid, result] {
	return Top[int64, bid, result]{Key: keyOf, N: n, Before: before, Ranked: ranked, Row: func(rank int, v bid) result {
		if !ranked {
			rank = 0
		}
		return fmt.Sprint(v.Key, " #", rank, " ", v)
	}}
}

func distinctNames(deletes bool) Values[int64, string, bid, [3]int64, result] {
	count := func(by int64) func(*[3]int64, string, uint64) {
		return func(acc *[3]int64, _ string, facets uint64) {
			for f := range 2 {
				acc[f] += by * int64(facets>>(f*40)&1)
			}
		}
	}
	return Values[int64, string, bid, [3]int64, result]{
		Aggregate: Aggregate[int64, bid, [3]int64, result]{
			Key: keyOf, New: func() [3]int64 { return [3]int64{} },
			Add:    func(acc *[3]int64, _ bid) { acc[2]++ },
			Remove: func(acc *[3]int64, _ bid) { acc[2]-- },
			Result: func(key int64, acc [3]int64) result { return fmt.Sprint(key, acc) },
			Same:   func(a, b result) bool { return a == b },
		},
		// In all, and of prices from 10 on.
		Values: func(v bid, each func(string, uint64)) {
			facets := uint64(1)
			if v.Price >= 10 {
				facets |= 1 << 40
			}
			each(v.Name, facets)
		},
		Came: count(1), Went: count(-1), Deletes: deletes,
	}
}

// keyed groups rows by key, in the order in which they came.
func keyedRows(rows []bid) map[int64][]bid {
	m := map[int64][]bid{}
	for _, v := range rows {
		m[v.Key] = append(m[v.Key], v)
	}
	return m
}

func each(rows []bid, f func(key int64, rows []bid) []result) table {
	t := table{}
	for key, of := range keyedRows(rows) {
		for _, r := range f(key, of) {
			t[r]++
		}
	}
	return t
}

func modelSum(rows []bid) table {
	return each(rows, func(key int64, of []bid) []result {
		n := int64(0)
		for _, v := range of {
			n += v.Price / 10
		}
		return []result{fmt.Sprintf("%d: %d", key, n)}
	})
}

func modelTop(n int, before func(a, b bid) bool, ranked bool) func(rows []bid) table {
	row := top(n, before, ranked).Row
	return func(rows []bid) table {
		return each(rows, func(_ int64, of []bid) (out []result) {
			of = slices.Clone(of)
			slices.SortStableFunc(of, func(a, b bid) int {
				switch {
				case before(a, b):
					return -1
				case before(b, a):
					return 1
				}
				return 0
			})
			for i, v := range of[:min(n, len(of))] {
				out = append(out, row(i+1, v))
			}
			return out
		})
	}
}

func modelNames(rows []bid) table {
	return each(rows, func(key int64, of []bid) []result {
		all, high := map[string]bool{}, map[string]bool{}
		for _, v := range of {
			all[v.Name] = true
			if v.Price >= 10 {
				high[v.Name] = true
			}
		}
		return []result{fmt.Sprint(key, [3]int64{int64(len(all)), int64(len(high)), int64(len(of))})}
	})
}

func modelKeys(rows []bid) table {
	return each(rows, func(key int64, _ []bid) []result { return []result{fmt.Sprint(key)} })
}

// behind puts a map behind an operator of rows, so that all results are text.
func behind(op operator.Operator, f func(bid) result) operator.Operator {
	m := NewMap(f)
	op.Output("").(*operator.Output[bid]).Attach(m.Input(0).(operator.Stage[bid]))
	return &mapped{op, m}
}

type mapped struct {
	operator.Operator
	last operator.Operator
}

func (m *mapped) Output(tag string) any { return m.last.Output(tag) }

func (m *mapped) Open(ctx *operator.Context) error {
	if err := m.last.Open(ctx); err != nil {
		return err
	}
	return m.Operator.Open(ctx)
}

func (m *mapped) Work() (bool, int64, error) { return m.Operator.(operator.Worker).Work() }

var operators = []struct {
	name    string
	deletes bool
	make    func() operator.Operator
	model   func(rows []bid) table
}{
	{"sum", true, func() operator.Operator { return NewAggregate(sum()) }, modelSum},
	{"top 3", false, func() operator.Operator { return NewTopN(top(3, byPrice, false)) }, modelTop(3, byPrice, false)},
	{"top 7 ranked", false, func() operator.Operator { return NewTopN(top(7, byPrice, true)) }, modelTop(7, byPrice, true)},
	{"top 3 of what goes", true, func() operator.Operator { return NewRanked(top(3, byNumber, false)) }, modelTop(3, byNumber, false)},
	// Rows come in the order of their numbers, which so part those of one price.
	{"top 5 ranked of what goes", true, func() operator.Operator { return NewRanked(top(5, byPrice, true)) }, modelTop(5, byNumber, true)},
	{"top 1 of what goes", true, func() operator.Operator { return NewRanked(top(1, byNumber, false)) }, modelTop(1, byNumber, false)},
	{"names", false, func() operator.Operator { return NewValues(distinctNames(false)) }, modelNames},
	{"names of what goes", true, func() operator.Operator { return NewValues(distinctNames(true)) }, modelNames},
	{"keys", true, func() operator.Operator {
		return behind(NewDistinct(keyOf), func(v bid) result { return fmt.Sprint(v.Key) })
	}, modelKeys},
	{"best", false, func() operator.Operator {
		return behind(NewBest(keyOf, byPrice), func(v bid) result { return top(1, byPrice, false).Row(0, v) })
	}, modelTop(1, byPrice, false)},
}

// TestChangesAddUpToTheResult: after each batch, what an operator has emitted adds up
// to what a plain evaluation of all rows gives, and in a batch run its result does.
func TestChangesAddUpToTheResult(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for _, c := range operators {
		t.Run(c.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 0))
			for _, keys := range []int64{1, 7, 400} {
				f := &feed{rng: rng, keys: keys, deletes: c.deletes}
				r, final := newRig[result](t, c.make(), false), newRig[result](t, c.make(), true)
				for step := range 25 {
					rows := 1 + rng.IntN(40)
					if step == 7 {
						rows = batch.Rows + rng.IntN(400)
					}
					b := f.batch(rows)
					r.push(t, b)
					final.push(t, b)
					if diff := cmp.Diff(c.model(f.live), r.out.table); diff != "" {
						t.Fatalf("%d keys, step %d (want -, got +):\n%s", keys, step, diff)
					}
				}
				if final.out.changes > 0 {
					t.Fatalf("a batch run emitted %d changes before its end", final.out.changes)
				}
				final.end(t)
				if diff := cmp.Diff(c.model(f.live), final.out.table); diff != "" || final.out.changes != rowsOf(final.out.table) {
					t.Fatalf("%d keys, in a batch run, %d changes (want -, got +):\n%s", keys, final.out.changes, diff)
				}
				if n := r.out.changes; n > 6*int(f.next)*3 {
					t.Errorf("%d changes of %d rows", n, f.next)
				}
				if *r.ctx.Metrics.User[CounterUnmatched] != 0 {
					t.Errorf("%v deletes of rows that were not there", *r.ctx.Metrics.User[CounterUnmatched])
				}
			}
		})
	}
}

func rowsOf(t table) (n int) {
	for _, k := range t {
		n += k
	}
	return n
}
