package window

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/operator"
)

func subtracting(c *Config[string, pair, int64, string]) {
	c.Aggregate.Subtract = func(a, b *int64) { *a -= *b }
}

// oracle computes windows the slow way.
type oracle struct {
	a       Assigner
	records []record
}

type record struct {
	key   string
	value int64
	at    int64
}

func (o *oracle) results() []string {
	if o.a.Gap != 0 {
		return o.sessions()
	}
	sums := map[string]map[Window]int64{}
	for _, r := range o.records {
		if sums[r.key] == nil {
			sums[r.key] = map[Window]int64{}
		}
		for s := r.at - o.a.Size + 1; s <= r.at; s++ {
			if o.a.Cumulate {
				for end := s + o.a.Slide; (s-o.a.Offset)%o.a.Size == 0 && end <= s+o.a.Size; end += o.a.Slide {
					if r.at < end {
						sums[r.key][Window{s, end}] += r.value
					}
				}
			} else if (s-o.a.Offset)%o.a.Slide == 0 {
				sums[r.key][Window{s, s + o.a.Size}] += r.value
			}
		}
	}
	var out []string
	for key, windows := range sums {
		for w, sum := range windows {
			out = append(out, fmt.Sprintf("%s [%d,%d) %d", key, w.Start, w.End, sum))
		}
	}
	slices.Sort(out)
	return out
}

func (o *oracle) sessions() []string {
	byKey := map[string][]record{}
	for _, r := range o.records {
		byKey[r.key] = append(byKey[r.key], r)
	}
	var out []string
	for key, rs := range byKey {
		slices.SortFunc(rs, func(a, b record) int { return int(a.at - b.at) })
		start, end, sum := rs[0].at, rs[0].at, int64(0)
		for _, r := range rs {
			if r.at >= end+o.a.Gap {
				out = append(out, fmt.Sprintf("%s [%d,%d) %d", key, start, end+o.a.Gap, sum))
				start, sum = r.at, 0
			}
			end = r.at
			sum += r.value
		}
		out = append(out, fmt.Sprintf("%s [%d,%d) %d", key, start, end+o.a.Gap, sum))
	}
	slices.Sort(out)
	return out
}

// storm sends random records, out of order within a bound, to a rig and to an
// oracle, with checkpoints, restores and changes of parallelism at random
// moments, in the middle of firing too.
func (w *rig) storm(r *rand.Rand, o *oracle) (keys int, bound int64) {
	keys = 1 + r.IntN(40)
	if r.IntN(8) == 0 {
		keys = 6000 // more than fits in a step
	}
	bound = r.Int64N(60)
	now, mark := int64(0), int64(batch.NoTime)
	crash := func() bool {
		if r.IntN(6) != 0 {
			return false
		}
		w.start(1+r.IntN(4), w.save())
		return true
	}
	for range 400 {
		now += r.Int64N(4)
		for range 1 + r.IntN(4) {
			rec := record{key: fmt.Sprint("k", r.IntN(keys)), value: r.Int64N(100), at: now - r.Int64N(bound+1)}
			if rec.at <= mark {
				rec.at = mark + 1
			}
			o.records = append(o.records, rec)
			w.push(rec.key, rec.value, rec.at)
		}
		if r.IntN(3) == 0 && now-bound-1 > mark {
			mark = now - bound - 1
			w.watermark(mark, crash)
		}
		if r.IntN(20) == 0 {
			crash()
			if mark != batch.NoTime {
				w.watermark(mark, nil)
			}
		}
	}
	w.watermark(batch.EndOfTime, crash)
	return keys, bound
}

// TestWindowsEqualTheOracle compares all results of a storm with a plain loop.
func TestWindowsEqualTheOracle(t *testing.T) {
	seeds := uint64(200)
	if testing.Short() {
		seeds = 40
	}
	for seed := range seeds {
		r := rand.New(rand.NewPCG(seed, 2))
		a := Assigner{Size: 1 + r.Int64N(50), Offset: r.Int64N(20) - 10}
		switch r.IntN(5) {
		case 4:
			a.Slide, a.Cumulate = 1+r.Int64N(15), true
			a.Size = a.Slide * (1 + r.Int64N(6))
		case 0:
			a.Slide = a.Size
		case 1, 2:
			a.Slide = 1 + r.Int64N(30)
		case 3:
			a = Assigner{Gap: 1 + r.Int64N(12)}
		}
		change := func(*Config[string, pair, int64, string]) {}
		if r.IntN(2) == 0 {
			change = subtracting
		}
		w := newRig(t, a, change)
		o := &oracle{a: a}
		keys, bound := w.storm(r, o)
		slices.Sort(w.results)
		if diff := cmp.Diff(o.results(), w.results); diff != "" {
			t.Fatalf("seed %d, %+v, keys %d, bound %d: (-oracle +operator)\n%s", seed, a, keys, bound, diff)
		}
		if len(w.late) > 0 {
			t.Fatalf("seed %d: late records %v", seed, w.late)
		}
	}
}

func TestTumblingFiresAtTheWatermark(t *testing.T) {
	r := newRig(t, Tumbling(10*time.Millisecond), nil)
	r.push("a", 1, 0)
	r.push("a", 2, 9)
	r.push("a", 4, 10)
	r.watermark(8, nil)
	if len(r.results) != 0 {
		t.Fatalf("before the end: %v", r.results)
	}
	r.watermark(9, nil)
	if diff := cmp.Diff([]string{"a [0,10) 3"}, r.results); diff != "" {
		t.Fatal(diff)
	}
}

