package window

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

// model is windows with a trigger, evaluated the slow way: all panes in a list.
type model struct {
	a        Assigner
	lateness int64
	purging  bool
	count    int64 // fires with each countth record, or
	every    int64 // at the multiples of every
	mark     int64
	panes    []*modelPane
	results  []string
	late     int
}

type modelPane struct {
	key        string
	start, end int64
	sum, n     int64
	held       bool
	fresh      bool
	timer      int64 // 0 for none
}

func (m *model) past(t int64) bool { return t <= m.mark }

func (m *model) emit(p *modelPane) {
	p.fresh = false
	if p.held {
		m.results = append(m.results, fmt.Sprintf("%s [%d,%d) %d", p.key, p.start, p.end, p.sum))
		if m.purging {
			p.sum, p.held = 0, false
		}
	}
}

func (m *model) push(key string, value, at int64) {
	var spans []Window
	if m.a.Gap != 0 {
		span := Window{at, at + m.a.Gap}
		for _, p := range m.panes {
			if p.key == key && p.end > at && p.start < at+m.a.Gap {
				span = Window{min(span.Start, p.start), max(span.End, p.end)}
			}
		}
		spans = append(spans, span)
	} else {
		for s := at - m.a.Size + 1; s <= at; s++ {
			if (s-m.a.Offset)%m.a.Slide == 0 {
				spans = append(spans, Window{s, s + m.a.Size})
			}
		}
	}
	taken := len(spans) == 0
	for _, span := range spans {
		if m.past(span.End - 1 + m.lateness) {
			continue
		}
		taken = true
		p := &modelPane{key: key, start: span.Start, end: span.End}
		m.panes = slices.DeleteFunc(m.panes, func(q *modelPane) bool {
			if q.key != key || m.a.Gap == 0 && (q.start != span.Start || q.end != span.End) || q.start >= span.End || q.end <= span.Start {
				return false
			}
			p.sum, p.n, p.held, p.fresh = p.sum+q.sum, p.n+q.n, p.held || q.held, p.fresh || q.fresh
			if q.timer != 0 && (p.timer == 0 || q.timer < p.timer) {
				p.timer = q.timer
			}
			return true
		})
		m.panes = append(m.panes, p)
		p.sum, p.n, p.held, p.fresh = p.sum+value, p.n+1, true, true
		fired := false
		if m.count > 0 && p.n >= m.count {
			p.n, fired = 0, true
		}
		if m.every > 0 && p.timer == 0 {
			t := max(at, m.mark+1)
			p.timer = t - (t%m.every+m.every)%m.every + m.every - 1
		}
		if fired || m.past(p.end-1) && m.every == 0 {
			m.emit(p)
		}
	}
	if !taken {
		m.late++
	}
}

func (m *model) watermark(t int64) {
	for _, p := range m.panes {
		// Timers before the end, the end, then timers after it.
		over := m.past(p.end - 1)
		if p.timer != 0 && p.timer <= t && (over || p.timer < p.end-1) {
			p.timer = 0
			m.emit(p)
		}
		if !over && p.end-1 <= t {
			if p.timer <= p.end-1 {
				p.timer = 0
			}
			m.emit(p)
		}
		if p.end-1+m.lateness <= t && p.fresh {
			m.emit(p)
		}
	}
	m.panes = slices.DeleteFunc(m.panes, func(p *modelPane) bool { return p.end-1+m.lateness <= t })
	m.mark = t
}

// TestTriggersEqualTheModel sends random records, out of order and late, with
// restarts at other parallelisms, to windows with a trigger and to the model.
func TestTriggersEqualTheModel(t *testing.T) {
	seeds := uint64(120)
	if testing.Short() {
		seeds = 40
	}
	for seed := range seeds {
		r := rand.New(rand.NewPCG(seed, 5))
		a := Assigner{Size: 1 + r.Int64N(40), Slide: 1 + r.Int64N(30), Offset: r.Int64N(10)}
		switch r.IntN(3) {
		case 0:
			a.Slide = a.Size
		case 1:
			a = Assigner{Gap: 1 + r.Int64N(12)}
		}
		m := &model{a: a, lateness: r.Int64N(2) * r.Int64N(20), purging: r.IntN(2) == 0, mark: batch.NoTime}
		if r.IntN(2) == 0 {
			m.count = 1 + r.Int64N(6)
		} else {
			m.every = 1 + r.Int64N(15)
		}
		var w *rig
		if m.count > 0 {
			w = triggered(t, a, OnCount[pair](m.count), func(c *TriggeredConfig[string, pair, int64, int64, string]) {
				c.AllowedLateness, c.Purging = m.lateness, m.purging
			})
		} else {
			w = triggered(t, a, Every[pair](m.every, false), func(c *TriggeredConfig[string, pair, int64, struct{}, string]) {
				c.AllowedLateness, c.Purging = m.lateness, m.purging
			})
		}
		m.storm(r, w)
		slices.Sort(m.results)
		slices.Sort(w.results)
		if diff := cmp.Diff(m.results, w.results); diff != "" {
			t.Fatalf("seed %d, %+v, %+v: (-model +operator)\n%s", seed, a, *m, diff)
		}
		if len(w.late) != m.late {
			t.Fatalf("seed %d: %d late records, want %d", seed, len(w.late), m.late)
		}
	}
}

