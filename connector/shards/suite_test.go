package shards_test

import (
	"context"
	"fmt"
	"strconv"
	"testing"

	"github.com/millrace/millrace/connector/shards"
	"github.com/millrace/millrace/sdk"
	"github.com/millrace/millrace/sdk/sdktest/sinktest"
	"github.com/millrace/millrace/stream"
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
func (r *rig) numbers(ctx context.Context, name string) (all []int, err error) {
	s, err := r.broker.Describe(ctx, name)
	if err != nil {
		return nil, err
	}
	for _, sh := range s.GetShards() {
		at := stream.Position{From: stream.FromTrimHorizon}
		for {
			res, err := r.broker.Read(ctx, name, sh.GetIndex(), at, 1000, 1<<20, 0)
			if err != nil {
				return nil, err
			}
			if len(res.Records) == 0 {
				break
			}
			for _, rec := range res.Records {
				n, err := strconv.Atoi(string(rec.Data))
				if err != nil {
					return nil, fmt.Errorf("record %q: %w", rec.Data, err)
				}
				all = append(all, n)
			}
			at = res.Next
		}
	}
	return all, nil
}
