package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/millrace/millrace/bench/rig"
)

// config is what the flags say.
type config struct {
	millrace, job, input string
	rounds               int
	idle                 time.Duration
	rate                 int
	records              int
	asJSON, verbose      bool
}

func main() {
	cfg := config{}
	flag.StringVar(&cfg.millrace, "millrace", "bin/millrace", "the millrace binary")
	flag.StringVar(&cfg.job, "job", "bin/flights", "the binary of the example job flights")
	flag.StringVar(&cfg.input, "input", "examples/flights/flights.csv", "its input")
	flag.IntVar(&cfg.rounds, "rounds", 7, "how often to measure everything")
	flag.DurationVar(&cfg.idle, "idle", 10*time.Second, "from ready to the look at memory; 0 leaves it out")
	flag.IntVar(&cfg.rate, "rate", 2000, "flights a second that come in while the worker is killed")
	flag.IntVar(&cfg.records, "records", 500_000, "flights to count as fast as it goes, in a round of its own; 0 leaves it out")
	flag.BoolVar(&cfg.verbose, "v", false, "show what millrace up logs")
	format := flag.String("o", "table", "table or json")
	flag.Parse()
	cfg.asJSON = *format == "json"
	if flag.NArg() > 0 || cfg.rounds < 1 || cfg.rate < 100 || *format != "table" && *format != "json" {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := measure(ctx, cfg); err != nil {
		fmt.Fprintln(os.Stderr, "bench/system:", err)
		os.Exit(1)
	}
}

func measure(ctx context.Context, cfg config) error {
	flights, err := readFlights(cfg.input)
	if err != nil {
		return err
	}
	r := rig.NewReport()
	for _, file := range []string{cfg.millrace, cfg.job} {
		info, err := os.Stat(file)
		if err != nil {
			return fmt.Errorf("%w (make build makes it)", err)
		}
		r.Add("size of "+file, "MB", float64(info.Size())/1e6)
	}
	for i := range cfg.rounds {
		fmt.Fprintf(os.Stderr, "round %d of %d\n", i+1, cfg.rounds)
		if err := round(ctx, cfg, flights, r); err != nil {
			return fmt.Errorf("round %d: %w", i+1, err)
		}
	}
	if cfg.records > 0 {
		fmt.Fprintf(os.Stderr, "throughput of %d flights\n", cfg.records)
		if err := throughput(ctx, cfg, flights, r); err != nil {
			return fmt.Errorf("throughput: %w", err)
		}
	}
	if cfg.asJSON {
		return r.JSON(os.Stdout)
	}
	return r.Table(os.Stdout)
}
