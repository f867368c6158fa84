package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func sample() board {
	b := board{
		job: jobStatus{State: "RUNNING", Restarts: 1}, sent: 10000, total: 20000, counted: 4990, late: 10, results: 1700,
		newest:   []row{{"ORD", "2001-03-09", 21, "-3.3", 66, 120}, {"DTW", "2001-03-09", 6, "12.0", 1000, 1000}},
		recovery: recovery{Failed: 1003, Restarted: 1040, FirstOutput: 1180, Visible: 1190}.since(1000),
		elapsed:  6710 * time.Millisecond,
	}
	b.cp.Counts.Completed = 31
	b.cp.Latest.Completed = &struct {
		TookMs int64 `json:"end_to_end_duration"`
	}{12}
	return b
}

const table = `job flights: RUNNING   6.7 s
flights  [############............]   sent 10000 of 20000
counted  [######..................]   4990 in 1700 results, 10 late
checkpoints: 31, the last took 12 ms   restarts: 1
recovery: noticed 3 ms, running 40 ms, output at the sink 180 ms, visible 190 ms after SIGKILL

delays, newest day first
ORIGIN  DAY         FLIGHTS    MEAN    P95  WORST
ORD     2001-03-09       21    -3.3     66    120
DTW     2001-03-09        6    12.0   1000   1000`

func TestTable(t *testing.T) {
	if diff := cmp.Diff(table, strings.Join(sample().lines(200, 50), "\n")); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}

func TestTableFitsTheTerminal(t *testing.T) {
	for _, size := range [][2]int{{79, 22}, {20, 5}, {1, 1}, {0, 0}} {
		lines := sample().lines(size[0], size[1])
		if len(lines) > max(1, size[1]) {
			t.Errorf("%d lines on a terminal of %d", len(lines), size[1])
		}
		for _, l := range lines {
			if len(l) > size[0] {
				t.Errorf("%q is wider than %d", l, size[0])
			}
		}
	}
	if got := (board{}).lines(80, 20); len(got) == 0 || got[0] != "job flights: -   0.0 s" {
		t.Errorf("before anything is known: %q", got)
	}
}

func TestPlainLinesComeOnceASecond(t *testing.T) {
	var out strings.Builder
	s := newScreen(&out)
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for range 21 {
		s.show(sample(), now)
		now = now.Add(100 * time.Millisecond)
	}
	want := "  6.7 s  RUNNING     sent  10000  counted   4990  late   10  results  1700  checkpoints  31  restarts 1  up to 2001-03-09\n"
	if diff := cmp.Diff(strings.Repeat(want, 3), out.String()); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
}
