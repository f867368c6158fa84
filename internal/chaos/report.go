//go:build linux

package chaos

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/millrace/millrace/internal/chaos/ledger"
	"github.com/millrace/millrace/internal/chaos/outlet"
	"github.com/millrace/millrace/internal/failpoint"
)

// Report is what runs have seen.
type Report struct {
	Runs   []One                 `json:"runs"`
	Took   time.Duration         `json:"took"`
	Faults map[Kind]*Measurement `json:"faults"`
	Ledger ledger.Counts         `json:"ledger"`
	Outlet outlet.Counts         `json:"outlet"`
	Fired  map[string]int        `json:"failpoints_fired"`
	// Exits are ends of processes that no signal explains.
	Exits []string `json:"exits,omitempty"`
	// Orphans are objects of state that no retained manifest names.
	Orphans int `json:"orphans"`
}

// One is one of the runs.
type One struct {
	Seed uint64 `json:"seed"`
	// Variant says how it differs from a run of all defaults, Revision of which
	// commit its binaries are.
	Variant  string        `json:"variant,omitempty"`
	Revision string        `json:"revision"`
	Took     time.Duration `json:"took"`
	Faults   int           `json:"faults"`
	Kills    int           `json:"kills"`
	Commits  uint64        `json:"commits"`
	// Entries are those of the input that came out, each once, Rows all that was
	// committed and checked.
	Entries uint64 `json:"entries"`
	Rows    uint64 `json:"rows"`
	Error   string `json:"error,omitempty"`
}

// Measurement is of one kind of fault.
type Measurement struct {
	Count int `json:"count"`
	// Kills are processes that were ended with SIGKILL meanwhile.
	Kills int `json:"kills"`
	// Detected is from the fault to the job's exception, Recovered from the
	// fault to the first commit after it; both only where the job had to
	// recover. Of several kills the last one counts.
	Detected  []time.Duration `json:"detected"`
	Recovered []time.Duration `json:"recovered"`
	// Resumed is from the end of the fault, when all processes run and nothing is
	// broken any more, to the next commit.
	Resumed []time.Duration `json:"resumed"`
}

func newReport() *Report {
	return &Report{Faults: map[Kind]*Measurement{}, Fired: map[string]int{}}
}

func (r *Report) of(k Kind) *Measurement {
	if r.Faults[k] == nil {
		r.Faults[k] = &Measurement{}
	}
	return r.Faults[k]
}

// finish writes down the one run that the report is of.
func (r *Report) finish(run *run, failed error) {
	r.Took = time.Since(run.began)
	if run.store != nil {
		r.Outlet = run.store.Counts()
	}
	l := r.Ledger
	one := One{Seed: run.cfg.Seed, Variant: run.cfg.variant(), Revision: run.cfg.Binaries.Revision, Took: r.Took, Kills: run.kills,
		Commits: l.Commits, Entries: l.Entries, Rows: l.Entries + l.Repeats + l.Windows + l.Lates + l.Fired}
	one.Faults, _ = r.made()
	if failed != nil {
		one.Error = failed.Error()
	}
	r.Runs = append(r.Runs, one)
}

