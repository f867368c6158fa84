package window

import (
	"cmp"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"

	diff "github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/internal/clock"
	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/keygroup"
	"github.com/millrace/millrace/runtime/operator"
	"github.com/millrace/millrace/runtime/state"
)

// parsed is a result of a rig.
type parsed struct {
	key        string
	start, end int64
	sum        int64
}

func parse(t *testing.T, results []string) []parsed {
	t.Helper()
	all := make([]parsed, len(results))
	for i, s := range results {
		p := &all[i]
		if _, err := fmt.Sscanf(s, "%s [%d,%d) %d", &p.key, &p.start, &p.end, &p.sum); err != nil {
			t.Fatalf("result %q: %v", s, err)
		}
	}
	return all
}

// greatestOf leaves the n greatest of each window, and what ties with the last
// of them.
func greatestOf(n int, all []parsed) []string {
	byEnd := map[int64][]parsed{}
	for _, p := range all {
		byEnd[p.end] = append(byEnd[p.end], p)
	}
	var out []string
	for _, ps := range byEnd {
		slices.SortFunc(ps, func(a, b parsed) int { return cmp.Compare(b.sum, a.sum) })
		for i, p := range ps {
			if i < n || p.sum == ps[n-1].sum {
				out = append(out, fmt.Sprintf("%s [%d,%d) %d", p.key, p.start, p.end, p.sum))
			}
		}
	}
	slices.Sort(out)
	return out
}

// final runs the contenders through the second operator.
func final(t *testing.T, a Assigner, n int, contenders []parsed) []string {
	t.Helper()
	op := NewFinal(Final[string, int64, string, int64]{
		Assigner: a, N: n, Score: func(sum int64) int64 { return sum },
		Result: func(w Window, key string, sum int64) string {
			return fmt.Sprintf("%s [%d,%d) %d", key, w.Start, w.End, sum)
		},
	})
	kg := keygroup.RangeOf(0, 1, groups)
	ctx := &operator.Context{KeyGroups: kg, State: state.NewStore(kg), Clock: clock.System, Log: slog.Default(), Metrics: &operator.Metrics{}}
	if err := op.Open(ctx); err != nil {
		t.Fatal(err)
	}
	var out collected
	op.Output("").(*operator.Output[string]).Attach(&out)
	hash, err := keygroup.HasherOf[int64]()
	if err != nil {
		t.Fatal(err)
	}
	var in batch.Batch[Contender[string, int64]]
	for _, p := range contenders {
		in.AppendKeyed(Contender[string, int64]{p.end, p.key, p.sum}, p.end-1, hash(&p.end))
	}
	if err := op.Input(0).(operator.Stage[Contender[string, int64]]).Push(&in); err != nil {
		t.Fatal(err)
	}
	for reached := int64(batch.NoTime); reached < batch.EndOfTime; {
		if reached, err = op.Watermark(batch.EndOfTime); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(out)
	return out
}

type collected []string

func (c *collected) Push(b *batch.Batch[string]) error {
	*c = append(*c, b.Values...)
	return nil
}

// TestTheGreatestEqualTheOracle compares the greatest keys of all windows with
// those that a plain loop finds, over aggregates that subtract and that do not,
// through restores at other parallelisms in the middle of firing.
func TestTheGreatestEqualTheOracle(t *testing.T) {
	seeds := uint64(100)
	if testing.Short() {
		seeds = 25
	}
	for seed := range seeds {
		r := rand.New(rand.NewPCG(seed, 7))
		a := Assigner{Size: 1 + r.Int64N(50), Slide: 1 + r.Int64N(30), Offset: r.Int64N(20) - 10}
		if r.IntN(4) == 0 {
			a.Slide = a.Size
		} else if r.IntN(4) == 0 {
			a.Size, a.Cumulate = a.Slide*(1+r.Int64N(6)), true
		}
		n := 1 + r.IntN(3)*r.IntN(3)
		w := newRig(t, a, func(c *Config[string, pair, int64, string]) {
			if r.IntN(2) == 0 {
				subtracting(c)
			}
			// Few different sums, so that many tie.
			c.Aggregate.Add = func(acc *int64, p pair) { *acc += p.Value % 3 }
			c.Rank = Greatest[string](n, func(sum int64) int64 { return sum })
		})
		o := &oracle{a: a}
		keys, bound := w.storm(r, o)
		for i := range o.records {
			o.records[i].value %= 3
		}
		want := greatestOf(n, parse(t, o.results()))
		if d := diff.Diff(want, final(t, a, n, parse(t, w.results))); d != "" {
			t.Fatalf("seed %d, %+v, %d of %d keys, bound %d: (-oracle +operator)\n%s", seed, a, n, keys, bound, d)
		}
	}
}