func (m *model) storm(r *rand.Rand, w *rig) {
	now := int64(100)
	for range 150 {
		now += r.Int64N(5)
		for range 1 + r.IntN(4) {
			key, value, at := fmt.Sprint("k", r.IntN(4)), r.Int64N(100), now-r.Int64N(15)
			if r.IntN(8) == 0 {
				at -= 20
			}
			m.push(key, value, at)
			w.push(key, value, at)
		}
		switch r.IntN(8) {
		case 0, 1:
			// A millisecond at a time, so that the model needs no order of
			// what falls due together.
			from := m.mark
			if from == batch.NoTime {
				from = 0
			}
			for t := from + 1; t <= now-10; t++ {
				m.watermark(t)
				w.watermark(t, nil)
			}
		case 2:
			w.start(1+r.IntN(4), w.save())
			if m.mark != batch.NoTime {
				w.watermark(m.mark, nil)
			}
		}
	}
	for t := m.mark + 1; t < now+60; t++ {
		m.watermark(t)
		w.watermark(t, nil)
	}
}

func wantResults(t *testing.T, r *rig, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, r.results); diff != "" {
		t.Fatalf("results (-want +got):\n%s", diff)
	}
	r.results = nil
}

func TestEarlyResultsByTheClock(t *testing.T) {
	r := triggered(t, Tumbling(100*time.Millisecond), Every[pair](10, true), nil)
	r.push("a", 1, 5)
	r.advance(9 * time.Millisecond)
	wantResults(t, r)
	r.push("a", 2, 6)
	r.advance(time.Millisecond)
	wantResults(t, r, "a [0,100) 3")
	r.advance(time.Second) // nothing has come since
	wantResults(t, r)
	r.start(2, r.save())
	r.push("a", 4, 7)
	r.start(1, r.save()) // the timer comes back
	r.advance(10 * time.Millisecond)
	wantResults(t, r, "a [0,100) 7")
	r.watermark(99, nil)
	wantResults(t, r, "a [0,100) 7")
}

func TestEndlessWindowsFireByTheirTrigger(t *testing.T) {
	r := triggered(t, Assigner{Endless: true}, OnCount[pair](3), func(c *TriggeredConfig[string, pair, int64, int64, string]) {
		c.Purging = true
		c.Result = func(_ Window, key string, acc int64) string { return fmt.Sprint(key, " ", acc) }
	})
	for i := range int64(7) {
		r.push("a", i, batch.NoTime)
	}
	r.push("b", 1, 1000)
	wantResults(t, r, "a 3", "a 12")
	r.start(3, r.save())
	r.push("b", 1, 0)
	r.push("b", 1, 0)
	r.watermark(batch.EndOfTime, nil)
	wantResults(t, r, "b 3")
}

func TestADeltaFires(t *testing.T) {
	far := func(last, v pair) bool { return v.Value-last.Value > 10 }
	tr := OnDelta(far)
	tr.Only = true
	r := triggered(t, Tumbling(time.Second), tr, nil)
	for _, v := range []int64{1, 5, 12, 13, 23, 22} {
		r.push("a", v, 0)
	}
	wantResults(t, r, "a [0,1000) 18", "a [0,1000) 54")
	r.watermark(batch.EndOfTime, nil)
	wantResults(t, r)
}

// TestWindowsInProcessingTimeWithATrigger fires early and at the end.
func TestWindowsInProcessingTimeWithATrigger(t *testing.T) {
	a := Tumbling(10 * time.Millisecond)
	a.ProcessingTime = true
	r := triggered(t, a, OnCount[pair](2), nil)
	for range 3 {
		r.push("a", 1, batch.NoTime)
	}
	wantResults(t, r, "a [0,10) 2")
	r.advance(11 * time.Millisecond)
	wantResults(t, r, "a [0,10) 3")
}

func TestEvictorsKeepWhatTheySay(t *testing.T) {
	for name, c := range map[string]struct {
		evict Evictor[pair]
		want  string
	}{
		"count":  {KeepLast[pair](2), "a [0,100) 9"},
		"time":   {KeepNewest[pair](10), "a [0,100) 9"},
		"custom": {func(_ Window, all []Kept[pair]) []Kept[pair] { return all[:1] }, "a [0,100) 1"},
		"none":   {func(Window, []Kept[pair]) []Kept[pair] { return nil }, ""},
	} {
		r := newRig(t, Tumbling(time.Second), nil)
		r.make = func() operator.Operator {
			return NewEvicting(EvictingConfig[string, pair, int64, string]{
				Assigner: Tumbling(100 * time.Millisecond), Key: r.cfg.Key, Trigger: OnCount[pair](100), Late: "late", Evict: c.evict,
				Result: func(w Window, key string, all []pair) string {
					sum := int64(0)
					for _, p := range all {
						sum += p.Value
					}
					return fmt.Sprintf("%s [%d,%d) %d", key, w.Start, w.End, sum)
				},
			})
		}
		r.start(1, nil)
		r.push("a", 1, 20)
		r.push("a", 8, 50)
		r.push("a", 4, 30)
		r.start(2, r.save())
		r.push("a", 8, 10)
		r.push("a", 1, 55)
		r.watermark(100, nil)
		var want []string
		if c.want != "" {
			want = append(want, c.want)
		}
		if diff := cmp.Diff(want, r.results); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
