package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
)

type streamTailCmd struct {
	kinesisFlags
	output
	From   string `enum:"trim-horizon,latest" default:"trim-horizon" help:"trim-horizon (the oldest record, the default) or latest."`
	Follow bool   `short:"f" help:"Go on as records come, until interrupted."`
	Limit  int    `short:"n" placeholder:"N" help:"Records to print at the most."`
	Name   string `arg:"" help:"The stream."`
}

func (*streamTailCmd) Help() string {
	return `Prints the records of all shards, each shard in order, a record a line.

Examples:
  millrace stream tail delays
  millrace stream tail delays --follow --from latest
  millrace stream tail delays -n 10 -o json`
}

// tailRecord is a record as -o json prints it.
type tailRecord struct {
	ShardID        string    `json:"ShardId"`
	SequenceNumber string    `json:"SequenceNumber"`
	PartitionKey   string    `json:"PartitionKey"`
	Arrival        time.Time `json:"ApproximateArrivalTimestamp"`
	Data           []byte    `json:"Data"`
}

func (s *streamTailCmd) Run(ctx context.Context, c *console) error {
	k, err := s.open()
	if err != nil {
		return err
	}
	shards, err := listShards(ctx, k, s.Name)
	if err != nil {
		return err
	}
	iterators := map[string]*string{}
	for _, sh := range shards {
		kind := types.ShardIteratorTypeTrimHorizon
		if s.From == "latest" {
			kind = types.ShardIteratorTypeLatest
		}
		it, err := k.GetShardIterator(ctx, &kinesis.GetShardIteratorInput{StreamName: &s.Name, ShardId: sh.ShardId, ShardIteratorType: kind})
		if err != nil {
			return plain(err, "stream "+s.Name)
		}
		iterators[*sh.ShardId] = it.ShardIterator
	}
	printed := 0
	for len(iterators) > 0 {
		got := 0
		for _, sh := range shards {
			n, err := s.shard(ctx, c, k, *sh.ShardId, iterators, &printed)
			if err != nil || s.Limit > 0 && printed >= s.Limit {
				return err
			}
			got += n
		}
		if got == 0 && s.Follow {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(200 * time.Millisecond):
			}
		}
	}
	return nil
}

// shard prints one answer of a shard. Without --follow a shard is done when
// its reader has caught up.
func (s *streamTailCmd) shard(ctx context.Context, c *console, k *kinesis.Client, id string, iterators map[string]*string, printed *int) (int, error) {
	it, ok := iterators[id]
	if !ok {
		return 0, nil
	}
	out, err := k.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: it})
	if err != nil {
		if ctx.Err() != nil {
			return 0, nil
		}
		return 0, plain(err, "stream "+s.Name)
	}
	for _, r := range out.Records {
		if s.Limit > 0 && *printed >= s.Limit {
			return len(out.Records), nil
		}
		*printed++
		if !s.json() {
			fmt.Fprintf(c.out, "%s\n", r.Data)
			continue
		}
		line, err := json.Marshal(tailRecord{id, *r.SequenceNumber, *r.PartitionKey, *r.ApproximateArrivalTimestamp, r.Data})
		if err != nil {
			return 0, err
		}
		fmt.Fprintf(c.out, "%s\n", line)
	}
	iterators[id] = out.NextShardIterator
	if out.NextShardIterator == nil || !s.Follow && len(out.Records) == 0 && out.MillisBehindLatest != nil && *out.MillisBehindLatest == 0 {
		delete(iterators, id)
	}
	return len(out.Records), nil
}
