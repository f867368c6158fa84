package main

import (
	"context"
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
	faults        []string
	rounds        int
	megabytes     []int
	backend       string
	verbose       bool
}

// scenario measures with a cluster and the uploaded job.
type scenario struct {
	name string
	// on makes the cluster.
	on  func(ctx context.Context, cfg config, f func(*bed) error) error
	run func(ctx context.Context, cfg config, b *bed, r *rig.Report) error
}

var scenarios = []scenario{
	{"checkpoints", together, checkpoints}, {"backpressure", together, backpressure},
	{"recovery", apart, recovery}, {"rescale", together, rescale},
}

func main() {
	cfg := config{}
	flag.StringVar(&cfg.millrace, "millrace", "bin/millrace", "the millrace binary")
	flag.StringVar(&cfg.job, "job", "bin/accounts", "the binary of the job accounts")
	flag.IntVar(&cfg.kills, "kills", 10, "processes to kill for each fault at each size of state")
	flag.IntVar(&cfg.rounds, "rounds", 5, "pairs of runs with and without checkpoints; rescales up and down")
	flag.StringVar(&cfg.backend, "backend", "memory", "state backend: memory or tiered")
	flag.BoolVar(&cfg.verbose, "v", false, "show what millrace up logs")
	broken := flag.String("faults", "worker,taskmanager,jobmanager", "processes to kill")
	sizes := flag.String("megabytes", "100,2000", "sizes of state to recover")
	names := flag.String("scenarios", "checkpoints,backpressure,recovery,rescale", "what to measure")
	format := flag.String("o", "table", "table or json")
	flag.Parse()
	cfg.scenarios, cfg.faults = strings.Split(*names, ","), strings.Split(*broken, ",")
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
	for _, name := range cfg.faults {
		if faults[name] == nil {
			fmt.Fprintf(os.Stderr, "bench/reliability: fault %q is unknown\n", name)
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
		if err := s.on(ctx, cfg, func(b *bed) error { return s.run(ctx, cfg, b, r) }); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}
