package main

import (
	"context"
	"fmt"
	"math/big"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/millrace/millrace/stream"
)

type streamSplitCmd struct {
	kinesisFlags
	At      string        `placeholder:"HASH" help:"First hash key of the upper half, a decimal number (the middle)."`
	Timeout time.Duration `default:"1m" help:"How long to wait until both halves can be written (${default})."`
	Name    string        `arg:"" help:"The stream."`
	Shard   string        `arg:"" help:"The shard: shardId-000000000003, or 3."`
}

func (*streamSplitCmd) Help() string {
	return `The shard is closed: it keeps its records and takes no more. Its two children
share its hash keys. Readers go on from the shard's end with the children; jobs
do so by themselves.

Examples:
  millrace stream split flights 3
  millrace stream split flights shardId-000000000003 --at 12345678901234567890`
}

func (s *streamSplitCmd) Run(ctx context.Context, c *console) error {
	k, err := s.open()
	if err != nil {
		return err
	}
	id, err := shardID(s.Shard)
	if err != nil {
		return err
	}
	if s.At == "" {
		if s.At, err = middle(ctx, k, s.Name, id); err != nil {
			return err
		}
	}
	if _, err := k.SplitShard(ctx, &kinesis.SplitShardInput{StreamName: &s.Name, ShardToSplit: &id, NewStartingHashKey: &s.At}); err != nil {
		return plain(err, "stream "+s.Name)
	}
	return followed(ctx, c, k, s.Name, s.Timeout, id)
}

type streamMergeCmd struct {
	kinesisFlags
	Timeout  time.Duration `default:"1m" help:"How long to wait until the merged shard can be written (${default})."`
	Name     string        `arg:"" help:"The stream."`
	Shard    string        `arg:"" help:"One shard: shardId-000000000003, or 3."`
	Adjacent string        `arg:"" help:"Another, whose hash keys begin where those of the first end, or the other way round."`
}

func (*streamMergeCmd) Help() string {
	return `Both shards are closed: they keep their records and take no more. Their child has
the hash keys of both.

Examples:
  millrace stream merge flights 4 5`
}

func (s *streamMergeCmd) Run(ctx context.Context, c *console) error {
	k, err := s.open()
	if err != nil {
		return err
	}
	id, err := shardID(s.Shard)
	if err != nil {
		return err
	}
	adjacent, err := shardID(s.Adjacent)
	if err != nil {
		return err
	}
	if _, err := k.MergeShards(ctx, &kinesis.MergeShardsInput{StreamName: &s.Name, ShardToMerge: &id, AdjacentShardToMerge: &adjacent}); err != nil {
		return plain(err, "stream "+s.Name)
	}
	return followed(ctx, c, k, s.Name, s.Timeout, id)
}

// shardID takes a shard's id or its number.
func shardID(text string) (string, error) {
	index, err := stream.ParseShardName(text)
	if err != nil {
		index, err = stream.ParseShardName("shardId-" + text)
	}
	if err != nil {
		return "", usageError{fmt.Errorf("%q is neither a shard's id nor its number", text)}
	}
	return stream.ShardName(index), nil
}

// middle is the hash key that halves a shard.
func middle(ctx context.Context, k *kinesis.Client, name, id string) (string, error) {
	shards, err := listShards(ctx, k, name)
	if err != nil {
		return "", err
	}
	for _, sh := range shards {
		if *sh.ShardId != id {
			continue
		}
		first, ok := new(big.Int).SetString(*sh.HashKeyRange.StartingHashKey, 10)
		last, also := new(big.Int).SetString(*sh.HashKeyRange.EndingHashKey, 10)
		if !ok || !also {
			return "", fmt.Errorf("stream %s: %s has hash keys from %q to %q", name, id, *sh.HashKeyRange.StartingHashKey, *sh.HashKeyRange.EndingHashKey)
		}
		at := first.Add(first, last)
		return at.Add(at, big.NewInt(1)).Rsh(at, 1).String(), nil
	}
	return "", fmt.Errorf("stream %s has no %s (millrace stream describe %s)", name, id, name)
}

// followed waits until the children of a shard are open and names them.
func followed(ctx context.Context, c *console, k *kinesis.Client, name string, timeout time.Duration, parent string) error {
	if err := awaitActive(ctx, k, name, timeout, "changing the shards of stream "+name); err != nil {
		return err
	}
	shards, err := listShards(ctx, k, name)
	if err != nil {
		return err
	}
	is := func(p *string) bool { return p != nil && *p == parent }
	var children []types.Shard
	for _, sh := range shards {
		if is(sh.ParentShardId) || is(sh.AdjacentParentShardId) {
			children = append(children, sh)
		}
	}
	for _, sh := range children {
		fmt.Fprintf(c.out, "%s: hash keys %s to %s\n", *sh.ShardId, *sh.HashKeyRange.StartingHashKey, *sh.HashKeyRange.EndingHashKey)
	}
	return nil
}
