package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// figure is one measured quantity with its value in each round.
type figure struct {
	Name    string    `json:"name"`
	Unit    string    `json:"unit"`
	Median  float64   `json:"median"`
	Max     float64   `json:"max"`
	Samples []float64 `json:"samples"`
}

// report collects figures, in the order in which they first came.
type report struct{ figures []*figure }

func newReport() *report { return &report{} }

func (r *report) add(name, unit string, value float64) {
	i := slices.IndexFunc(r.figures, func(f *figure) bool { return f.Name == name })
	if i < 0 {
		i = len(r.figures)
		r.figures = append(r.figures, &figure{Name: name, Unit: unit})
	}
	f := r.figures[i]
	f.Samples = append(f.Samples, value)
	sorted := slices.Sorted(slices.Values(f.Samples))
	f.Median, f.Max = median(sorted), sorted[len(sorted)-1]
}

func (r *report) took(name string, d time.Duration) {
	r.add(name, "ms", float64(d.Microseconds())/1000)
}

// median is that of sorted values: the mean of the middle two of an even number.
func median(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

func (r *report) table(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "median\tmax\tunit\trounds\t \t")
	for _, f := range r.figures {
		fmt.Fprintf(t, "%.1f\t%.1f\t%s\t%d\t%s\t\n", f.Median, f.Max, f.Unit, len(f.Samples), f.Name)
	}
	return t.Flush()
}

func (r *report) json(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r.figures)
}
