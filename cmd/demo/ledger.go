package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// group is what the job counts by.
type group struct{ origin, day string }

func (g group) String() string { return g.origin + " " + g.day }

// row is a record of the result stream.
type row struct {
	Origin  string      `json:"origin"`
	Day     string      `json:"day"`
	Flights int         `json:"flights"`
	Mean    json.Number `json:"mean"`
	P95     int         `json:"p95"`
	Worst   int         `json:"worst"`
}

// ledger compares what was sent with what came out. It counts the lines of the
// file itself and takes nothing from the job but its two output streams.
type ledger struct {
	total int            // lines of the input
	lines map[string]int // how often each line of the input may still be late
	open  map[group]int  // flights of the input not yet counted or late
	seen  map[group]bool // has a result
	rows  []row          // in the order of arrival

	counted  int // flights in results
	late     int // late lines
	problems []string
}

// readLedger opens a ledger on the input: CSV with a header, of which the
// first two columns are the scheduled departure and the origin.
func readLedger(r io.Reader) (*ledger, error) {
	l := &ledger{lines: map[string]int{}, open: map[group]int{}, seen: map[group]bool{}}
	scan := bufio.NewScanner(r)
	if !scan.Scan() || !strings.HasPrefix(scan.Text(), "scheduled,origin,") {
		return nil, errors.Join(fmt.Errorf("the header is %q, want scheduled,origin,...", scan.Text()), scan.Err())
	}
	for scan.Scan() {
		g, err := groupOf(scan.Text())
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", l.total+2, err)
		}
		l.total++
		l.lines[scan.Text()]++
		l.open[g]++
	}
	return l, scan.Err()
}

// groupOf finds the origin and day (UTC) of an input line.
func groupOf(line string) (group, error) {
	scheduled, rest, _ := strings.Cut(line, ",")
	origin, _, ok := strings.Cut(rest, ",")
	day, _, isTime := strings.Cut(scheduled, "T")
	if !ok || !isTime || !strings.HasSuffix(scheduled, "Z") {
		return group{}, fmt.Errorf("%q does not begin with a time in UTC and an origin", line)
	}
	return group{origin, day}, nil
}

func (l *ledger) problem(format string, args ...any) {
	l.problems = append(l.problems, fmt.Sprintf(format, args...))
}

// result enters a record of the result stream.
func (l *ledger) result(data []byte) {
	var r row
	if err := json.Unmarshal(data, &r); err != nil {
		l.problem("a result does not parse: %v: %s", err, data)
		return
	}
	g := group{r.Origin, r.Day}
	if l.seen[g] {
		l.problem("%s has more than one result", g)
	}
	l.seen[g] = true
	l.open[g] -= r.Flights
	l.counted += r.Flights
	l.rows = append(l.rows, r)
}

// lateLine enters a record of the late stream.
func (l *ledger) lateLine(data []byte) {
	line := string(data)
	l.late++
	if l.lines[line] == 0 {
		l.problem("late line %q is not in the input, or came twice", line)
		return
	}
	l.lines[line]--
	g, err := groupOf(line)
	if err != nil {
		l.problem("late line: %v", err)
		return
	}
	l.open[g]--
}

// check returns all that is wrong once both streams were read to their end;
// nothing says that each flight was counted, or was late, exactly once.
func (l *ledger) check() []string {
	found := slices.Clone(l.problems)
	var open []group
	for g, n := range l.open {
		if n != 0 {
			open = append(open, g)
		}
	}
	slices.SortFunc(open, func(a, b group) int { return cmp.Or(cmp.Compare(a.day, b.day), cmp.Compare(a.origin, b.origin)) })
	for _, g := range open {
		if n := l.open[g]; n > 0 {
			found = append(found, fmt.Sprintf("%s lacks %d flights", g, n))
		} else {
			found = append(found, fmt.Sprintf("%s has %d flights too many", g, -n))
		}
	}
	if n := l.counted + l.late; n != l.total {
		found = append(found, fmt.Sprintf("%d flights counted and %d late are %d, want %d", l.counted, l.late, n, l.total))
	}
	return found
}

// newest returns up to n results, those of the newest days first, and of a day
// the busiest first.
func (l *ledger) newest(n int) []row {
	// Days close in order, so the newest are among the last to arrive.
	last := slices.Clone(l.rows[max(0, len(l.rows)-500):])
	slices.SortFunc(last, func(a, b row) int {
		return cmp.Or(cmp.Compare(b.Day, a.Day), cmp.Compare(b.Flights, a.Flights), cmp.Compare(a.Origin, b.Origin))
	})
	return last[:min(n, len(last))]
}
