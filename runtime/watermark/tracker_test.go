package watermark

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/source"
)

var start = time.UnixMilli(1_000_000)

func wantTime(t *testing.T, tr *Tracker, now time.Time, want int64, wantIdle bool) {
	t.Helper()
	if got, idle := tr.Advance(now); got != want || idle != wantIdle {
		t.Fatalf("watermark %d idle %v, want %d %v", got, idle, want, wantIdle)
	}
}

func TestStrategyStamps(t *testing.T) {
	b := &batch.Batch[int]{}
	for _, v := range []int{5, 9, 7} {
		b.Append(v, batch.NoTime)
	}
	s := Strategy[int]{Timestamp: func(v int) int64 { return int64(v) * 10 }}
	if got := s.Stamp(b, 1); got != 90 {
		t.Fatalf("greatest %d, want 90", got)
	}
	if b.Times[0] != batch.NoTime || b.Times[1] != 90 || b.Times[2] != 70 {
		t.Fatalf("times %v", b.Times)
	}
	var keep Strategy[int]
	if got := keep.Stamp(b, 0); got != 90 {
		t.Fatalf("greatest of given times %d, want 90", got)
	}
}

func TestOutOfOrdernessIsTakenOff(t *testing.T) {
	tr := NewTracker(3*time.Second, 0, 0)
	i := tr.Add(batch.NoTime)
	wantTime(t, tr, start, batch.NoTime, false)
	tr.Observe(i, 10_000)
	wantTime(t, tr, start, 6_999, false)
	tr.Observe(i, 4_000)
	wantTime(t, tr, start, 6_999, false)
	tr.Observe(i, batch.NoTime)
	wantTime(t, tr, start, 6_999, false)
	if got := behind(math.MinInt64+2, 3000); got != batch.NoTime {
		t.Fatalf("watermark of the first times of all: %d", got)
	}
}

func TestCaughtUpIsNotIdle(t *testing.T) {
	tr := NewTracker(0, 0, 0)
	a, b := tr.Add(batch.NoTime), tr.Add(batch.NoTime)
	tr.Observe(a, 101)
	tr.Observe(b, 51)
	tr.Report(a, source.More, true, start)
	tr.Report(b, source.Empty, true, start)
	wantTime(t, tr, start.Add(DefaultIdleAfter-1), 50, false)
	if d, ok := tr.NextIdle(start.Add(time.Second)); !ok || d != 4*time.Second {
		t.Fatalf("next idle in %v %v, want 4s", d, ok)
	}
	// A wake-up that finds nothing does not start the time anew.
	tr.Wake(b)
	tr.Report(b, source.Empty, false, start.Add(4*time.Second))
	wantTime(t, tr, start.Add(DefaultIdleAfter), 100, false)
	if tr.State(b) != Idle {
		t.Fatalf("state %d, want idle", tr.State(b))
	}
	if _, ok := tr.NextIdle(start); ok {
		t.Fatal("nobody is on the way to idle")
	}
	// Back, and behind: time does not fall, and stands until it caught up.
	tr.Observe(b, 61)
	tr.Observe(a, 201)
	wantTime(t, tr, start.Add(DefaultIdleAfter), 100, false)
	tr.Observe(b, 151)
	wantTime(t, tr, start.Add(DefaultIdleAfter), 150, false)
}

func TestWaitingNeverBecomesIdle(t *testing.T) {
	tr := NewTracker(0, time.Second, 0)
	a, b := tr.Add(batch.NoTime), tr.Add(batch.NoTime)
	tr.Observe(a, 101)
	tr.Observe(b, 51)
	tr.Report(b, source.Waiting, true, start)
	wantTime(t, tr, start.Add(time.Hour), 50, false)
	tr.Report(b, source.Empty, false, start.Add(time.Hour))
	wantTime(t, tr, start.Add(time.Hour+999*time.Millisecond), 50, false)
	wantTime(t, tr, start.Add(time.Hour+time.Second), 100, false)
}

