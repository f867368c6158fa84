package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
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
	return `Prints the records of all shards, each shard in order, a record a line. The
children of a split or merged shard come after it, so that records of one
partition key are in order.

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
	t := &tail{streamTailCmd: s, k: k, iterators: map[string]*string{}, ended: map[string]bool{}, begun: map[string]bool{}}
	if err := t.begin(ctx, shards); err != nil {
		return err
	}
	for len(t.iterators) > 0 {
		got := 0
		for _, id := range slices.Clone(t.order) {
			n, err := t.shard(ctx, c, id)
			if err != nil || s.Limit > 0 && t.printed >= s.Limit {
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

// tail is where a stream is read.
type tail struct {
	*streamTailCmd
	k         *kinesis.Client
	iterators map[string]*string
	order     []string // of the shards that were begun
	begun     map[string]bool
	ended     map[string]bool
	printed   int
}

// begin starts with the oldest shards of each line, or with the open ones.
func (s *tail) begin(ctx context.Context, shards []types.Shard) error {
	listed := map[string]bool{"": true}
	for _, sh := range shards {
		listed[*sh.ShardId] = true
	}
	kind := types.ShardIteratorTypeTrimHorizon
	if s.From == "latest" {
		kind = types.ShardIteratorTypeLatest
	}
	for _, sh := range shards {
		child := sh.ParentShardId != nil && listed[*sh.ParentShardId] || sh.AdjacentParentShardId != nil && listed[*sh.AdjacentParentShardId]
		if s.From == "latest" && sh.SequenceNumberRange.EndingSequenceNumber != nil || s.From != "latest" && child {
			continue
		}
		if err := s.start(ctx, *sh.ShardId, kind); err != nil {
			return err
		}
	}
	return nil
}

func (s *tail) start(ctx context.Context, id string, kind types.ShardIteratorType) error {
	it, err := s.k.GetShardIterator(ctx, &kinesis.GetShardIteratorInput{StreamName: &s.Name, ShardId: &id, ShardIteratorType: kind})
	if err != nil {
		return plain(err, "stream "+s.Name)
	}
	s.iterators[id], s.begun[id] = it.ShardIterator, true
	s.order = append(s.order, id)
	return nil
}

// end goes on with the children of a shard, those of a merge when both parents
// have ended. A parent that was never begun has been left out on purpose.
func (s *tail) end(ctx context.Context, id string, children []types.ChildShard) error {
	delete(s.iterators, id)
	s.ended[id] = true
	for _, child := range children {
		waits := slices.ContainsFunc(child.ParentShards, func(p string) bool { return s.begun[p] && !s.ended[p] })
		if waits || s.begun[*child.ShardId] {
			continue
		}
		if err := s.start(ctx, *child.ShardId, types.ShardIteratorTypeTrimHorizon); err != nil {
			return err
		}
	}
	return nil
}

// shard prints one answer of a shard. Without --follow a shard is done when
// its reader has caught up.
func (s *tail) shard(ctx context.Context, c *console, id string) (int, error) {
	it, ok := s.iterators[id]
	if !ok {
		return 0, nil
	}
	out, err := s.k.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: it})
	if err != nil {
		if ctx.Err() != nil {
			return 0, nil
		}
		return 0, plain(err, "stream "+s.Name)
	}
	for _, r := range out.Records {
		if s.Limit > 0 && s.printed >= s.Limit {
			return len(out.Records), nil
		}
		s.printed++
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
	if out.NextShardIterator == nil {
		return len(out.Records), s.end(ctx, id, out.ChildShards)
	}
	s.iterators[id] = out.NextShardIterator
	if !s.Follow && len(out.Records) == 0 && out.MillisBehindLatest != nil && *out.MillisBehindLatest == 0 {
		delete(s.iterators, id)
	}
	return len(out.Records), nil
}
