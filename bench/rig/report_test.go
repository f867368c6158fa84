package rig

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestReportKeepsOrderMedianAndWorst(t *testing.T) {
	r := NewReport()
	for _, ms := range []int{30, 10, 20} {
		r.Took("b", time.Duration(ms)*time.Millisecond)
	}
	r.Add("a", "MB", 4)
	r.Add("a", "MB", 1)
	want := []*Figure{
		{Name: "b", Unit: "ms", Median: 20, P99: 30, Max: 30, Samples: []float64{30, 10, 20}},
		{Name: "a", Unit: "MB", Median: 2.5, P99: 4, Max: 4, Samples: []float64{4, 1}},
	}
	if diff := cmp.Diff(want, r.Figures); diff != "" {
		t.Errorf("figures (-want +got):\n%s", diff)
	}
	var table strings.Builder
	if err := r.Table(&table); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Split(strings.TrimSpace(table.String()), "\n"); len(lines) != 3 || !strings.Contains(lines[1], "20.0") {
		t.Errorf("table:\n%s", table.String())
	}
}

func TestReportPercentile(t *testing.T) {
	for n, want := range map[int]float64{1: 1, 99: 99, 100: 99, 101: 100, 200: 198} {
		r := NewReport()
		for i := range n {
			r.Add("a", "", float64(n-i))
		}
		if got := r.Figures[0].P99; got != want {
			t.Errorf("p99 of 1 to %d is %v, want %v", n, got, want)
		}
	}
}

func TestEvents(t *testing.T) {
	e := &Events{more: make(chan struct{})}
	e.read(strings.NewReader(`time=2026-11-23T12:24:27.860Z level=INFO msg="attempt started" job=e385 epoch=1 restore=""
time=2026-11-23T12:24:28.885Z level=INFO msg="attempt running" job=e385 epoch=1 deployed_in=16.4ms
panic: not a line of the log
time=2026-11-23T12:24:29.000Z level=INFO msg="attempt running" job=e385 epoch=2 deployed_in=1ms
`))
	running := func(ev Event) bool { return ev.Message == "attempt running" }
	from := time.Date(2026, 11, 23, 12, 24, 28, 885e6, time.UTC)
	for _, c := range []struct {
		from  time.Time
		epoch string
	}{{from, "1"}, {from.Add(time.Millisecond), "2"}} {
		ev, err := e.Await(t.Context(), c.from, "running", running)
		if err != nil || ev.Value("epoch") != c.epoch || ev.Value("job") != "e385" || ev.Value("none") != "" {
			t.Errorf("from %v: %+v, %v", c.from, ev, err)
		}
	}
	if ev, ok := e.Find(from.Add(time.Second), running); ok {
		t.Errorf("found %+v", ev)
	}
}
