package main

import (
	"fmt"
	"slices"
	"strings"
)

// contestant is an engine in one form, with one kind of state.
type contestant struct {
	name string
	// title heads its column.
	title string
	// engine is that of the Java program, or empty for Millrace.
	engine string
	// form and state are those of Flink; state also that of Millrace.
	form, state string
	// guarantee is whether it takes checkpoints, exactly-once, each second.
	guarantee bool
	// has says which queries it has.
	has func(query string) bool
}

var contestants = []contestant{
	{name: "millrace", title: "Millrace", state: "memory", guarantee: true, has: every},
	{name: "flink-sql", title: "Flink SQL", engine: "flink", form: "sql", state: "hashmap", guarantee: true, has: inSQL},
	{name: "flink-datastream", title: "Flink DataStream", engine: "flink", form: "stream", state: "hashmap", guarantee: true, has: official},
	{name: "flink-tuned", title: "Flink tuned", engine: "flink", form: "tuned", state: "hashmap", guarantee: true, has: tuned},
	{name: "jet-exactly-once", title: "Jet exactly-once", engine: "jet", guarantee: true, has: inJet},
	{name: "jet", title: "Jet no guarantee", engine: "jet", has: inJet},
	{name: "millrace-tiered", title: "Millrace tiered", state: "tiered", guarantee: true, has: stateful},
	{name: "flink-sql-rocksdb", title: "Flink SQL RocksDB", engine: "flink", form: "sql", state: "rocksdb", guarantee: true,
		has: func(q string) bool { return inSQL(q) && stateful(q) }},
	{name: "flink-datastream-rocksdb", title: "Flink DataStream RocksDB", engine: "flink", form: "stream", state: "rocksdb", guarantee: true,
		has: func(q string) bool { return official(q) && stateful(q) }},
}

func names(all []contestant) (names []string) {
	for _, c := range all {
		names = append(names, c.name)
	}
	return names
}

// manySlides is q5 with windows that begin every 10 ms, keyed the count of many
// keys in such windows.
const manySlides, keyed = "q5-10ms", "q5k"

func queryNames() (all []string) {
	for i := range 24 {
		all = append(all, fmt.Sprintf("q%d", i))
	}
	return append(all, manySlides, keyed)
}

func every(string) bool          { return true }
func official(query string) bool { return query != manySlides && query != keyed }

// inSQL: the official text of q6 does not run.
func inSQL(query string) bool { return query != "q6" && query != keyed }

func tuned(query string) bool {
	return slices.Contains([]string{"q0", "q1", "q2", "q5", "q7", "q8", "q11"}, query)
}

func inJet(query string) bool {
	return slices.Contains([]string{"q0", "q1", "q2", "q5", "q7", "q8", "q11", manySlides, keyed}, query)
}

// stateful are the queries for which it matters where state is.
func stateful(query string) bool {
	return !slices.Contains([]string{"q0", "q1", "q2", "q10", "q13", "q14", "q21", "q22"}, query)
}

// rate is how many events a query has in a second of event time.
func rate(cfg config, query string) int64 {
	if query == keyed {
		return 1_000_000
	}
	return cfg.rate
}

// run is what a contestant is to do.
type run struct {
	query  string
	events int64
	// sums asks for what the rows come to.
	sums bool
	// limit, in milliseconds, ends a run of a JVM early; 0 does not.
	limit int64
}

// request is a run as the Java program reads it.
func (c *contestant) request(cfg config, r run) string {
	name, slide, _ := strings.Cut(r.query, "-")
	fields := []string{
		"query=" + name, fmt.Sprintf("seed=%d", cfg.seed), fmt.Sprintf("rate=%d", rate(cfg, r.query)),
		fmt.Sprintf("events=%d", r.events), fmt.Sprintf("parallelism=%d", cfg.parallelism),
		fmt.Sprintf("tally=%t", r.sums), fmt.Sprintf("limit=%d", r.limit),
	}
	if slide != "" {
		fields = append(fields, "slide="+strings.TrimSuffix(slide, "ms"))
	}
	if c.form != "" {
		fields = append(fields, "form="+c.form, "state="+c.state)
	}
	if !c.guarantee {
		fields = append(fields, "checkpoint=0")
	}
	if r.sums && c.engine == "flink" {
		switch {
		case name == "q12":
			// Flink drops windows of processing time that are open at the end.
			fields = append(fields, "linger=11000")
		case c.form == "sql" && (name == "q18" || name == "q19"):
			// The official text leaves ties open; one reader settles them.
			fields = append(fields, "readers=1")
		}
	}
	return strings.Join(fields, " ")
}
