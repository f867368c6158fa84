package broker

import (
	"context"
	"fmt"
	"time"

	pb "github.com/millrace/millrace/proto/millrace/v1"
	"github.com/millrace/millrace/stream"
	"github.com/millrace/millrace/stream/block"
	"github.com/millrace/millrace/stream/client"
	"github.com/millrace/millrace/stream/shardlog"
)

// closeWait is how long a write waits for the children of a shard that is being
// split or merged: a parent whose host went away in the middle holds them up.
const closeWait = 10 * time.Second

// awaitClosed waits until shards that refused a write are closed in the catalog
// too, so that their children take what comes.
func (b *Broker) awaitClosed(ctx context.Context, name string, generation uint64, shards []uint32) error {
	waiting, cancel := context.WithTimeout(ctx, closeWait)
	defer cancel()
	err := b.await(waiting, func(v *view) bool {
		s := v.streams[name]
		if s == nil || s.GetGeneration() != generation {
			return true // the caller finds out
		}
		for _, index := range shards {
			if sh := s.shards[index]; sh != nil && !sh.GetClosed() {
				return false
			}
		}
		return true
	})
	if err != nil {
		return stream.Errorf(stream.Unavailable, "stream %s is being split or merged, and its new shards are not open after %v: is every task manager up? %w", name, closeWait, err)
	}
	return nil
}

// Move commits, in the children of a closed shard of this host, what was staged
// in the shard before. The children may be anywhere, and closed themselves by now.
// A child holds the records as a sink of their own, which nobody fences: the
// transaction has been decided. Whatever is interrupted is repeated by the next
// Commit, with the same blocks.
func (b *Broker) Move(ctx context.Context, ref *pb.ShardRef, id shardlog.ID, tx *pb.Transaction, counts []*pb.StagedCount) (records uint64, already bool, err error) {
	blocks, already, err := b.cfg.Log.Staged(ctx, id, tx, counts)
	if err != nil {
		return 0, false, err
	}
	if !already {
		shard := client.Shard{Stream: ref.GetStream(), Generation: ref.GetGeneration(), Index: ref.GetShard()}
		if err := b.moveToChildren(ctx, shard, tx, blocks); err != nil {
			return 0, false, fmt.Errorf("commit transaction %d of epoch %d of closed %s in its children: %w",
				tx.GetCheckpoint(), tx.GetEpoch(), stream.ShardName(ref.GetShard()), err)
		}
	}
	return b.cfg.Log.Moved(ctx, id, tx, counts)
}

// moveToChildren commits blocks that were staged in a closed shard in its
// children. A child that is closed too hands on what it did not commit, under the
// names and in the blocks that its own host would use: two that do this at once
// do the same.
func (b *Broker) moveToChildren(ctx context.Context, shard client.Shard, tx *pb.Transaction, blocks []block.Block) error {
	if err := b.awaitClosed(ctx, shard.Stream, shard.Generation, []uint32{shard.Index}); err != nil {
		return err
	}
	s, err := b.stream(shard.Stream)
	if err != nil {
		return err
	}
	moved := &pb.Transaction{
		Lineage: tx.GetLineage(), Sink: fmt.Sprintf("%s/moved-%d", tx.GetSink(), shard.Index),
		Epoch: tx.GetEpoch(), Checkpoint: tx.GetCheckpoint(),
	}
	for _, child := range s.GetShards() {
		if child.GetParent() != shard.Index+1 && child.GetAdjacentParent() != shard.Index+1 {
			continue
		}
		r, err := stream.RangeOf(child)
		if err != nil {
			return err
		}
		parts, count, err := within(r, blocks)
		if err != nil {
			return err
		}
		if len(parts) == 0 {
			continue
		}
		to := client.Shard{Stream: shard.Stream, Generation: shard.Generation, Index: child.GetIndex()}
		err = b.moveTo(ctx, to, moved, parts, count)
		if stream.KindOf(err) == stream.Closed {
			err = b.moveToChildren(ctx, to, moved, parts)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// within returns the records of blocks whose hash keys are in a range.
func within(r stream.HashRange, blocks []block.Block) (parts []block.Block, count *pb.StagedCount, err error) {
	var builder block.Builder
	count = &pb.StagedCount{}
	for _, from := range blocks {
		it := from.Records()
		for rec := (block.Record{}); it.Next(&rec); {
			if r.Contains(rec.Hash) {
				builder.Add(string(rec.Key), rec.Hash, rec.Data)
			}
		}
		if err := it.Err(); err != nil {
			return nil, nil, err
		}
		if n := builder.Count(); n > 0 {
			count.Blocks++
			count.Records += uint64(n)
			parts = append(parts, builder.Finish())
		}
	}
	return parts, count, nil
}

func (b *Broker) moveTo(ctx context.Context, to client.Shard, moved *pb.Transaction, parts []block.Block, count *pb.StagedCount) error {
	for i, part := range parts {
		err := b.client.Stage(ctx, to, client.StageRequest{Transaction: moved, Block: uint64(i), Records: part})
		if stream.KindOf(err) == stream.InvalidArgument {
			break // committed by an earlier try: the commit answers so, or why not
		}
		if err != nil {
			return err
		}
	}
	_, _, err := b.client.Commit(ctx, to, moved, []*pb.StagedCount{count})
	return err
}
