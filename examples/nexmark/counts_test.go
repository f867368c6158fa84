package nexmark_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"

	"github.com/millrace/millrace/examples/nexmark"
	"github.com/millrace/millrace/examples/nexmark/event"
	"github.com/millrace/millrace/examples/nexmark/generator"
	"github.com/millrace/millrace/sdk"
)

// Running counts are those of a plain count of the same bids.
func TestRunningCounts(t *testing.T) {
	const seed, events, golden = 7, 20000, 0x9e3779b97f4a7c15
	for keys, at := range map[int]setting{0: {parallelism: 2}, 3000: {parallelism: 1, tiered: true}, 1: {parallelism: 3}} {
		t.Run(fmt.Sprintf("keys=%d %v", keys, at), func(t *testing.T) {
			g, clock := generator.New(seed, 10000, generator.NewChannels(seed)), generator.Clock{Rate: 10000}
			counts, rows, sums := map[uint64]int{}, 0, [2]uint64{}
			for n := uint64(0); n < events; n++ {
				var e event.Event
				if g.Make(&e, n, clock.Time(n)); e.Kind != event.IsBid {
					continue
				}
				key := uint64(e.Bid.Auction) * golden >> 20 % 10000
				if keys > 0 {
					key = n * golden >> 20 % uint64(keys)
				}
				counts[key]++
				rows++
				for seed := range sums {
					h := xxhash.NewWithSeed(uint64(seed))
					fmt.Fprintf(h, "%d|%d", key, counts[key])
					sums[seed] += h.Sum64()
				}
			}
			want := fmt.Sprintf("count %d %016x %016x", rows, sums[0], sums[1])
			got := at.run(t, "count", fmt.Sprintf("--keys=%d", keys), fmt.Sprintf("--seed=%d", seed), fmt.Sprintf("--events=%d", events))
			if got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

func TestNegativeKeysAreRefused(t *testing.T) {
	_, err := sdk.Plan(nexmark.Build, []string{"--query=count", "--keys=-3"}, true)
	var usage *sdk.UsageError
	if !errors.As(err, &usage) || !strings.Contains(err.Error(), "--keys -3") {
		t.Errorf("%v, want a usage error that names --keys -3", err)
	}
}
