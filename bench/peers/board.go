package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/bench/nexmark"
)

// lane is a query of a contestant.
type lane struct {
	Query      string    `json:"query"`
	Contestant string    `json:"contestant"`
	Sums       string    `json:"sums,omitempty"`
	Failed     string    `json:"failed,omitempty"`
	Runs       []figures `json:"runs,omitempty"`
	// events is the size of its runs, once it is known.
	events int64
}

// speed is the median of events per second of CPU time.
func (l *lane) speed() float64 {
	var all []float64
	for _, f := range l.Runs {
		all = append(all, f.perCore())
	}
	slices.Sort(all)
	n := len(all)
	if n == 0 {
		return 0
	}
	return (all[(n-1)/2] + all[n/2]) / 2
}

// short is whether one of its runs was too short to say something about speed.
func (l *lane) short() bool {
	return slices.ContainsFunc(l.Runs, func(f figures) bool { return f.Seconds < nexmark.ValidAfter.Seconds() })
}

// board is what is known so far.
type board struct {
	cfg      config
	lanes    []*lane
	versions map[string]string
	began    time.Time
	// generator is that of the JVM alone, on one thread.
	generator figures
}

func newBoard(cfg config) *board {
	b := &board{cfg: cfg, versions: map[string]string{}, began: time.Now()}
	for _, q := range cfg.queries {
		for _, c := range b.contestants() {
			if c.has(q) {
				b.lanes = append(b.lanes, &lane{Query: q, Contestant: c.name, events: cfg.events})
			}
		}
	}
	return b
}

// contestants are those chosen, in the order of columns.
func (b *board) contestants() (chosen []*contestant) {
	for i := range contestants {
		if slices.Contains(b.cfg.contestants, contestants[i].name) {
			chosen = append(chosen, &contestants[i])
		}
	}
	return chosen
}

func (b *board) lane(query, contestant string) *lane {
	i := slices.IndexFunc(b.lanes, func(l *lane) bool { return l.Query == query && l.Contestant == contestant })
	if i < 0 {
		return nil
	}
	return b.lanes[i]
}

