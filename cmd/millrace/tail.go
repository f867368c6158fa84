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
	t := &tail{streamTailCmd: s, k: k, iterators: map[string]*string{}, shards: newLineage(shards, s.From == "latest")}
	if err := t.start(ctx, t.shards.first(), iteratorKind[s.From]); err != nil {
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
	shards    lineage
	printed   int
}

var iteratorKind = map[string]types.ShardIteratorType{
	"trim-horizon": types.ShardIteratorTypeTrimHorizon, "latest": types.ShardIteratorTypeLatest,
}

func (s *tail) start(ctx context.Context, ids []string, kind types.ShardIteratorType) error {
	for _, id := range ids {
		it, err := s.k.GetShardIterator(ctx, &kinesis.GetShardIteratorInput{StreamName: &s.Name, ShardId: &id, ShardIteratorType: kind})
		if err != nil {
			return plain(err, "stream "+s.Name)
		}
		s.iterators[id] = it.ShardIterator
		s.order = append(s.order, id)
	}
	return nil
}

// end goes on with what follows a shard.
func (s *tail) end(ctx context.Context, id string, children []types.ChildShard) error {
	delete(s.iterators, id)
	shards, err := listShards(ctx, s.k, s.Name)
	if err != nil {
		return err
	}
	return s.start(ctx, s.shards.next(id, shards, children), types.ShardIteratorTypeTrimHorizon)
}

// lineage are the shards of a stream with their parents: a shard is begun when
// these have been read to their ends.
type lineage struct {
	shards []types.Shard
	begun  map[string]bool
	// ended are the shards that were read to their ends, or are left out.
	ended map[string]bool
}

// newLineage leaves out the closed shards where only the latest records count.
func newLineage(shards []types.Shard, latest bool) lineage {
	l := lineage{shards, map[string]bool{}, map[string]bool{}}
	for _, sh := range shards {
		if latest && sh.SequenceNumberRange.EndingSequenceNumber != nil {
			l.begun[*sh.ShardId], l.ended[*sh.ShardId] = true, true
		}
	}
	return l
}

// first are the shards to begin with.
func (l *lineage) first() []string {
	waiting := map[string]bool{}
	for _, sh := range l.shards {
		waiting[*sh.ShardId] = !l.ended[*sh.ShardId]
	}
	waits := func(parent *string) bool { return parent != nil && waiting[*parent] }
	var ids []string
	for _, sh := range l.shards {
		if id := *sh.ShardId; !l.begun[id] && !waits(sh.ParentShardId) && !waits(sh.AdjacentParentShardId) {
			l.begun[id] = true
			ids = append(ids, id)
		}
	}
	return ids
}

// next are the shards to begin after the end of one that names its children. What
// is listed by then tells what these wait for; a parent that is not has nothing
// left.
func (l *lineage) next(ended string, shards []types.Shard, children []types.ChildShard) []string {
	l.ended[ended], l.shards = true, shards
	for _, child := range children {
		if slices.ContainsFunc(shards, func(sh types.Shard) bool { return *sh.ShardId == *child.ShardId }) {
			continue
		}
		// It may be open for a moment only, or no longer hold anything.
		sh := types.Shard{ShardId: child.ShardId}
		for i, parent := range []**string{&sh.ParentShardId, &sh.AdjacentParentShardId} {
			if i < len(child.ParentShards) {
				*parent = &child.ParentShards[i]
			}
		}
		l.shards = append(l.shards, sh)
	}
	return l.first()
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
