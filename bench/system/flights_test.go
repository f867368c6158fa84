package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

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
