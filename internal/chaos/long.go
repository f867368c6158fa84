//go:build linux

package chaos

import (
	"context"
	"os"
	"slices"
	"time"
)

// variants are what mixed runs take in turn.
var variants = []func(*Config){
	func(c *Config) { c.Ballast = max(c.Ballast, 20_000) },
	func(c *Config) { c.Proxy = true },
	func(c *Config) { c.S3 = true },
	func(c *Config) { c.Stream = true },
	func(c *Config) { c.S3, c.Proxy = true, true },
	func(c *Config) {
		c.Ballast = max(c.Ballast, 20_000)
		c.Run = append(slices.Clone(c.Run), "-D", "state.backend.type=tiered")
	},
}

// Long builds everything and makes runs one after the other, each with the next
// seed, until there were so many faults, or for so long; mixed ones take turns
// at variants. It ends with the first failure.
func Long(ctx context.Context, root string, cfg Config, faults, each int, duration time.Duration, mixed bool) (*Report, error) {
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
	total := newReport(cfg)
	began := time.Now()
	n := 0
	for left := faults; left > 0; left -= each {
		one := cfg
		one.Faults = min(left, each)
		if mixed {
			variants[n%len(variants)](&one)
			n++
		}
		if duration > 0 {
			if one.Duration = duration - time.Since(began); one.Duration <= 0 {
				break
			}
		}
		r, err := Run(ctx, one)
		if r != nil {
			total.Merge(r)
		}
		if err != nil {
			total.Error = err.Error()
			return total, err
		}
		cfg.Seed++
	}
	return total, nil
}
