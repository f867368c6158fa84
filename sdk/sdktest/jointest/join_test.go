package jointest

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/sdk"
	"github.com/millrace/millrace/sdk/sdktest"
)

// rec is a record of either side of a join.
type rec struct {
	Side string // l or r
	Key  string
	N    int
}

func l(key string, n int) rec { return rec{"l", key, n} }
func r(key string, n int) rec { return rec{"r", key, n} }

func keyOf(v rec) string { return v.Key }

func at(ms int64) time.Time { return time.UnixMilli(ms) }

// sides splits a stream in its two sides, by key.
func sides(in sdk.DataStream[rec]) (left, right sdk.KeyedStream[string, rec]) {
	side := func(s string) sdk.KeyedStream[string, rec] {
		return in.Filter(func(v rec) bool { return v.Side == s }).KeyBy(keyOf)
	}
	return side("l"), side("r")
}

func text(v *rec) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprint(v.Key, v.N)
}

func both(a, b *rec) string           { return text(a) + " " + text(b) }
func inner(a, b rec) string           { return both(&a, &b) }
func leftOuter(a rec, b *rec) string  { return both(&a, b) }
func rightOuter(a *rec, b rec) string { return both(a, &b) }

func joined(in sdk.DataStream[rec]) sdk.Join[string, rec, rec] {
	a, b := sides(in)
	return a.Join(b)
}

// harness drives a join by hand.
func harness(t *testing.T, part func(in sdk.DataStream[rec]) sdk.DataStream[string]) *sdktest.Harness[rec, string] {
	t.Helper()
	return sdktest.Operator(t, part)
}

