//go:build linux

package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// variants are what mixed runs are: a seed always has the same one.
var variants = []func(*Config){
	func(c *Config) { c.Ballast = max(c.Ballast, 20_000) },
	func(c *Config) { c.Proxy = true },
	func(c *Config) { c.S3 = true },
	func(c *Config) { c.Stream = true },
	func(c *Config) { c.Tiered, c.Ballast = true, max(c.Ballast, 20_000) },
	func(c *Config) { c.S3, c.Proxy = true, true },
	func(c *Config) { c.Stream, c.Proxy, c.Tiered = true, true, true },
}

// variant says how a run differs from one of all defaults.
func (c *Config) variant() string {
	var all []string
	for _, one := range []struct {
		set  bool
		name string
	}{
		{c.Killing, "killing"}, {c.Proxy, "proxy"}, {c.S3, "s3"}, {c.Stream, "stream"}, {c.Tiered, "tiered"},
		{c.Ballast > 0, fmt.Sprintf("ballast=%d", c.Ballast)},
	} {
		if one.set {
			all = append(all, one.name)
		}
	}
	return strings.Join(all, ",")
}

// Campaign is how long the long form goes on.
type Campaign struct {
	// Kills ends it once so many processes were killed, Faults after so many
	// faults, Duration after so long; each only where it is set.
	Kills, Faults int
	Duration      time.Duration
	// Each is how many faults one cluster sees; then a new one begins.
	Each int
	// Mixed has clusters differ: proxy, failing store, stream, tiered state.
	Mixed bool
	// GoOn makes further runs after one that failed.
	GoOn bool
	// Done is told of the figures after each run.
	Done func(total *Report)
}

// Long builds everything and makes runs one after the other, each with the next
// seed. It ends with the first failure, or returns all of them.
func Long(ctx context.Context, root string, cfg Config, c Campaign) (*Report, error) {
	if c.Each < 1 {
		return nil, fmt.Errorf("%d faults in one cluster prove nothing: at least 1", c.Each)
	}
	for _, k := range cfg.Kinds {
		if _, err := recipeOf(k); err != nil {
			return nil, err
		}
	}
	folder, err := os.MkdirTemp("", "chaos-binaries-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	if cfg.Binaries, err = Build(ctx, root, folder); err != nil {
		return nil, err
	}
	if cfg.Seed == 0 {
		cfg.Seed = uint64(time.Now().UnixNano())
	}
	total := newReport()
	began := time.Now()
	var failures []error
	for ; ; cfg.Seed++ {
		one := cfg
		one.Faults, one.Kills = c.Each, 0
		faults, kills := total.made()
		if c.Faults > 0 {
			one.Faults = min(one.Faults, c.Faults-faults)
		}
		if c.Kills > 0 {
			one.Kills = c.Kills - kills
		}
		if c.Duration > 0 {
			one.Duration = c.Duration - time.Since(began)
		}
		if one.Faults <= 0 || one.Kills < 0 || c.Kills > 0 && one.Kills == 0 || one.Duration < 0 {
			return total, errors.Join(failures...)
		}
		if c.Mixed {
			variants[one.Seed%uint64(len(variants))](&one)
		}
		r, err := Run(ctx, one)
		if ctx.Err() != nil {
			return total, errors.Join(append(failures, context.Cause(ctx))...) // a run that was ended says nothing
		}
		total.add(r)
		if c.Done != nil {
			c.Done(total)
		}
		if err != nil {
			failures = append(failures, err)
			if !c.GoOn {
				return total, err
			}
		} else if _, now := total.made(); c.Kills > 0 && now == kills {
			return total, errors.New("faults of these kinds kill nothing: give a number of faults")
		}
	}
}
