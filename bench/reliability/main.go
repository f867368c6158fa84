package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/millrace/millrace/bench/rig"
)

// config is what the flags say.
type config struct {
	millrace, job string
	scenarios     []string
	kills         int
	rounds        int
	megabytes     []int
	backend       string
	verbose       bool
}

// scenario measures with a cluster and the uploaded job.
type scenario struct {
	name string
	run  func(ctx context.Context, cfg config, b *bed, r *rig.Report) error
}

var scenarios = []scenario{
	{"checkpoints", checkpoints}, {"backpressure", backpressure}, {"recovery", recovery}, {"rescale", rescale},
}

func main() {
	cfg := config{}
	flag.StringVar(&cfg.millrace, "millrace", "bin/millrace", "the millrace binary")
	flag.StringVar(&cfg.job, "job", "bin/accounts", "the binary of the job accounts")
	flag.IntVar(&cfg.kills, "kills", 10, "workers to kill at each size of state")
	flag.IntVar(&cfg.rounds, "rounds", 5, "pairs of runs with and without checkpoints; rescales up and down")
	flag.StringVar(&cfg.backend, "backend", "memory", "state backend: memory or tiered")
	flag.BoolVar(&cfg.verbose, "v", false, "show what millrace up logs")
	sizes := flag.String("megabytes", "100,2000", "sizes of state to recover")
	names := flag.String("scenarios", "checkpoints,backpressure,recovery,rescale", "what to measure")
	format := flag.String("o", "table", "table or json")
	flag.Parse()
	cfg.scenarios = strings.Split(*names, ",")
	for s := range strings.SplitSeq(*sizes, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			fmt.Fprintf(os.Stderr, "bench/reliability: --megabytes %q: want sizes such as 100,2000\n", *sizes)
			os.Exit(2)
		}
		cfg.megabytes = append(cfg.megabytes, n)
	}
	for _, name := range cfg.scenarios {
		if !slices.ContainsFunc(scenarios, func(s scenario) bool { return s.name == name }) {
			fmt.Fprintf(os.Stderr, "bench/reliability: scenario %q is unknown\n", name)
			os.Exit(2)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	r := rig.NewReport()
	if err := measure(ctx, cfg, r); err != nil {
		fmt.Fprintln(os.Stderr, "bench/reliability:", err)
		os.Exit(1)
	}
	print := r.Table
	if *format == "json" {
		print = r.JSON
	}
	if err := print(os.Stdout); err != nil {
		os.Exit(1)
	}
}

func measure(ctx context.Context, cfg config, r *rig.Report) error {
	for _, s := range scenarios {
		if !slices.Contains(cfg.scenarios, s.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "%s\n", s.name)
		if err := on(ctx, cfg, func(b *bed) error { return s.run(ctx, cfg, b, r) }); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// bed is a cluster with the job's binary in it.
type bed struct {
	*rig.Cluster
	api    rig.REST
	jar    string
	folder string
}

func on(ctx context.Context, cfg config, f func(*bed) error) (err error) {
	folder, err := os.MkdirTemp("", "millrace-reliability-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	level := "warn"
	if cfg.verbose {
		level = "info"
	}
	c, err := rig.Start(cfg.millrace, folder, level, "--slots", "4", "--slot-memory", "4GiB")
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, c.Stop())
		if err != nil || cfg.verbose {
			fmt.Fprintf(os.Stderr, "millrace up logged:\n%s", c.Log.String())
		}
	}()
	contentType, body, err := rig.Form(cfg.job)
	if err != nil {
		return fmt.Errorf("%w (make bench-reliability builds it)", err)
	}
	b := &bed{Cluster: c, api: rig.REST{Base: c.REST}, folder: folder}
	if b.jar, err = b.api.Upload(ctx, contentType, body); err != nil {
		return err
	}
	return f(b)
}