// made is how many faults and kills there were.
func (r *Report) made() (faults, kills int) {
	for _, m := range r.Faults {
		faults += m.Count
		kills += m.Kills
	}
	return faults, kills
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

// Sum is the report of several together.
func Sum(all ...*Report) *Report {
	r := newReport()
	for _, o := range all {
		r.add(o)
	}
	return r
}

// add adds another report's figures.
func (r *Report) add(o *Report) {
	r.Runs = append(r.Runs, o.Runs...)
	for k, m := range o.Faults {
		to := r.of(k)
		to.Count += m.Count
		to.Kills += m.Kills
		to.Detected = append(to.Detected, m.Detected...)
		to.Recovered = append(to.Recovered, m.Recovered...)
		to.Resumed = append(to.Resumed, m.Resumed...)
	}
	for name, n := range o.Fired {
		r.Fired[name] += n
	}
	r.Took += o.Took
	r.Orphans += o.Orphans
	r.Exits = append(r.Exits, o.Exits...)
	l, m := &r.Ledger, o.Ledger
	l.Commits, l.Input, l.Entries, l.Repeats = l.Commits+m.Commits, l.Input+m.Input, l.Entries+m.Entries, l.Repeats+m.Repeats
	l.InFlight += m.InFlight
	l.Windows, l.Lates, l.Fired = l.Windows+m.Windows, l.Lates+m.Lates, l.Fired+m.Fired
	c, d := &r.Outlet, o.Outlet
	c.Fences, c.Stages, c.Commits, c.Again = c.Fences+d.Fences, c.Stages+d.Stages, c.Commits+d.Commits, c.Again+d.Again
	if c.Refused == nil {
		c.Refused = map[string]uint64{}
	}
	for op, n := range d.Refused {
		c.Refused[op] += n
	}
}

// Print writes the report as tables.
func (r *Report) Print(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "FAULT\tCOUNT\tKILLS\tDETECTED\tp50\tp99\tRECOVERED\tp50\tp99\tRESUMED\tp50\tp99")
	for _, k := range slices.Sorted(maps.Keys(r.Faults)) {
		m := r.Faults[k]
		fmt.Fprintf(t, "%s\t%d\t%d", k, m.Count, m.Kills)
		for _, all := range [][]time.Duration{m.Detected, m.Recovered, m.Resumed} {
			fmt.Fprintf(t, "\t%d\t%s\t%s", len(all), quantile(all, 0.5), quantile(all, 0.99))
		}
		fmt.Fprintln(t)
	}
	faults, kills := r.made()
	fmt.Fprintf(t, "all\t%d\t%d\n\n", faults, kills)
	fmt.Fprintln(t, "SEED\tVARIANT\tREVISION\tFAULTS\tKILLS\tCOMMITS\tROWS\tTOOK\tVERDICT")
	failed := 0
	rows := uint64(0)
	for _, one := range r.Runs {
		verdict := "ok"
		if one.Error != "" {
			failed++
			verdict = "FAILED"
		}
		rows += one.Rows
		fmt.Fprintf(t, "%d\t%s\t%s\t%d\t%d\t%d\t%d\t%v\t%s\n", one.Seed, one.Variant, one.Revision, one.Faults, one.Kills, one.Commits, one.Rows, one.Took.Round(time.Second), verdict)
	}
	t.Flush()
	l := r.Ledger
	fmt.Fprintf(w, "\n%v: %d commits checked, %d with records in flight; %d entries (%d twice in the input), %d windows, %d late, %d timers; %d refused as stale %v, %d commits repeated\n",
		r.Took.Round(time.Second), l.Commits, l.InFlight, l.Entries, l.Repeats, l.Windows, l.Lates, l.Fired, sum(r.Outlet.Refused), r.Outlet.Refused, r.Outlet.Again)
	all := failpoint.All()
	never := slices.DeleteFunc(slices.Clone(all), func(name string) bool { return r.Fired[name] > 0 })
	fmt.Fprintf(w, "processes were killed or stopped at %d of %d points\n", len(all)-len(never), len(all))
	if n := len(never); n > 0 && n < len(all)/2 {
		fmt.Fprintf(w, "  never at %s\n", strings.Join(never, ", "))
	}
	for _, e := range r.Exits {
		fmt.Fprintln(w, "  "+e)
	}
	if failed > 0 {
		fmt.Fprintf(w, "%d of %d runs FAILED\n", failed, len(r.Runs))
		return
	}
	fmt.Fprintf(w, "%d kills among %d faults in %d runs: %d rows checked, 0 lost, 0 duplicated\n", kills, faults, len(r.Runs), rows)
}

func sum(m map[string]uint64) (n uint64) {
	for _, v := range m {
		n += v
	}
	return n
}

// JSON is the report for machines: durations are nanoseconds.
func (r *Report) JSON() ([]byte, error) { return json.MarshalIndent(r, "", " ") }

// ParseReport reads what JSON wrote.
func ParseReport(b []byte) (*Report, error) {
	r := newReport()
	return r, json.Unmarshal(b, r)
}
