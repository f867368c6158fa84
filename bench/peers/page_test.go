package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func boardOf(lanes ...*lane) *board {
	return &board{
		cfg:   config{queries: []string{"q0", "q4"}, contestants: []string{"millrace", "flink-sql"}, rounds: 3},
		lanes: lanes, versions: map[string]string{},
	}
}

func runs(seconds float64, cpus ...float64) (all []figures) {
	for _, cpu := range cpus {
		all = append(all, figures{Events: 1_000_000, Seconds: seconds, CPU: cpu})
	}
	return all
}

func rows(table string) (rows []string) {
	for line := range strings.Lines(table) {
		if strings.HasPrefix(line, "| q") {
			rows = append(rows, strings.TrimSpace(line))
		}
	}
	return rows
}

func TestTableHasMediansAndMarksShortRuns(t *testing.T) {
	b := boardOf(
		&lane{Query: "q0", Contestant: "millrace", Sums: "1 a b", Runs: runs(25, 0.5, 0.1, 0.25)},
		&lane{Query: "q0", Contestant: "flink-sql", Sums: "1 a b", Runs: runs(19, 1, 2, 4)},
		&lane{Query: "q4", Contestant: "millrace", Sums: "5 a b", Runs: runs(25, 1)},
		&lane{Query: "q4", Contestant: "flink-sql", Failed: "out of memory"},
		&lane{Query: "q5", Contestant: "millrace", Sums: "2 a b", Runs: runs(25, 0.25)},
		&lane{Query: "q5", Contestant: "flink-sql", Sums: "2 a b", Runs: runs(25, 2)},
	)
	b.cfg.queries = append(b.cfg.queries, "q5")
	want := []string{"| q0 | 4000 | 500* |", "| q4 | 1000 | failed |", "| q5 | 4000 | 500 |"}
	if diff := cmp.Diff(want, rows(b.table())); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	b.generator = figures{Events: 1000, Seconds: 1e-4, CPU: 1e-4}
	for _, text := range []string{"takes 100 ns an event", "geometric mean 8.0× over 1 queries, least 8.0× (q5)", "q4 of Flink SQL failed: out of memory"} {
		if !strings.Contains(b.table(), text) {
			t.Errorf("the table lacks %q:\n%s", text, b.table())
		}
	}
}

func TestNoSpeedWhereResultsDiffer(t *testing.T) {
	b := boardOf(
		&lane{Query: "q4", Contestant: "millrace", Sums: "5 a b", Runs: runs(25, 1)},
		&lane{Query: "q4", Contestant: "flink-sql", Sums: "5 a c", Runs: runs(25, 1)},
	)
	table := b.table()
	if got := rows(table); got[1] != "| q4 | differs | differs |" {
		t.Errorf("row is %q", got[1])
	}
	for _, sums := range []string{"millrace: 5 a b", "flink-sql: 5 a c"} {
		if !strings.Contains(table, sums) {
			t.Errorf("the table lacks %q:\n%s", sums, table)
		}
	}
}

func TestReplacePartLeavesTheRest(t *testing.T) {
	page := "before\n" + partBegins + "old\n" + partEnds + "after\n"
	got, err := replacePart(page, "new\n")
	if err != nil {
		t.Fatal(err)
	}
	if want := "before\n" + partBegins + "new\n" + partEnds + "after\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, err := replacePart("nothing", "new"); err == nil {
		t.Error("a page without the part is written over")
	}
}

func TestChooseKeepsTheOrderAndKnowsNames(t *testing.T) {
	got, err := choose("queries", "q5, q0", queryNames())
	if diff := cmp.Diff([]string{"q0", "q5"}, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if got, err := choose("queries", "q0,q99", queryNames()); got != nil || err == nil || !strings.Contains(err.Error(), `-queries: there is no "q99"`) {
		t.Errorf("q99 was chosen: %q, %v", got, err)
	}
}

func TestRequestsSettleWhatTheTextLeavesOpen(t *testing.T) {
	cfg := config{seed: 1, rate: 10_000, parallelism: 2}
	named := func(name string) *contestant {
		return &contestants[slices.IndexFunc(contestants, func(c contestant) bool { return c.name == name })]
	}
	sql, jet := named("flink-sql"), named("jet")
	for _, test := range []struct {
		c    *contestant
		r    run
		want []string
		not  string
	}{
		{sql, run{query: "q18", sums: true}, []string{"readers=1", "tally=true"}, "linger"},
		{sql, run{query: "q18"}, []string{"query=q18", "state=hashmap"}, "readers=1"},
		{sql, run{query: "q12", sums: true}, []string{"linger=11000"}, "readers"},
		{sql, run{query: manySlides}, []string{"query=q5 ", "slide=10"}, "checkpoint=0"},
		{jet, run{query: keyed}, []string{"query=q5k", "rate=1000000", "checkpoint=0"}, "form="},
	} {
		got := test.c.request(cfg, test.r)
		for _, want := range test.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s of %s lacks %s: %s", test.r.query, test.c.name, want, got)
			}
		}
		if strings.Contains(got, test.not) {
			t.Errorf("%s of %s has %s: %s", test.r.query, test.c.name, test.not, got)
		}
	}
}
