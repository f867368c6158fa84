package shards

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/sdk"
	"github.com/millrace/millrace/stream"
	"github.com/millrace/millrace/stream/block"
	"github.com/millrace/millrace/stream/client"

	pb "github.com/millrace/millrace/proto/millrace/v1"
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
	w := &appendWriter[T]{target: &s.target, ctx: ctx, link: l}
	if err := w.route(described); err != nil {
		return nil, errors.Join(err, l.release())
	}
	return w, nil
}

// route writes to the open shards of a stream from now on.
func (w *appendWriter[T]) route(described *pb.Stream) error {
	router, open, err := stream.RouteOf(described)
	if err != nil {
		return err
	}
	w.router, w.open, w.blocks = router, nil, make([]block.Builder, len(open))
	for _, sh := range open {
		w.open = append(w.open, client.Shard{Stream: described.GetName(), Generation: described.GetGeneration(), Index: sh.GetIndex()})
	}
	return nil
}

// appendWriter collects a block a shard, and appends them when one is full or
// the input pauses; it waits until they are durable.
type appendWriter[T any] struct {
	*target[T]
	ctx    context.Context
	link   *link
	router *stream.Router
	open   []client.Shard
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

// Flush appends what is collected. What a closed shard refuses goes to its
// children.
func (w *appendWriter[T]) Flush() error {
	for {
		refused, err := w.send()
		if err != nil || len(refused) == 0 {
			return err
		}
		described, err := ensure(w.ctx, w.link, w.stream, w.shards, slices.Collect(maps.Keys(refused))...)
		if err != nil {
			return err
		}
		if err := w.route(described); err != nil {
			return err
		}
		for _, records := range refused {
			it := records.Records()
			for rec := (block.Record{}); it.Next(&rec); {
				place, _ := w.router.Shard(rec.Hash)
				w.blocks[place].Add(string(rec.Key), rec.Hash, rec.Data)
			}
			if err := it.Err(); err != nil {
				return err
			}
		}
	}
}

// send appends the blocks and returns those that closed shards refused.
func (w *appendWriter[T]) send() (map[client.Shard]block.Block, error) {
	refused := map[client.Shard]block.Block{}
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(w.ctx)
	for i := range w.blocks {
		if w.blocks[i].Count() == 0 {
			continue
		}
		records := w.blocks[i].Finish()
		g.Go(func() error {
			_, err := w.link.Append(ctx, w.open[i], records)
			switch {
			case stream.KindOf(err) == stream.Closed:
				mu.Lock()
				defer mu.Unlock()
				refused[w.open[i]] = records
			case err != nil:
				return fmt.Errorf("append to %s of stream %s: %w", stream.ShardName(w.open[i].Index), w.stream, err)
			}
			return nil
		})
	}
	err := g.Wait()
	return refused, err
}

func (w *appendWriter[T]) Close() error { return w.link.release() }
