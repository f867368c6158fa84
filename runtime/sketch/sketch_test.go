package sketch

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/runtime/codec"
)

// The error is what the page of the sketch says: over many sketches its mean is
// next to nothing and its standard deviation 0.81 %. Seeds are fixed, so this is the
// same each time.
func TestDistinctErrsAsItSays(t *testing.T) {
	for _, n := range []int{1_025, 3_000, 20_000, 40_000, 200_000} {
		const sketches = 60
		sum, squares := 0.0, 0.0
		for seed := range uint64(sketches) {
			var d Distinct
			rng := rand.New(rand.NewPCG(seed, uint64(n)))
			for range n {
				h := rng.Uint64()
				d.Add(h)
				if h&1 == 0 {
					d.Add(h)
				}
			}
			e := float64(d.Estimate())/float64(n) - 1
			sum, squares = sum+e, squares+e*e
			if math.Abs(e) > 4*0.0081 {
				t.Errorf("%d values, seed %d: off by %.2f %%", n, seed, 100*e)
			}
		}
		mean, deviation := sum/sketches, math.Sqrt(squares/sketches)
		if math.Abs(mean) > 3*0.0081/math.Sqrt(sketches) || deviation > 0.0105 {
			t.Errorf("%d values: mean error %.3f %%, deviation %.3f %%", n, 100*mean, 100*deviation)
		}
	}
}

func TestFewDistinctValuesAreCounted(t *testing.T) {
	for _, n := range []int{0, 1, 2, 100, 1000} {
		var d Distinct
		for i := range n {
			d.Add(uint64(i)) // not hashed well, as keys of one subtask are
			d.Add(uint64(i))
		}
		if got := d.Estimate(); got != int64(n) || d.Registers != nil {
			t.Errorf("%d values are estimated as %d", n, got)
		}
	}
}

// split adds values to several sketches and merges them in some order.
func TestMergedSketchesAreAsOne(t *testing.T) {
	for _, n := range []int{10, 900, 1500, 5000} {
		rng := rand.New(rand.NewPCG(7, uint64(n)))
		var one Distinct
		var q Quantiles
		parts, quarters := make([]Distinct, 5), make([]Quantiles, 5)
		for range n {
			h, part := rng.Uint64N(uint64(n)), rng.IntN(5)
			x := math.Exp(rng.NormFloat64()*25) * float64(rng.IntN(3)-1)
			one.Add(h)
			q.Add(x)
			parts[part].Add(h)
			quarters[part].Add(x)
		}
		for range 3 {
			rng.Shuffle(5, func(i, j int) {
				parts[i], parts[j] = parts[j], parts[i]
				quarters[i], quarters[j] = quarters[j], quarters[i]
			})
			var all, halves Distinct
			var qs Quantiles
			for i := range parts {
				all.Merge(&parts[i])
				qs.Merge(&quarters[i])
			}
			halves.Merge(&parts[4])
			rest := parts[3]
			rest = Distinct{slices.Clone(rest.Sparse), slices.Clone(rest.Registers)}
			for i := range 3 {
				rest.Merge(&parts[i])
			}
			halves.Merge(&rest)
			if d := cmp.Diff(one, all) + cmp.Diff(one, halves); d != "" {
				t.Fatalf("%d values: %.500s", n, d)
			}
			if d := cmp.Diff(q, qs); d != "" {
				t.Fatalf("%d numbers: %.500s", n, d)
			}
		}
	}
}

func TestQuantilesAreWithinOnePercent(t *testing.T) {
	for name, draw := range map[string]func(*rand.Rand) float64{
		"latencies": func(r *rand.Rand) float64 { return math.Exp(r.NormFloat64()*2) / 1000 },
		"even":      func(r *rand.Rand) float64 { return 100 * r.Float64() },
		"signed":    func(r *rand.Rand) float64 { return 1e6 * r.NormFloat64() },
		"integers":  func(r *rand.Rand) float64 { return float64(r.IntN(7) - 2) },
		"one":       func(*rand.Rand) float64 { return 42 },
	} {
		rng := rand.New(rand.NewPCG(3, 4))
		var s Quantiles
		var all []float64
		for range 20_000 {
			x := draw(rng)
			s.Add(x)
			all = append(all, x)
		}
		slices.Sort(all)
		for _, q := range []float64{0, 0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 1} {
			want := all[int(q*float64(len(all)-1))]
			if got := s.Quantile(q); math.Abs(got-want) > accuracy*math.Abs(want)*1.0001 {
				t.Errorf("%s: quantile %v is %v, want %v", name, q, got, want)
			}
		}
	}
}

func TestQuantilesOfExtremes(t *testing.T) {
	var s Quantiles
	if !math.IsNaN(s.Quantile(0.5)) {
		t.Error("a quantile of nothing")
	}
	for i := -300; i <= 300; i++ {
		s.Add(math.Pow(10, float64(i)))
		s.Add(-math.Pow(10, float64(i)))
	}
	s.Add(math.NaN())
	s.Add(math.Inf(1))
	s.Add(math.Inf(-1))
	if s.Count != 1204 || len(s.Positive.Counts) > maxBins || len(s.Negative.Counts) > maxBins {
		t.Errorf("%d numbers in %d and %d bins", s.Count, len(s.Positive.Counts), len(s.Negative.Counts))
	}
	if got := s.Quantile(0.999); math.Abs(got/1e299-1) > 0.0101 {
		t.Errorf("the 99.9th percentile is %v", got)
	}
	if s.Quantile(1) != math.MaxFloat64 || s.Quantile(0) != -math.MaxFloat64 {
		t.Errorf("from %v to %v", s.Quantile(0), s.Quantile(1))
	}
}

// The encoding is part of savepoints.
func TestSketchesHaveTheirEncoding(t *testing.T) {
	d, err := codec.Derive[Distinct]()
	if err != nil {
		t.Fatal(err)
	}
	q, err := codec.Derive[Quantiles]()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := d.Schema(), "{Sparse []uint32,Registers bytes}"; got != want {
		t.Errorf("schema %s, want %s", got, want)
	}
	bins := "{First int32,Counts []uint64}"
	if got, want := q.Schema(), "{Positive "+bins+",Negative "+bins+",Zeros uint64,Count uint64,Least float64,Greatest float64}"; got != want {
		t.Errorf("schema %s, want %s", got, want)
	}
	var s Distinct
	s.Add(1)
	if got, want := fmt.Sprintf("%x", d.Append(nil, &s)), "02c1bc56b400"; got != want {
		t.Errorf("a sketch of one value is %s, want %s: the hash or the form has changed", got, want)
	}
}
