package shards_test

import (
	"context"
	"fmt"
	"strconv"
	"testing"

	"github.com/millrace/millrace/connector/shards"
	"github.com/millrace/millrace/sdk"
	"github.com/millrace/millrace/sdk/sdktest/sinktest"
)

// TestTheSinkKeepsItsPromises runs the suite of transactional sinks against a
// host of shards behind its socket.
func TestTheSinkKeepsItsPromises(t *testing.T) {
	sinktest.Run(t, func(t *testing.T) sinktest.Target[string] {
		r := newRig(t)
		r.create("out", 3)
		return sinktest.Target[string]{
			Sink:         func() sdk.Sink[string] { return shards.Sink("out", sdk.Lines(), same) },
			Record:       strconv.Itoa,
			Visible:      func(ctx context.Context) ([]int, error) { return r.numbers(ctx, "out") },
			ShardAddress: r.address,
		}
	}, sinktest.Options{Seeds: 30})
}

// numbers reads all records of a stream as numbers.
func (r *rig) numbers(ctx context.Context, name string) ([]int, error) {
	records, err := r.records(ctx, name)
	all := make([]int, len(records))
	for i, text := range records {
		if all[i], err = strconv.Atoi(text); err != nil {
			return nil, fmt.Errorf("record %q: %w", text, err)
		}
	}
	return all, err
}
