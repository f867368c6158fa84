package shards

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/sdk"
	"github.com/millrace/millrace/stream"
	"github.com/millrace/millrace/stream/block"
	"github.com/millrace/millrace/stream/client"
)

// appending is the sink that delivers at least once.
type appending[T any] struct{ target[T] }

// appendBytes is the size at which a shard's block is appended.
const appendBytes = 64 << 10

func (s *appending[T]) Open(ctx context.Context, env sdk.SinkEnv) (sdk.Writer[T], error) {
	l, described, err := s.open(ctx, env)
	if err != nil {
		return nil, err
	}
	router, open, err := stream.RouteOf(described)
	if err != nil {
		return nil, errors.Join(err, l.release())
	}
	w := &appendWriter[T]{target: &s.target, ctx: ctx, link: l, router: router, blocks: make([]block.Builder, len(open))}
	for _, sh := range open {
		w.shards = append(w.shards, client.Shard{Stream: described.GetName(), Generation: described.GetGeneration(), Index: sh.GetIndex()})
	}
	return w, nil
}

// appendWriter collects a block a shard, and appends them when one is full or
// the input pauses; it waits until they are durable.
type appendWriter[T any] struct {
	*target[T]
	ctx    context.Context
	link   *link
	router *stream.Router
	shards []client.Shard
	blocks []block.Builder
	buf    []byte
}

func (w *appendWriter[T]) Write(b *sdk.Batch[T]) (err error) {
	for i := range b.Values {
		if w.buf, err = w.codec.Append(w.buf[:0], b.Values[i]); err != nil {
			return fmt.Errorf("stream %s: encode %+v: %w", w.stream, b.Values[i], err)
		}
		key := w.key(b.Values[i])
		e := stream.Entry{PartitionKey: key, Hash: stream.HashOf(key), Data: w.buf}
		if err := stream.CheckEntry(&e); err != nil {
			return err
		}
		place, _ := w.router.Shard(e.Hash)
		w.blocks[place].Add(key, e.Hash, e.Data)
		if w.blocks[place].Len() >= appendBytes {
			if err := w.Flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *appendWriter[T]) Flush() error {
	g, ctx := errgroup.WithContext(w.ctx)
	for i := range w.blocks {
		if w.blocks[i].Count() == 0 {
			continue
		}
		records := w.blocks[i].Finish()
		g.Go(func() error {
			if _, err := w.link.Append(ctx, w.shards[i], records); err != nil {
				return fmt.Errorf("append to %s of stream %s: %w", stream.ShardName(w.shards[i].Index), w.stream, err)
			}
			return nil
		})
	}
	return g.Wait()
}

func (w *appendWriter[T]) Close() error { return w.link.release() }
