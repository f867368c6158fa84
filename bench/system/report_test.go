package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestReportKeepsOrderMedianAndWorst(t *testing.T) {
	r := newReport()
	for _, ms := range []int{30, 10, 20} {
		r.took("b", time.Duration(ms)*time.Millisecond)
	}
	r.add("a", "MB", 4)
	r.add("a", "MB", 1)
	want := []*figure{
		{Name: "b", Unit: "ms", Median: 20, Max: 30, Samples: []float64{30, 10, 20}},
		{Name: "a", Unit: "MB", Median: 2.5, Max: 4, Samples: []float64{4, 1}},
	}
	if diff := cmp.Diff(want, r.figures); diff != "" {
		t.Errorf("figures (-want +got):\n%s", diff)
	}
	var table strings.Builder
	if err := r.table(&table); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Split(strings.TrimSpace(table.String()), "\n"); len(lines) != 3 || !strings.Contains(lines[1], "20.0") {
		t.Errorf("table:\n%s", table.String())
	}
}

func TestNewAfter(t *testing.T) {
	sent := time.Date(2001, 1, 3, 0, 40, 0, 0, time.UTC)
	// Event time was at most 2001-01-02T23:40, so day 2 had not ended.
	for day, want := range map[string]bool{"2001-01-01": false, "2001-01-02": true, "2001-01-03": true} {
		if got := newAfter([]byte(`{"origin":"DTW","day":"`+day+`"}`), sent); got != want {
			t.Errorf("result of %s new after %v: %v", day, sent, got)
		}
	}
}

func TestRepeatedFlightsGoOnInTime(t *testing.T) {
	at := time.Date(2001, 1, 1, 1, 0, 0, 0, time.UTC)
	in := []flight{{"2001-01-01T01:00:00Z,A,B,1", "A", at}, {"2001-01-02T05:00:00Z,C,D,2", "C", at.Add(28 * time.Hour)}}
	var got []string
	for _, f := range repeated(in, 5) {
		got = append(got, f.line)
	}
	want := []string{
		"2001-01-01T01:00:00Z,A,B,1", "2001-01-02T05:00:00Z,C,D,2",
		"2001-01-03T01:00:00Z,A,B,1", "2001-01-04T05:00:00Z,C,D,2", "2001-01-05T01:00:00Z,A,B,1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}
