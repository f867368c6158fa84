//go:build linux

// Main is the long form of package chaos: see make chaos and make chaos-controls.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/millrace/millrace/internal/chaos"
)

func main() { os.Exit(run()) }

func run() int {
	var cfg chaos.Config
	flag.Uint64Var(&cfg.Seed, "seed", 0, "seed of all choices; the clock without it")
	kills := flag.Int("kills", 100, "how many faults")
	duration := flag.Duration("duration", 0, "no more faults after this")
	flag.IntVar(&cfg.Ballast, "ballast", 0, "further keys with 100 bytes of state each")
	flag.IntVar(&cfg.Rate, "rate", 0, "entries a second")
	flag.BoolVar(&cfg.Stream, "stream", false, "output into a stream, which is read")
	flag.BoolVar(&cfg.S3, "s3", false, "bucket in a store that fails at random")
	flag.BoolVar(&cfg.Proxy, "proxy", false, "cut connections between processes")
	flag.DurationVar(&cfg.Checkpoint, "checkpoint", 0, "time between checkpoints")
	each := flag.Int("each", 100, "faults in one cluster; then a new one begins")
	mixed := flag.Bool("mixed", false, "clusters take turns: proxy, failing store, stream, tiered state")
	kinds := flag.String("kinds", "", "kinds of faults, separated by commas; all without it")
	tiered := flag.Bool("tiered", false, "state beyond memory")
	out := flag.String("json", "", "file for the figures")
	controls := flag.Bool("controls", false, "show that each planted bug is found")
	only := flag.String("only", "", "controls whose tag contains this")
	quiet := flag.Bool("quiet", false, "no line a fault")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	log := func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, time.Now().UTC().Format("15:04:05.000 ")+format+"\n", args...)
	}
	if *quiet {
		log = func(string, ...any) {}
	}
	cfg.Log = log
	if *controls {
		if err := chaos.RunControls(ctx, ".", *only, os.Stdout, log); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	}
	if *kinds != "" {
		for _, k := range strings.Split(*kinds, ",") {
			cfg.Kinds = append(cfg.Kinds, chaos.Kind(k))
		}
	}
	if *tiered {
		cfg.Run = append(cfg.Run, "-D", "state.backend.type=tiered")
	}
	total, err := chaos.Long(ctx, ".", cfg, *kills, *each, *duration, *mixed)
	if total != nil {
		total.Print(os.Stdout)
		if *out != "" {
			b, jsonErr := total.JSON()
			if jsonErr == nil {
				jsonErr = os.WriteFile(*out, append(b, '\n'), 0o644)
			}
			err = errors.Join(err, jsonErr)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		var f *chaos.Failure
		if errors.As(err, &f) {
			for name, text := range f.Logs {
				fmt.Fprintf(os.Stderr, "\n%s wrote last:\n%s", name, text[max(0, len(text)-8000):])
			}
		}
		return 1
	}
	return 0
}
