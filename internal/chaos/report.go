//go:build linux

package chaos

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/millrace/millrace/internal/chaos/ledger"
	"github.com/millrace/millrace/internal/chaos/outlet"
)

// Report is what a run has seen.
type Report struct {
	Seed    uint64                `json:"seed"`
	Took    time.Duration         `json:"took"`
	Ballast int                   `json:"ballast_keys"`
	Faults  map[Kind]*Measurement `json:"faults"`
	Ledger  ledger.Counts         `json:"ledger"`
	Outlet  outlet.Counts         `json:"outlet"`
	Fired   map[string]int        `json:"failpoints_fired"`
	// Exits are ends of processes that no signal explains.
	Exits []string `json:"exits,omitempty"`
	// Orphans are objects of state that no retained manifest names.
	Orphans int    `json:"orphans"`
	Error   string `json:"error,omitempty"`
}

// Measurement is of one kind of fault.
type Measurement struct {
	Count int `json:"count"`
	// Detected is from the fault to the job's exception, Recovered from the
	// fault to the first commit after it; both only where there was one.
	Detected  []time.Duration `json:"detected"`
	Recovered []time.Duration `json:"recovered"`
}

func newReport(cfg Config) *Report {
	return &Report{Seed: cfg.Seed, Ballast: cfg.Ballast, Faults: map[Kind]*Measurement{}, Fired: map[string]int{}}
}

func (r *Report) of(k Kind) *Measurement {
	if r.Faults[k] == nil {
		r.Faults[k] = &Measurement{}
	}
	return r.Faults[k]
}

func (r *Report) finish(run *run) {
	r.Took = time.Since(run.began)
	if run.store != nil {
		r.Outlet = run.store.Counts()
	}
}

// quantile is the q-th quantile by nearest rank.
func quantile(all []time.Duration, q float64) string {
	if len(all) == 0 {
		return "-"
	}
	s := slices.Sorted(slices.Values(all))
	i := min(int(q*float64(len(s))), len(s)-1)
	return s[i].Round(time.Millisecond).String()
}

// Merge adds another run's figures.
func (r *Report) Merge(o *Report) {
	for k, m := range o.Faults {
		to := r.of(k)
		to.Count += m.Count
		to.Detected = append(to.Detected, m.Detected...)
		to.Recovered = append(to.Recovered, m.Recovered...)
	}
	for name, n := range o.Fired {
		r.Fired[name] += n
	}
	r.Took += o.Took
	r.Orphans += o.Orphans
	r.Exits = append(r.Exits, o.Exits...)
	l, m := &r.Ledger, o.Ledger
	l.Commits, l.Input, l.Entries, l.Repeats = l.Commits+m.Commits, l.Input+m.Input, l.Entries+m.Entries, l.Repeats+m.Repeats
	l.Windows, l.Lates, l.Fired = l.Windows+m.Windows, l.Lates+m.Lates, l.Fired+m.Fired
	l.AmountIn, l.AmountOut = l.AmountIn+m.AmountIn, l.AmountOut+m.AmountOut
	c, d := &r.Outlet, o.Outlet
	c.Fences, c.Stages, c.Commits, c.Again = c.Fences+d.Fences, c.Stages+d.Stages, c.Commits+d.Commits, c.Again+d.Again
	if c.Refused == nil {
		c.Refused = map[string]uint64{}
	}
	for op, n := range d.Refused {
		c.Refused[op] += n
	}
	if r.Error == "" {
		r.Error = o.Error
	}
}

// Print writes the report as a table.
func (r *Report) Print(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "FAULT\tCOUNT\tDETECTED p50\tp99\tRECOVERED p50\tp99")
	var kinds []Kind
	total := 0
	for k, m := range r.Faults {
		kinds = append(kinds, k)
		total += m.Count
	}
	slices.Sort(kinds)
	for _, k := range kinds {
		m := r.Faults[k]
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\t%s\n", k, m.Count, quantile(m.Detected, 0.5), quantile(m.Detected, 0.99), quantile(m.Recovered, 0.5), quantile(m.Recovered, 0.99))
	}
	fmt.Fprintf(t, "all\t%d\t\t\t\t\n", total)
	t.Flush()
	l := r.Ledger
	fmt.Fprintf(w, "%v: %d commits checked; %d entries (%d twice in the input), %d windows, %d late, %d timers; %d refused as stale %v, %d commits repeated\n",
		r.Took.Round(time.Second), l.Commits, l.Entries, l.Repeats, l.Windows, l.Lates, l.Fired, sum(r.Outlet.Refused), r.Outlet.Refused, r.Outlet.Again)
	for _, e := range r.Exits {
		fmt.Fprintln(w, "  "+e)
	}
}

func sum(m map[string]uint64) (n uint64) {
	for _, v := range m {
		n += v
	}
	return n
}

// JSON is the report for machines: durations are nanoseconds.
func (r *Report) JSON() ([]byte, error) { return json.MarshalIndent(r, "", "  ") }
