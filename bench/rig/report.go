package rig

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// Figure is one measured quantity with its value in each round. P99 is the least
// sample that 99 % are not above: the largest of fewer than 100.
type Figure struct {
	Name    string    `json:"name"`
	Unit    string    `json:"unit"`
	Median  float64   `json:"median"`
	P99     float64   `json:"p99"`
	Max     float64   `json:"max"`
	Samples []float64 `json:"samples"`
}

// Report collects figures, in the order in which they first came.
type Report struct{ Figures []*Figure }

// NewReport returns an empty report.
func NewReport() *Report { return &Report{} }

// Add adds a sample of a quantity.
func (r *Report) Add(name, unit string, value float64) {
	i := slices.IndexFunc(r.Figures, func(f *Figure) bool { return f.Name == name })
	if i < 0 {
		i = len(r.Figures)
		r.Figures = append(r.Figures, &Figure{Name: name, Unit: unit})
	}
	f := r.Figures[i]
	f.Samples = append(f.Samples, value)
	sorted := slices.Sorted(slices.Values(f.Samples))
	f.Median, f.P99, f.Max = median(sorted), sorted[(99*len(sorted)+99)/100-1], sorted[len(sorted)-1]
}

// Took adds a time, in milliseconds.
func (r *Report) Took(name string, d time.Duration) {
	r.Add(name, "ms", float64(d.Microseconds())/1000)
}

// median is that of sorted values: the mean of the middle two of an even number.
func median(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// Table prints the figures for people.
func (r *Report) Table(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "median\tp99\tmax\tunit\trounds\t \t")
	for _, f := range r.Figures {
		fmt.Fprintf(t, "%.1f\t%.1f\t%.1f\t%s\t%d\t%s\t\n", f.Median, f.P99, f.Max, f.Unit, len(f.Samples), f.Name)
	}
	return t.Flush()
}

// JSON prints them for programs.
func (r *Report) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r.Figures)
}
