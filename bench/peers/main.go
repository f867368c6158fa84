package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"
)

// config is what the flags say.
type config struct {
	millrace, project, page, json string
	queries, contestants          []string
	rounds, parallelism           int
	events, check, rate           int64
	seed                          uint64
	seconds, warm                 time.Duration
	cores, heap                   string
	verbose                       bool
}

func main() {
	cfg := config{}
	queries := flag.String("queries", "all", "q0,q5,… (q0 to q23, q5-10ms, q5k), or all")
	takingPart := flag.String("contestants", "all", "who takes part, of "+strings.Join(names(contestants), ","))
	flag.StringVar(&cfg.millrace, "millrace", "bin/millrace", "the millrace binary")
	flag.StringVar(&cfg.project, "project", "bench/peers", "the folder of the Maven project")
	flag.StringVar(&cfg.page, "page", "docs/benchmarks.md", "the page whose Nexmark part is written; empty for none")
	flag.StringVar(&cfg.json, "json", "", "a file for every run's figures; empty for none")
	flag.IntVar(&cfg.rounds, "rounds", 5, "paired runs of a query; 0 only compares results")
	flag.IntVar(&cfg.parallelism, "parallelism", 2, "that of every operator")
	flag.Int64Var(&cfg.events, "events", 0, "events of a run; 0 is what lasts -seconds")
	flag.Int64Var(&cfg.check, "check", 1_000_000, "events over which results are compared")
	flag.Int64Var(&cfg.rate, "rate", 10_000, "events in a second of event time (q5k has 1000000)")
	flag.Uint64Var(&cfg.seed, "seed", 1, "seed of the events")
	flag.DurationVar(&cfg.seconds, "seconds", 30*time.Second, "how long a measured run is to last")
	flag.DurationVar(&cfg.warm, "warm", 20*time.Second, "how long a JVM runs the query before it is measured")
	flag.StringVar(&cfg.cores, "cores", "0,1", "the cores that all are pinned to, as taskset has them")
	flag.StringVar(&cfg.heap, "heap", "8g", "heap of a JVM")
	flag.BoolVar(&cfg.verbose, "v", false, "show what the JVMs print")
	flag.Parse()
	var err [2]error
	cfg.queries, err[0] = choose("queries", *queries, queryNames())
	cfg.contestants, err[1] = choose("contestants", *takingPart, names(contestants))
	if err := cmp.Or(err[0], err[1], cfg.wrong(flag.Args())); err != nil {
		fmt.Fprintf(os.Stderr, "bench/peers: %v; -help has the flags\n", err)
		os.Exit(2)
	}
	for _, tool := range []string{"java", "mvn", "taskset"} {
		if _, err := exec.LookPath(tool); err != nil {
			fmt.Printf("bench-peers: skipped, there is no %s here\n", tool)
			return
		}
	}
	debug.SetGCPercent(400) // this program is no part of what is measured
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := compare(ctx, cfg); err != nil {
		if ctx.Err() != nil {
			err = errors.New("stopped; the page has the queries that were measured to the end")
		}
		fmt.Fprintln(os.Stderr, "bench/peers:", err)
		os.Exit(1)
	}
}

// wrong says what is wrong with the flags that are numbers; rest is what no flag took.
func (c *config) wrong(rest []string) error {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("no flag takes %q", rest)
	case c.rounds < 0:
		return errors.New("-rounds is less than 0")
	case c.check < 1, c.rate < 1, c.parallelism < 1:
		return errors.New("-check, -rate and -parallelism are at least 1")
	}
	return nil
}

// choose returns the names that a flag asks for, in the order of all.
func choose(flag, list string, all []string) ([]string, error) {
	if list == "all" {
		return all, nil
	}
	wanted := map[string]bool{}
	for name := range strings.SplitSeq(list, ",") {
		name = strings.TrimSpace(name)
		if !slices.Contains(all, name) {
			return nil, fmt.Errorf("-%s: there is no %q, only %s, or all", flag, name, strings.Join(all, ", "))
		}
		wanted[name] = true
	}
	var chosen []string
	for _, name := range all {
		if wanted[name] {
			chosen = append(chosen, name)
		}
	}
	return chosen, nil
}

// compare compares results, then speed, and writes the page after every query.
func compare(ctx context.Context, cfg config) error {
	if _, err := os.Stat(cfg.millrace); err != nil {
		return fmt.Errorf("%w (make build makes it)", err)
	}
	progress("maven: building %s", cfg.project)
	if err := buildPeers(ctx, cfg); err != nil {
		return err
	}
	b := newBoard(cfg)
	if err := b.checkResults(ctx); err != nil {
		return err
	}
	if cfg.rounds > 0 {
		if err := b.measureGenerator(ctx); err != nil {
			return fmt.Errorf("generator: %w", err)
		}
	}
	for _, q := range cfg.queries {
		if err := b.race(ctx, q); err != nil {
			return err
		}
		if err := b.write(); err != nil {
			return err
		}
	}
	fmt.Println(b.table())
	return nil
}

// progress says what is going on.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s %s\n", time.Now().Format(time.TimeOnly), fmt.Sprintf(format, args...))
}
