package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	bench "github.com/millrace/millrace/bench/nexmark"
	"github.com/millrace/millrace/examples/nexmark"
	"github.com/millrace/millrace/examples/nexmark/generator"
)

type benchCmd struct {
	Nexmark benchNexmarkCmd `cmd:"" help:"Measure the Nexmark queries on a cluster of their own."`
}

type benchNexmarkCmd struct {
	Query              []string      `short:"q" sep:"," default:"all" placeholder:"Q" help:"Queries: q5, or q0,q3, or all, which are q0 to q23 (${default})."`
	Events             amount        `short:"n" default:"100M" placeholder:"N" help:"Number of events (${default})."`
	Seed               uint64        `default:"1" placeholder:"S" help:"Seed of the events (${default})."`
	Rate               amount        `default:"10k" placeholder:"EV/S" help:"Events in a second of event time (${default})."`
	OutOfOrder         amount        `default:"0" placeholder:"N" help:"Shuffle each run of so many events; results stay the same (${default}, in order)."`
	Throttle           throttle      `default:"0" placeholder:"EV/S" help:"Events in a second of the clock, to measure latency; 50% is half of what a run before reached, 0 as fast as it goes (${default})."`
	WarmUp             time.Duration `default:"5s" placeholder:"TIME" help:"Results of the first seconds that do not count for latency (${default})."`
	Slide              time.Duration `default:"0s" placeholder:"TIME" help:"How often a window of q5 begins; 0 is every 2 s, as in the official query."`
	Parallelism        int           `short:"p" default:"2" placeholder:"P" help:"Parallelism of every operator (${default})."`
	Workers            int           `default:"1" placeholder:"N" help:"Task managers, each with a worker process (${default})."`
	CheckpointInterval time.Duration `default:"1s" placeholder:"TIME" help:"Time between checkpoints; 0 takes only the last (${default})."`
	State              string        `enum:"memory,tiered" default:"memory" help:"Where keyed state is: memory or tiered (${default})."`
	SlotMemory         size          `default:"4GiB" placeholder:"BYTES" help:"Memory of a slot; of tiered state half of it holds pages (${default})."`
	Hash               bool          `help:"Print the hash of each query's results. It costs time: leave it out to measure speed."`
	Profile            string        `type:"path" placeholder:"FOLDER" help:"Folder for CPU and memory profiles of the workers, one below it for each query."`
	Job                []string      `short:"J" sep:"none" placeholder:"ARG" help:"Further argument of the job, as in --job=--keys=1000000; may be given again."`
	Output             string        `short:"o" enum:"table,json" default:"table" help:"table, or json: a list with one object a query."`
}

// throttle is a number of events a second, or a share of the most.
type throttle struct {
	perSecond int64
	share     float64
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *throttle) UnmarshalText(text []byte) error {
	if percent, ok := strings.CutSuffix(string(text), "%"); ok {
		n, err := strconv.ParseFloat(percent, 64)
		if err != nil || n <= 0 || n >= 100 {
			return fmt.Errorf("%q is no share between 0%% and 100%%", text)
		}
		t.share = n / 100
		return nil
	}
	var n amount
	err := n.UnmarshalText(text)
	t.perSecond = int64(n)
	return err
}

func (*benchNexmarkCmd) Help() string {
	return `Starts a job manager and task managers on loopback, with folders of their own that are
removed in the end, has them run this executable as the job, and prints what it took. CPU time is
that of every process of the cluster. A run under 20 s is no result for speed and is marked (*).

Examples:
  millrace bench nexmark --query q5
  millrace bench nexmark --query q0,q3 --events 50M
  millrace bench nexmark --query all --events 1M --hash
  millrace bench nexmark --query q5 --slide 10ms --state tiered --workers 2
  millrace bench nexmark --query q5k --rate 1M --throttle 1M --events 60M
  taskset -c 0 millrace bench nexmark --query q5 --parallelism 1
  millrace bench nexmark --query q9 --profile ./profiles && go tool pprof -top ./profiles/q9/*.cpu.pprof`
}

func (b *benchNexmarkCmd) Run(ctx context.Context, c *console) error {
	runs, err := b.runs()
	if err != nil {
		return err
	}
	p := c.progress()
	defer p.done()
	results := []*bench.Result{}
	for i := range runs {
		if p.tty {
			runs[i].Progress = func(text string) { p.say("%s", text) }
		}
		r, err := runs[i].Run(ctx)
		p.done()
		if err != nil {
			if ctx.Err() != nil {
				err = errors.New("stopped before it had ended; nothing of it is left")
			}
			return errors.Join(b.print(c, results), err)
		}
		results = append(results, r)
	}
	return b.print(c, results)
}