// checkResults has everybody run every query and keeps what rows come to.
func (b *board) checkResults(ctx context.Context) error {
	for _, c := range b.contestants() {
		if err := b.checkOne(ctx, c); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	for _, q := range b.cfg.queries {
		if text := b.difference(q); text != "" {
			progress("%s: results differ: %s", q, text)
		}
	}
	return nil
}

func (b *board) checkOne(ctx context.Context, c *contestant) error {
	var j *jvm
	defer func() {
		if j != nil {
			j.stop()
		}
	}()
	for _, l := range b.lanes {
		if l.Contestant != c.name {
			continue
		}
		r := run{query: l.Query, events: b.cfg.check, sums: true}
		var f figures
		var err error
		if c.engine == "" {
			f, err = runMillrace(ctx, b.cfg, c, r)
		} else {
			if j == nil {
				if j, err = startJVM(ctx, b.cfg, c.engine); err != nil {
					return err
				}
			}
			f, err = j.run(c.request(b.cfg, r))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", l.Query, err)
		}
		b.note(c, f)
		l.Sums, l.Failed = f.Sums, f.Error
		if f.Error != "" {
			progress("results of %s, %s: failed: %s", l.Query, c.name, f.Error)
		} else {
			progress("results of %s, %s: %s", l.Query, c.name, f.Sums)
		}
	}
	return nil
}

// note keeps an engine's version.
func (b *board) note(c *contestant, f figures) {
	if f.Version != "" {
		b.versions[c.engine] = f.Version
	}
}

// difference tells whose results of a query are which, where they are not all
// the same; else it is empty.
func (b *board) difference(query string) string {
	whose := map[string][]string{}
	for _, l := range b.lanes {
		if l.Query == query && l.Failed == "" {
			whose[l.Sums] = append(whose[l.Sums], l.Contestant)
		}
	}
	if len(whose) < 2 {
		return ""
	}
	var texts []string
	for _, sums := range slices.Sorted(maps.Keys(whose)) {
		texts = append(texts, fmt.Sprintf("%s: %s", strings.Join(whose[sums], ", "), sums))
	}
	return strings.Join(texts, "; ")
}

// measureGenerator measures the JVM's generator, which is part of every figure.
func (b *board) measureGenerator(ctx context.Context) error {
	if !slices.ContainsFunc(b.contestants(), func(c *contestant) bool { return c.engine != "" }) {
		return nil
	}
	progress("generator of the JVM, alone")
	j, err := startJVM(ctx, b.cfg, "generator")
	if err != nil {
		return err
	}
	defer j.stop()
	for range 2 { // the second time is warm
		request := fmt.Sprintf("query=none events=%d rate=%d seed=%d limit=5000", int64(1)<<40, b.cfg.rate, b.cfg.seed)
		if b.generator, err = j.run(request); err != nil {
			return err
		}
	}
	return nil
}

// race measures a query: rounds of all contestants, one after the other.
func (b *board) race(ctx context.Context, query string) error {
	if b.difference(query) != "" {
		return nil
	}
	for round := range b.cfg.rounds {
		for _, c := range b.contestants() {
			l := b.lane(query, c.name)
			if l == nil || l.Failed != "" {
				continue
			}
			f, err := b.measure(ctx, c, l)
			if err != nil {
				return fmt.Errorf("%s of %s: %w", query, c.name, err)
			}
			if f.Error != "" {
				l.Failed, l.Runs = f.Error, nil
				progress("%s, %s: failed: %s", query, c.name, f.Error)
				continue
			}
			l.Runs = append(l.Runs, f)
			progress("%s, round %d of %d, %s: %d events in %.1f s, %.0f per core-second", query, round+1, b.cfg.rounds, c.name, f.Events, f.Seconds, f.perCore())
		}
	}
	return nil
}

// measure is one run, after a JVM has run the query for a while.
func (b *board) measure(ctx context.Context, c *contestant, l *lane) (figures, error) {
	if c.engine == "" {
		return b.sized(l, pilot, func(events int64) (figures, error) {
			return runMillrace(ctx, b.cfg, c, run{query: l.Query, events: events})
		})
	}
	j, err := startJVM(ctx, b.cfg, c.engine)
	if err != nil {
		return figures{}, err
	}
	defer j.stop()
	first := int64(pilot)
	if b.cfg.warm > 0 {
		f, err := j.run(c.request(b.cfg, run{query: l.Query, events: 1 << 40, limit: b.cfg.warm.Milliseconds()}))
		if err != nil || f.Error != "" {
			return f, err
		}
		first = b.size(f)
	}
	return b.sized(l, first, func(events int64) (figures, error) {
		return j.run(c.request(b.cfg, run{query: l.Query, events: events}))
	})
}

// pilot is how many events the first run has of which nothing is known.
const pilot = 2_000_000

// sized runs a lane with as many events as its runs have. Its first run finds
// how many: it is repeated until it lasts about as long as it is to.
func (b *board) sized(l *lane, first int64, do func(events int64) (figures, error)) (figures, error) {
	if l.events > 0 {
		return do(l.events)
	}
	for {
		f, err := do(first)
		if err != nil || f.Error != "" {
			return f, err
		}
		if next := b.size(f); f.Seconds < 0.75*b.cfg.seconds.Seconds() && next > first {
			first = next
			continue
		}
		l.events = first
		return f, nil
	}
}

// size is how many events last as long as a run is to, in whole hundred
// thousands.
func (b *board) size(f figures) int64 {
	n := int64(float64(f.Events) / f.Seconds * b.cfg.seconds.Seconds())
	return max(n/100_000, 1) * 100_000
}

// write writes the page and the file of figures.
func (b *board) write() error {
	if b.cfg.json != "" {
		text, err := json.MarshalIndent(b.lanes, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(b.cfg.json, append(text, '\n'), 0o644); err != nil {
			return err
		}
	}
	if b.cfg.page == "" || b.cfg.rounds == 0 {
		return nil
	}
	page, err := os.ReadFile(b.cfg.page)
	if err != nil {
		return err
	}
	text, err := replacePart(string(page), b.table())
	if err != nil {
		return fmt.Errorf("%s: %w", b.cfg.page, err)
	}
	return os.WriteFile(b.cfg.page, []byte(text), 0o644)
}