func gives(t *testing.T, h *sdktest.Harness[rec, string], what string, want ...string) {
	t.Helper()
	got := h.Output()
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// A join in which every row meets every row of its key, in either order, and what
// meets none comes out at the end.
func TestKeyedJoinMeetsInEitherOrder(t *testing.T) {
	for kind, c := range map[string]struct {
		part func(in sdk.DataStream[rec]) sdk.DataStream[string]
		end  []string
	}{
		"inner": {func(in sdk.DataStream[rec]) sdk.DataStream[string] { return joined(in).Inner("j", inner) }, nil},
		"left":  {func(in sdk.DataStream[rec]) sdk.DataStream[string] { return joined(in).Left("j", leftOuter) }, []string{"c6 -"}},
		"right": {func(in sdk.DataStream[rec]) sdk.DataStream[string] { return joined(in).Right("j", rightOuter) }, []string{"- d7", "- d8"}},
		"full":  {func(in sdk.DataStream[rec]) sdk.DataStream[string] { return joined(in).Full("j", both) }, []string{"c6 -", "- d7", "- d8"}},
	} {
		h := harness(t, c.part)
		h.Push(at(10), l("a", 1), r("b", 2))
		h.Push(at(20), r("a", 3), l("b", 4), l("c", 6))
		gives(t, h, kind+": the first of each", "a1 a3", "b4 b2")
		h.Push(at(5), r("a", 5), r("d", 7), r("d", 8))
		gives(t, h, kind+": a second row", "a1 a5")
		h.Restore(h.Snapshot())
		h.Push(at(30), l("a", 9))
		gives(t, h, kind+": after a restore", "a9 a3", "a9 a5")
		h.Watermark(at(1000))
		gives(t, h, kind+": nothing is final before the end")
		h.End()
		gives(t, h, kind+": the end", c.end...)
	}
}

func TestKeyedJoinTakesTheLaterTime(t *testing.T) {
	h := harness(t, func(in sdk.DataStream[rec]) sdk.DataStream[string] { return joined(in).Inner("j", inner) })
	h.Push(at(50), r("a", 1))
	h.Push(at(20), l("a", 2))
	h.Push(at(70), l("a", 3))
	got := h.TimedOutput()
	want := []sdktest.Timed[string]{{Value: "a2 a1", At: at(50).UTC()}, {Value: "a3 a1", At: at(70).UTC()}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Left rows that meet the one right row of their key go, those that came before it
// wait for it.
func TestKeyedJoinToOne(t *testing.T) {
	h := harness(t, func(in sdk.DataStream[rec]) sdk.DataStream[string] { return joined(in).ToOne().Full("j", both) })
	h.Push(at(10), l("a", 1), l("a", 2), l("b", 3))
	h.Push(at(20), r("a", 4), r("c", 5))
	gives(t, h, "those that waited", "a1 a4", "a2 a4")
	h.Push(at(30), l("a", 6))
	gives(t, h, "one that comes later", "a6 a4")
	h.Restore(h.Snapshot())
	h.Push(at(40), r("a", 7))
	gives(t, h, "none of them is left to meet another one")
	h.Push(at(50), l("a", 8))
	gives(t, h, "which takes the place of the first", "a8 a7")
	h.End()
	gives(t, h, "the end", "b3 -", "- c5")
}

// Rows are over a TTL after they came, to the millisecond, and an unmatched one
// comes out then.
func TestKeyedJoinForgetsAfterItsTTL(t *testing.T) {
	h := harness(t, func(in sdk.DataStream[rec]) sdk.DataStream[string] {
		return joined(in).TTL(time.Minute).Full("j", both)
	})
	h.Push(at(10), l("a", 1), l("b", 2))
	h.Watermark(at(15))
	h.Advance(time.Minute - time.Millisecond)
	h.Push(at(20), r("a", 3), l("b", 4))
	gives(t, h, "just in time", "a1 a3")
	h.Restore(h.Snapshot())
	h.Advance(time.Millisecond)
	if got := h.TimedOutput(); len(got) != 1 || got[0].Value != "b2 -" || !got[0].At.Equal(at(16)) {
		t.Errorf("when the first rows are over: %v, want b2 - right behind the watermark", got)
	}
	h.Push(at(30), l("a", 5), r("b", 6))
	gives(t, h, "the second rows are still there", "a5 a3", "b4 b6")
	h.Advance(time.Hour)
	gives(t, h, "all are over")
	h.Push(at(40), r("a", 7))
	gives(t, h, "nobody is left to meet")
	h.End()
	gives(t, h, "the end", "- a7")
}

func TestIntervalJoinAndItsBounds(t *testing.T) {
	lateL, lateR := sdk.NewTag[rec]("late-left"), sdk.NewTag[rec]("late-right")
	h := harness(t, func(in sdk.DataStream[rec]) sdk.DataStream[string] {
		return joined(in).Between(-5*time.Millisecond, 3*time.Millisecond).Late(lateL, lateR).Full("j", both)
	})
	tooLateL, tooLateR := h.Side(lateL), h.Side(lateR)
	h.Push(at(100), l("a", 1))
	for i, ms := range []int64{94, 95, 100, 103, 104} {
		h.Push(at(ms), r("a", 10+i))
	}
	gives(t, h, "right after left", "a1 a11", "a1 a12", "a1 a13")
	for i, ms := range []int64{99, 105, 106} {
		h.Push(at(ms), l("a", 20+i))
	}
	// 99: 94…102; 105: 100…108; 106: 101…109
	gives(t, h, "left after right", "a20 a10", "a20 a11", "a20 a12", "a21 a12", "a21 a13", "a21 a14", "a22 a13", "a22 a14")
	h.Push(at(100), r("b", 30), l("c", 31))
	h.Restore(h.Snapshot())
	h.Watermark(at(103))
	gives(t, h, "one may still come")
	h.Push(at(103), l("x", 40), r("y", 41))
	if got := tooLateL.Take(); len(got) != 1 || got[0].N != 40 {
		t.Errorf("late on the left: %v", got)
	}
	if got := tooLateR.Take(); len(got) != 1 || got[0].N != 41 {
		t.Errorf("late on the right: %v", got)
	}
	h.Push(at(105), l("b", 50))
	gives(t, h, "at the last moment", "b50 b30")
	h.Watermark(at(120))
	got := h.TimedOutput()
	if len(got) != 1 || got[0].Value != "c31 -" || !got[0].At.Equal(at(100)) {
		t.Errorf("what met none: %v", got)
	}
	h.End()
	gives(t, h, "the end")
}

// What an outer join has still to let out is behind the watermark that it passes
// on, so it is late for no window.
func TestIntervalJoinHoldsTheWatermark(t *testing.T) {
	h := harness(t, func(in sdk.DataStream[rec]) sdk.DataStream[string] {
		return joined(in).Retain(20*time.Millisecond, 20*time.Millisecond).Left("j", leftOuter).
			KeyBy(func(s string) string { return s[:1] }).Window(sdk.Tumbling(10*time.Millisecond)).
			Aggregate("w", sdk.Collect[string](), func(w sdk.Window, key string, all []string) string {
				slices.Sort(all)
				return fmt.Sprint(w.Start.UnixMilli(), " ", strings.Join(all, ","))
			})
	})
	h.Push(at(101), l("a", 1), l("a", 2))
	h.Push(at(105), r("a", 3), l("b", 4))
	h.Watermark(at(120))
	gives(t, h, "rows of the window may still come")
	h.Watermark(at(160))
	gives(t, h, "in time", "100 a1 a3,a2 a3", "100 b4 -")
}

// A row that matches none drops only its own era; what is far ahead stays.
func TestIntervalJoinOfOneSidedBounds(t *testing.T) {
	h := harness(t, func(in sdk.DataStream[rec]) sdk.DataStream[string] {
		return joined(in).Between(10*time.Millisecond, 20*time.Millisecond).Full("j", both)
	})
	h.Push(at(100), l("a", 1))
	h.Push(at(110), r("a", 2))
	h.Push(at(120), r("a", 3))
	h.Push(at(121), r("a", 4))
	h.Watermark(at(115))
	// No left row at or before 115 can come any more, so these meet none.
	h.Push(at(116), r("b", 5))
	h.Push(at(130), r("b", 6))
	gives(t, h, "inclusive", "a1 a2", "a1 a3", "- a4", "- b5")
	h.Watermark(at(200))
	gives(t, h, "the rest", "- b6")
}

func windowed(in sdk.DataStream[rec], w sdk.Windows) sdk.WindowJoin[string, rec, rec] {
	return joined(in).Window(w)
}

func TestWindowJoinOfTumblingWindows(t *testing.T) {
	lateL, lateR := sdk.NewTag[rec]("late-left"), sdk.NewTag[rec]("late-right")
	h := harness(t, func(in sdk.DataStream[rec]) sdk.DataStream[string] {
		return joined(in).Late(lateL, lateR).Window(sdk.Tumbling(10*time.Millisecond)).Full("j", both)
	})
	tooLate := h.Side(lateR)
	h.Push(at(100), r("a", 1), l("b", 2), r("c", 3))
	h.Push(at(109), l("a", 4), l("a", 5), r("a", 6))
	h.Push(at(110), l("a", 7), r("c", 8))
	h.Watermark(at(108))
	gives(t, h, "not yet")
	h.Restore(h.Snapshot())
	h.Watermark(at(109))
	if got := h.TimedOutput(); len(got) != 6 || !got[0].At.Equal(at(109)) {
		t.Errorf("the first window: %v", got)
	}
	h.Push(at(105), r("a", 9))
	if got := tooLate.Take(); len(got) != 1 || got[0].N != 9 {
		t.Errorf("late: %v", got)
	}
	h.End()
	gives(t, h, "the second window", "a7 -", "- c8")
}

func TestWindowJoinOfSlidingWindows(t *testing.T) {
	h := harness(t, func(in sdk.DataStream[rec]) sdk.DataStream[string] {
		return windowed(in, sdk.Sliding(20*time.Millisecond, 10*time.Millisecond)).
			CoGroup("j", func(w sdk.Window, key string, left, right iter.Seq[rec], emit func(string)) {
				out := fmt.Sprint(w.Start.UnixMilli(), " ", key)
				for v := range left {
					out += fmt.Sprint(" l", v.N)
				}
				for v := range right {
					out += fmt.Sprint(" r", v.N)
				}
				emit(out)
			})
	})
	h.Push(at(105), l("a", 1))
	h.Push(at(115), r("a", 2), r("b", 3))
	h.Push(at(125), l("a", 4), l("b", 5))
	h.Watermark(at(109))
	gives(t, h, "the first window", "90 a l1")
	h.Watermark(at(119))
	gives(t, h, "the second", "100 a l1 r2", "100 b r3")
	h.Restore(h.Snapshot())
	gives(t, h, "nothing comes twice")
	h.Watermark(at(129))
	gives(t, h, "the third", "110 a l4 r2", "110 b l5 r3")
	h.End()
	gives(t, h, "the last", "120 a l4", "120 b l5")
}

func TestWindowJoinOfSessions(t *testing.T) {
	h := harness(t, func(in sdk.DataStream[rec]) sdk.DataStream[string] {
		return windowed(in, sdk.Session(10*time.Millisecond)).Left("j", leftOuter)
	})
	h.Push(at(100), l("a", 1))
	h.Push(at(118), r("a", 2))
	h.Push(at(140), l("a", 3), r("b", 4))
	h.Push(at(109), l("a", 5)) // joins the first two
	h.Watermark(at(126))
	gives(t, h, "not yet")
	h.Restore(h.Snapshot())
	h.Watermark(at(127))
	if got := h.TimedOutput(); len(got) != 2 || !got[0].At.Equal(at(127)) || got[0].Value != "a1 a2" || got[1].Value != "a5 a2" {
		t.Errorf("the first session: %v", got)
	}
	h.Push(at(117), l("a", 6)) // late: its session would end before the watermark
	h.Push(at(149), r("a", 7))
	h.End()
	gives(t, h, "the second session", "a3 a7")
}

func TestTemporalJoinTakesTheVersionOfItsTime(t *testing.T) {
	lateL, lateR := sdk.NewTag[rec]("late-left"), sdk.NewTag[rec]("late-right")
	h := harness(t, func(in sdk.DataStream[rec]) sdk.DataStream[string] {
		a, b := sides(in)
		return a.JoinVersions(b).Late(lateL, lateR).Left("j", leftOuter)
	})
	tooLate, useless := h.Side(lateL), h.Side(lateR)
	h.Push(at(100), r("a", 1))
	h.Push(at(110), l("a", 2))
	h.Push(at(99), l("a", 3))
	h.Push(at(120), r("a", 4), l("a", 5))
	h.Push(at(120), r("a", 6)) // instead of the other one
	h.Push(at(105), r("a", 7), l("b", 8))
	gives(t, h, "they wait")
	h.Restore(h.Snapshot())
	h.Watermark(at(119))
	got := h.TimedOutput()
	want := []sdktest.Timed[string]{
		{Value: "a3 -", At: at(99).UTC()}, {Value: "b8 -", At: at(105).UTC()}, {Value: "a2 a7", At: at(110).UTC()},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	h.Push(at(119), l("a", 9))
	h.Push(at(104), r("a", 10))
	if got := tooLate.Take(); len(got) != 1 || got[0].N != 9 {
		t.Errorf("late rows: %v", got)
	}
	if got := useless.Take(); len(got) != 1 || got[0].N != 10 {
		t.Errorf("late versions: %v", got)
	}
	h.Push(at(108), r("a", 11)) // late, and the one that is valid now
	h.Push(at(119+1), l("a", 12))
	h.Restore(h.Snapshot())
	h.Watermark(at(130))
	gives(t, h, "the next version", "a5 a6", "a12 a6")
	h.Push(at(1000), l("a", 13))
	h.End()
	gives(t, h, "it stays", "a13 a6")
}

func TestVersionsEndByThemselves(t *testing.T) {
	h := harness(t, func(in sdk.DataStream[rec]) sdk.DataStream[string] {
		a, b := sides(in)
		return a.JoinVersions(b).ValidFor(10*time.Millisecond).Left("j", leftOuter)
	})
	h.Push(at(100), r("a", 1))
	h.Push(at(110), l("a", 2))
	h.Push(at(111), l("a", 3))
	h.Watermark(at(200))
	gives(t, h, "valid for 10 ms", "a2 a1", "a3 -")
}

func TestLookupJoinRemembers(t *testing.T) {
	asked := map[string]int{}
	table := sdk.LookupTable[string, int]{Cache: 2, TTL: time.Minute, Find: func(_ context.Context, key string) (int, bool, error) {
		asked[key]++
		return len(key), key != "none", nil
	}}
	h := harness(t, func(in sdk.DataStream[rec]) sdk.DataStream[string] {
		return in.Lookup(table, keyOf).Left(func(v rec, n *int) string {
			if n == nil {
				return v.Key + " -"
			}
			return fmt.Sprint(v.Key, " ", *n)
		})
	})
	h.Push(at(1), l("ann", 1), l("none", 1), l("ann", 2), l("none", 2))
	gives(t, h, "two keys", "ann 3", "ann 3", "none -", "none -")
	if asked["ann"] != 1 || asked["none"] != 1 {
		t.Errorf("asked %v, want once for each key", asked)
	}
	h.Push(at(2), l("x", 1), l("x", 2), l("none", 1))
	if asked["x"] != 1 || asked["none"] != 1 {
		t.Errorf("asked %v: a third key takes the place of one of two", asked)
	}
	h.Push(at(2), l("ann", 1))
	if asked["ann"] != 2 {
		t.Errorf("asked %v: more than two keys are remembered", asked)
	}
	h.Advance(time.Minute)
	h.Push(at(3), l("ann", 1))
	if asked["ann"] != 3 {
		t.Errorf("asked %v after the TTL", asked)
	}
}

// Every kind of join commits the same rows in one subtask, through failures,
// rescaled, and with state on the disk.
func TestJoinsAreTheSameThroughFailures(t *testing.T) {
	key := func(v int64) int64 { return v * 7919 % 101 }
	pair := func(a, b *int64) string {
		out := "-"
		if a != nil {
			out = fmt.Sprint(*a)
		}
		if b == nil {
			return out + " -"
		}
		return fmt.Sprint(out, " ", *b)
	}
	ms := time.Millisecond
	type keyed = sdk.KeyedStream[int64, int64]
	// one is one record of each key at most.
	one := func(b keyed) keyed {
		return b.Process("one", func(*sdk.KeyedOp[int64]) sdk.KeyedFn[int64, int64, int64] {
			return sdk.KeyedFn[int64, int64, int64]{Each: func(c *sdk.KeyedContext[int64, int64], v int64) error {
				if v >= 1000 && v < 1101 {
					c.Emit(v)
				}
				return nil
			}}
		}).KeyBy(key)
	}
	leftOf := func(l int64, r *int64) string { return pair(&l, r) }
	for name, part := range map[string]func(a, b keyed) sdk.DataStream[string]{
		"to one":   func(a, b keyed) sdk.DataStream[string] { return a.Join(one(b)).ToOne().Left("j", leftOf) },
		"keyed":    func(a, b keyed) sdk.DataStream[string] { return a.Join(b).Full("j", pair) },
		"interval": func(a, b keyed) sdk.DataStream[string] { return a.Join(b).Between(-100*ms, 250*ms).Full("j", pair) },
		"tumbling": func(a, b keyed) sdk.DataStream[string] { return a.Join(b).Window(sdk.Tumbling(300*ms)).Full("j", pair) },
		"sliding": func(a, b keyed) sdk.DataStream[string] {
			return a.Join(b).Window(sdk.Sliding(300*ms, 70*ms)).Full("j", pair)
		},
		"sessions": func(a, b keyed) sdk.DataStream[string] { return a.Join(b).Window(sdk.Session(120*ms)).Full("j", pair) },
		"temporal": func(a, b keyed) sdk.DataStream[string] {
			return a.JoinVersions(b).Left("j", func(l int64, r *int64) string { return pair(&l, r) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			samely(t, 2000, func(in sdk.DataStream[int64]) sdk.DataStream[string] {
				left := in.Filter(func(v int64) bool { return v%3 != 0 && key(v) != 0 }).KeyBy(key)
				right := in.Filter(func(v int64) bool { return v%3 != 1 && key(v) != 1 }).KeyBy(key)
				return part(left, right)
			})
		})
	}
}