func TestNegativeIdleAfterHoldsForEver(t *testing.T) {
	tr := NewTracker(0, -1, 0)
	i := tr.Add(7)
	tr.Report(i, source.Empty, false, start)
	wantTime(t, tr, start.Add(1000*time.Hour), 7, false)
	if _, ok := tr.NextIdle(start); ok {
		t.Fatal("a split that never turns idle has a time for it")
	}
}

func TestEndedSplitsAreLeftOut(t *testing.T) {
	tr := NewTracker(0, 0, 0)
	wantTime(t, tr, start, batch.NoTime, true)
	a, b := tr.Add(100), tr.Add(40)
	wantTime(t, tr, start, 40, false)
	tr.Report(b, source.Ended, true, start)
	wantTime(t, tr, start, 100, false)
	tr.Report(a, source.Ended, true, start)
	wantTime(t, tr, start, batch.EndOfTime, false)
	if _, ok := tr.Next(); ok {
		t.Fatal("an ended split is to be read")
	}
	tr.Wake(a)
	if _, ok := tr.Next(); ok {
		t.Fatal("an ended split is to be read after a wake")
	}
}

func TestNextIsFurthestBehind(t *testing.T) {
	tr := NewTracker(0, 0, 10*time.Millisecond)
	a, b, c := tr.Add(100), tr.Add(90), tr.Add(200)
	want := func(what string, split int, some bool) {
		t.Helper()
		if got, ok := tr.Next(); ok != some || some && got != split {
			t.Fatalf("%s: split %d %v, want %d %v", what, got, ok, split, some)
		}
	}
	want("lowest watermark", b, true)
	tr.Report(b, source.Waiting, false, start)
	want("b waits, a is within the drift", a, true)
	tr.Observe(a, 112)
	tr.Report(a, source.More, true, start)
	want("a and c have drifted too far ahead of b", 0, false)
	tr.Wake(b)
	want("b may have data", b, true)
	tr.Report(b, source.Empty, false, start)
	want("caught up still holds", 0, false)
	tr.Advance(start.Add(DefaultIdleAfter))
	want("b is idle", a, true)
	tr.SetLimit(50)
	want("others are far behind", 0, false)
	tr.SetLimit(math.MaxInt64)
	tr.Report(a, source.Ended, false, start)
	want("only c is left", c, true)
}

func TestEqualSplitsTakeTurns(t *testing.T) {
	tr := NewTracker(0, 0, 0)
	for range 3 {
		tr.Add(batch.NoTime)
	}
	for i := range 9 {
		if got, _ := tr.Next(); got != i%3 {
			t.Fatalf("turn %d: split %d", i, got)
		}
	}
}

// TestNothingIsLateOnCatchUp reads splits of very different length in the order
// that the tracker says: no record may come behind the watermark.
func TestNothingIsLateOnCatchUp(t *testing.T) {
	for seed := range uint64(500) {
		rng := rand.New(rand.NewPCG(seed, 3))
		const disorder = 50
		tr := NewTracker(disorder*time.Millisecond, 0, 0)
		n := 1 + rng.IntN(5)
		left, clock := make([]int, n), make([]int64, n)
		for i := range n {
			tr.Add(batch.NoTime)
			left[i] = rng.IntN(200)
		}
		current := int64(batch.NoTime)
		for {
			i, ok := tr.Next()
			if !ok {
				break
			}
			if left[i] == 0 {
				tr.Report(i, source.Ended, false, start)
			} else {
				left[i]--
				clock[i] += rng.Int64N(20)
				at := clock[i] - rng.Int64N(disorder+1)
				if at <= current {
					t.Fatalf("seed %d: record of split %d at %d behind watermark %d", seed, i, at, current)
				}
				tr.Observe(i, at)
				tr.Report(i, source.More, true, start)
			}
			w, _ := tr.Advance(start)
			if w < current {
				t.Fatalf("seed %d: watermark fell from %d to %d", seed, current, w)
			}
			current = w
		}
		if current != batch.EndOfTime {
			t.Fatalf("seed %d: watermark at the end: %d", seed, current)
		}
	}
}
