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
	flag.Uint64Var(&cfg.Seed, "seed", 0, "seed of all choices of the first run; the clock without it")
	var long chaos.Campaign
	flag.IntVar(&long.Kills, "kills", 0, "until so many processes were killed")
	flag.IntVar(&long.Faults, "faults", 0, "until so many faults were made")
	flag.DurationVar(&long.Duration, "duration", 0, "no more faults after this")
	flag.IntVar(&long.Each, "each", 100, "faults in one cluster; then a new one begins")
	flag.BoolVar(&long.Mixed, "mixed", false, "clusters differ: proxy, failing store, stream, tiered state")
	flag.BoolVar(&long.GoOn, "go-on", false, "further runs after one that failed")
	flag.BoolVar(&cfg.Killing, "killing", false, "mostly kills, many while the job recovers")
	flag.IntVar(&cfg.Ballast, "ballast", 0, "further keys with 100 bytes of state each")
	flag.IntVar(&cfg.Rate, "rate", 0, "entries a second")
	flag.BoolVar(&cfg.Stream, "stream", false, "output into a stream, which is read")
	flag.BoolVar(&cfg.S3, "s3", false, "bucket in a store that fails at random")
	flag.BoolVar(&cfg.Proxy, "proxy", false, "cut connections between processes")
	flag.BoolVar(&cfg.Tiered, "tiered", false, "state beyond memory")
	flag.DurationVar(&cfg.Checkpoint, "checkpoint", 0, "time between checkpoints")
	flag.StringVar(&cfg.Folder, "folder", "", "where the files of failed runs stay")
	kinds := flag.String("kinds", "", "kinds of faults, separated by commas; all without it")
	out := flag.String("json", "", "file for the figures")
	add := flag.Bool("add", false, "add to the figures of that file")
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
		if err := chaos.RunControls(ctx, ".", *only, cfg.Seed, os.Stdout, log); err != nil {
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
	if long.Kills == 0 && long.Faults == 0 && long.Duration == 0 {
		long.Kills = 100
	}
	before := &chaos.Report{}
	if *add {
		if b, err := os.ReadFile(*out); err == nil {
			if before, err = chaos.ParseReport(b); err != nil {
				fmt.Fprintf(os.Stderr, "%s: %v\n", *out, err)
				return 1
			}
		}
	}
	long.Done = func(total *chaos.Report) {
		if err := write(*out, before, total); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	total, err := chaos.Long(ctx, ".", cfg, long)
	if total != nil {
		total.Print(os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		var f *chaos.Failure
		if errors.As(err, &f) && f.Folder == "" {
			for name, text := range f.Logs {
				fmt.Fprintf(os.Stderr, "\n%s wrote last:\n%s", name, text[max(0, len(text)-8000):])
			}
		}
		return 1
	}
	return 0
}

// write puts the figures into a file.
func write(file string, all ...*chaos.Report) error {
	if file == "" {
		return nil
	}
	b, err := chaos.Sum(all...).JSON()
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}