// runs are the runs that the flags ask for, checked.
func (b *benchNexmarkCmd) runs() ([]bench.Config, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	all := append(nexmark.Queries(), nexmark.Probes()...)
	var queries []string
	for _, q := range b.Query {
		if q = strings.TrimSpace(q); q != "all" {
			queries = append(queries, q)
			continue
		}
		for _, official := range nexmark.Queries() {
			if official != "q5k" {
				queries = append(queries, official)
			}
		}
	}
	if len(queries) == 0 {
		return nil, usageError{errors.New("--query names none")}
	}
	var runs []bench.Config
	for _, q := range queries {
		cfg := bench.Config{
			Executable: self, Query: q, Events: int64(b.Events), Seed: b.Seed, Rate: int64(b.Rate), OutOfOrder: int64(b.OutOfOrder), Throttle: b.Throttle.perSecond, Share: b.Throttle.share, WarmUp: b.WarmUp,
			Slide: b.Slide, Parallelism: b.Parallelism, Workers: b.Workers, CheckpointInterval: b.CheckpointInterval,
			State: b.State, SlotMemory: uint64(b.SlotMemory), Hash: b.Hash, Args: b.Job,
		}
		if b.Profile != "" {
			cfg.Profile = filepath.Join(b.Profile, q)
		}
		if err := cfg.Validate(all, generator.Splits); err != nil {
			return nil, usageError{err}
		}
		if err := (generator.Config{Events: cfg.Events, Rate: int(cfg.Rate), Group: cfg.OutOfOrder}).Check(); err != nil {
			return nil, usageError{err}
		}
		runs = append(runs, cfg)
	}
	if b.Profile != "" {
		// A worker that cannot write its profile says so in its log, and works on.
		if err := writable(b.Profile); err != nil {
			return nil, usageError{fmt.Errorf("--profile: %w", err)}
		}
	}
	return runs, nil
}

// writable makes a folder where there is none, and an error where no file can
// be made in it.
func writable(folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(folder, ".millrace-")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// print prints what has been measured, in the form that was asked for.
func (b *benchNexmarkCmd) print(c *console, results []*bench.Result) error {
	if b.Output == "json" {
		return c.json(results)
	}
	if len(results) == 0 {
		return nil
	}
	var rows [][]string
	short := false
	for _, r := range results {
		rows = append(rows, append([]string{r.Query}, speedOf(r)...))
		short = short || !r.SpeedValid
	}
	c.table("QUERY EVENTS SECONDS EVENTS/S CORES EVENTS/(CORE*S) MEMORY GC CHECKPOINTS P50 MAX BYTES", rows)
	if short {
		fmt.Fprintf(c.out, "* no result for speed: under %v, or the job restarted\n", bench.ValidAfter)
	}
	if b.Throttle != (throttle{}) {
		rows = nil
		for _, r := range results {
			rows = append(rows, append([]string{r.Query}, latencyOf(r.Latency)...))
		}
		fmt.Fprintln(c.out)
		c.table("QUERY LATENCIES P50 P90 P99 P99.9 P99.99 MAX", rows)
	}
	if b.Hash {
		fmt.Fprintln(c.out)
		for _, r := range results {
			fmt.Fprintln(c.out, r.Hash)
		}
	}
	return nil
}

// latencyOf are the columns of a run's latency, of which there may be no sample.
func latencyOf(l *bench.Latency) []string {
	if l.Count == 0 {
		return []string{"0", "-", "-", "-", "-", "-", "-"}
	}
	return []string{fmt.Sprint(l.Count), millis(l.P50), millis(l.P90), millis(l.P99), millis(l.P999), millis(l.P9999), millis(l.Max)}
}

// speedOf are the columns of a run.
func speedOf(r *bench.Result) []string {
	mark := ""
	if !r.SpeedValid {
		mark = "*"
	}
	gc := "-"
	if s := r.Collector.CPUShare; s != nil {
		gc = fmt.Sprintf("%.1f%%", 100**s)
	}
	k := r.Checkpoints
	completed := fmt.Sprint(k.Completed)
	if k.Failed > 0 {
		completed += fmt.Sprintf(" (%d failed)", k.Failed)
	}
	return []string{
		counted(float64(r.Events)), fmt.Sprintf("%.1f%s", r.Seconds, mark), counted(r.EventsPerSecond) + mark,
		fmt.Sprintf("%.2f", r.Cores), counted(r.EventsPerCoreSecond) + mark, bytesOf(int64(r.PeakMemory)), gc,
		completed, millis(k.P50), millis(k.Max), bytesOf(int64(k.BytesP50)),
	}
}

// counted prints a large number for people.
func counted(n float64) string {
	switch {
	case n >= 1e7:
		return fmt.Sprintf("%.1f M", n/1e6)
	case n >= 1e6:
		return fmt.Sprintf("%.2f M", n/1e6)
	case n >= 1e4:
		return fmt.Sprintf("%.1f k", n/1e3)
	}
	return fmt.Sprintf("%.0f", n)
}

// millis prints milliseconds.
func millis(ms float64) string {
	if ms >= 100 {
		return fmt.Sprintf("%.0f ms", ms)
	}
	return fmt.Sprintf("%.2f ms", ms)
}
