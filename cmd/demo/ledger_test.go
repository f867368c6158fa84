package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const input = `scheduled,origin,destination,delay_min,distance_mi
2001-01-01T01:24:00Z,LAS,OAK,-5,407
2001-01-01T23:59:00Z,LAS,PHX,4,256
2001-01-02T00:00:00Z,LAS,PHX,4,256
2001-01-01T05:00:00Z,DTW,ORD,700,200
`

const (
	las1  = `{"origin":"LAS","day":"2001-01-01","flights":2,"mean":-0.5,"p95":4,"worst":4}`
	las2  = `{"origin":"LAS","day":"2001-01-02","flights":1,"mean":4.0,"p95":4,"worst":4}`
	dtw1  = `{"origin":"DTW","day":"2001-01-01","flights":1,"mean":700.0,"p95":700,"worst":700}`
	dtw   = "2001-01-01T05:00:00Z,DTW,ORD,700,200"
	early = "2001-01-01T01:24:00Z,LAS,OAK,-5,407"
)

func TestLedgerFindsWhatIsMissingOrTwice(t *testing.T) {
	for _, c := range []struct {
		name    string
		results []string
		late    []string
		want    []string
	}{
		{name: "all counted", results: []string{las2, las1, dtw1}},
		{name: "one late", results: []string{las1, las2}, late: []string{dtw}},
		{
			name: "nothing came", want: []string{
				"DTW 2001-01-01 lacks 1 flights", "LAS 2001-01-01 lacks 2 flights", "LAS 2001-01-02 lacks 1 flights",
				"0 flights counted and 0 late are 0, want 4",
			},
		},
		{
			name: "a result twice", results: []string{las1, las2, dtw1, las2},
			want: []string{
				"LAS 2001-01-02 has more than one result", "LAS 2001-01-02 has 1 flights too many",
				"5 flights counted and 0 late are 5, want 4",
			},
		},
		{
			name: "a day in two halves", results: []string{strings.Replace(las1, ":2,", ":1,", 1), strings.Replace(las1, ":2,", ":1,", 1), las2, dtw1},
			want: []string{"LAS 2001-01-01 has more than one result"},
		},
		{
			name: "counted and late", results: []string{las1, las2, dtw1}, late: []string{dtw},
			want: []string{"DTW 2001-01-01 has 1 flights too many", "4 flights counted and 1 late are 5, want 4"},
		},
		{
			name: "late twice, another lost", results: []string{las1}, late: []string{dtw, dtw},
			want: []string{`late line "` + dtw + `" is not in the input, or came twice`, "LAS 2001-01-02 lacks 1 flights"},
		},
		{
			name: "counted for another day: the sum is right", results: []string{las1, dtw1, strings.Replace(las2, "01-02", "01-03", 1)},
			want: []string{"LAS 2001-01-02 lacks 1 flights", "LAS 2001-01-03 has 1 flights too many"},
		},
		{
			name: "another line of the same sum", results: []string{las2, dtw1, strings.Replace(las1, ":2,", ":1,", 1)}, late: []string{early + "0"},
			want: []string{`late line "` + early + `0" is not in the input, or came twice`, "LAS 2001-01-01 lacks 1 flights"},
		},
		{
			name: "not JSON", results: []string{las1, las2, dtw1, "{"},
			want: []string{"a result does not parse: unexpected end of JSON input: {"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := readLedger(strings.NewReader(input))
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range c.results {
				l.result([]byte(r))
			}
			for _, r := range c.late {
				l.lateLine([]byte(r))
			}
			if diff := cmp.Diff(c.want, l.check()); diff != "" {
				t.Errorf("found (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLedgerRefusesOtherFiles(t *testing.T) {
	for _, file := range []string{"", "origin,scheduled\n", "scheduled,origin,x\n2001-01-01 LAS\n", "scheduled,origin,x\n2001-01-01T00:00:00+01:00,LAS,x\n"} {
		if l, err := readLedger(strings.NewReader(file)); err == nil {
			t.Errorf("%q was taken for flights: %d lines", file, l.total)
		}
	}
}

func TestNewestDayFirstThenBusiest(t *testing.T) {
	l, err := readLedger(strings.NewReader(input))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []string{dtw1, las2, las1} {
		l.result([]byte(r))
	}
	var got []string
	for _, r := range l.newest(2) {
		got = append(got, r.Origin+" "+r.Day)
	}
	if diff := cmp.Diff([]string{"LAS 2001-01-02", "LAS 2001-01-01"}, got); diff != "" {
		t.Errorf("newest (-want +got):\n%s", diff)
	}
}