func TestLateRecordsAreNeverLost(t *testing.T) {
	r := newRig(t, Tumbling(10*time.Millisecond), nil)
	r.push("a", 1, 5)
	r.watermark(20, nil)
	r.push("a", 2, 6)
	r.push("b", 3, 20)
	if diff := cmp.Diff([]string{"a 2 @6"}, r.late); diff != "" {
		t.Fatal(diff)
	}
}

// A record that is late for some windows of a sliding assigner counts in those
// that are still open.
func TestLateForSomeWindowsOnly(t *testing.T) {
	for name, change := range map[string]func(*Config[string, pair, int64, string]){"merging": nil, "subtracting": subtracting} {
		r := newRig(t, Sliding(10*time.Millisecond, 2*time.Millisecond), change)
		r.push("a", 1, 3)
		r.watermark(8, nil)
		r.push("a", 10, 4) // windows ending at 6 and 8 are out
		r.push("b", 5, 1)  // and 10 is the last that holds it
		r.watermark(batch.EndOfTime, nil)
		want := []string{
			"a [-4,6) 1", "a [-2,8) 1", "a [-6,4) 1",
			"a [0,10) 11", "a [2,12) 11", "a [4,14) 10", "b [0,10) 5",
		}
		slices.Sort(want)
		slices.Sort(r.results)
		if diff := cmp.Diff(want, r.results); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// TestEmptyWindowsPassToo: a record that comes after windows have passed that held
// nothing makes none of them fire.
func TestEmptyWindowsPassToo(t *testing.T) {
	for name, change := range map[string]func(*Config[string, pair, int64, string]){"merging": nil, "subtracting": subtracting} {
		r := newRig(t, Sliding(10*time.Millisecond, 2*time.Millisecond), change)
		r.watermark(20, nil)
		r.push("a", 1, 15)
		r.start(2, r.save())
		r.push("a", 2, 14)
		r.watermark(batch.EndOfTime, nil)
		slices.Sort(r.results)
		if diff := cmp.Diff([]string{"a [12,22) 3", "a [14,24) 3"}, r.results); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestAllowedLatenessFiresAgain(t *testing.T) {
	for _, a := range []Assigner{Tumbling(10 * time.Millisecond), Session(10 * time.Millisecond)} {
		r := newRig(t, a, func(c *Config[string, pair, int64, string]) { c.AllowedLateness = 5 })
		r.push("a", 1, 0)
		r.watermark(10, nil)
		r.push("a", 2, 0)
		if diff := cmp.Diff([]string{"a [0,10) 1", "a [0,10) 3"}, r.results); diff != "" {
			t.Fatalf("%+v: %s", a, diff)
		}
		r.watermark(14, nil)
		r.push("a", 4, 0)
		if diff := cmp.Diff([]string{"a 4 @0"}, r.late); diff != "" {
			t.Fatalf("%+v: %s", a, diff)
		}
	}
}

func TestProcessingTime(t *testing.T) {
	for _, a := range []Assigner{Tumbling(10 * time.Millisecond), Session(10 * time.Millisecond)} {
		a.ProcessingTime = true
		r := newRig(t, a, nil)
		r.push("a", 1, batch.NoTime)
		r.advance(9 * time.Millisecond)
		if len(r.results) != 0 {
			t.Fatalf("%+v fired early: %v", a, r.results)
		}
		r.advance(2 * time.Millisecond)
		if diff := cmp.Diff([]string{"a [0,10) 1"}, r.results); diff != "" {
			t.Fatalf("%+v: %s", a, diff)
		}
	}
}

func TestWrongWindowsAreNamed(t *testing.T) {
	for want, a := range map[string]Assigner{
		"at least one millisecond": Tumbling(time.Microsecond),
		"needs a slide":            Sliding(time.Second, 0),
		"size ÷ slide":             Sliding(time.Hour, time.Millisecond),
		"multiple of the step":     Cumulating(time.Minute, 7*time.Second),
		"not both":                 {Size: 1, Slide: 1, Gap: 1},
	} {
		if err := a.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v, want %q in it", a, err, want)
		}
	}
}

// A job that goes on from the savepoint of a drain has more records: they are as
// late as they would have been without the drain.
func TestADrainIsNotTheEndOfTimeForWhatFollows(t *testing.T) {
	for _, a := range []Assigner{
		Tumbling(10 * time.Millisecond),
		Sliding(20*time.Millisecond, 5*time.Millisecond),
		Session(10 * time.Millisecond),
	} {
		r := newRig(t, a, nil)
		r.push("a", 1, 50)
		r.watermark(50, nil)
		r.watermark(batch.EndOfTime, nil)
		r.start(2, r.saveAt(operator.Snapshot{Terminal: true}))
		r.results = nil
		for _, at := range []int64{51, 64, 20} {
			r.push("a", 2, at)
		}
		r.watermark(200, nil)
		if len(r.late) != 1 || len(r.results) == 0 {
			t.Errorf("%v: %d late records, want the last one; results %q", a, len(r.late), r.results)
		}
	}
}
