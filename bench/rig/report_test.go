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
		{Name: "b", Unit: "ms", Median: 20, Max: 30, Samples: []float64{30, 10, 20}},
		{Name: "a", Unit: "MB", Median: 2.5, Max: 4, Samples: []float64{4, 1}},
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
