//go:build linux

package chaos

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/internal/chaos/ledger"
	"github.com/millrace/millrace/stream"
	"github.com/millrace/millrace/stream/block"
	"github.com/millrace/millrace/stream/client"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// inputStream is the stream that the job reads, outputStream what it writes
// where no outlet is asked for.
const (
	inputStream  = "entries"
	outputStream = "rows"
)

// chunk is how many entries are put at once: less than Bound of event time.
const chunk = 200

// newStreamClient returns a client that finds the cluster whichever task
// managers are there.
func newStreamClient(c *cluster) *client.Client {
	return client.New(client.Config{RetryFor: 2 * time.Second, Catalog: func(ctx context.Context) (*pb.Catalog, error) {
		var last error = stream.Errorf(stream.Unavailable, "no task manager is known")
		for _, address := range c.shardSockets(ctx) {
			one := client.New(client.Config{Address: address, RetryFor: -1})
			asking, cancel := context.WithTimeout(ctx, time.Second)
			cat, err := one.Catalog(asking)
			cancel()
			_ = one.Close()
			if err == nil {
				return cat, nil
			}
			last = err
		}
		return nil, last
	}})
}

// input is the producer and the reader of the input stream.
type input struct {
	client *client.Client
	script ledger.Script
	desc   *pb.Stream
	router *stream.Router
	shards []client.Shard
	// put is how many entries are acknowledged, halt ends the producer.
	put  atomic.Uint64
	rate int
	most uint64 // 0 without an end
}

func openInput(ctx context.Context, c *cluster, cl *client.Client, script ledger.Script, rate int, most uint64) (*input, error) {
	in := &input{client: cl, script: script, rate: rate, most: most}
	err := eventually(ctx, c.cfg.Patience, "the input stream is there", func() (bool, string) {
		var err error
		in.desc, err = cl.Describe(ctx, inputStream)
		return err == nil, fmt.Sprint(err)
	})
	if err != nil {
		return nil, err
	}
	router, open, err := stream.RouteOf(in.desc)
	if err != nil {
		return nil, err
	}
	in.router = router
	for _, sh := range open {
		in.shards = append(in.shards, client.Shard{Stream: in.desc.GetName(), Generation: in.desc.GetGeneration(), Index: sh.GetIndex()})
	}
	return in, nil
}

// produce puts entries until stop is closed. What is not acknowledged is put
// again, at the same shard before anything else: an entry may be there twice,
// never not at all, and those of a key keep their order.
func (in *input) produce(ctx context.Context, stop <-chan struct{}) error {
	began := time.Now()
	for from := in.put.Load(); in.most == 0 || from < in.most; from += chunk {
		select {
		case <-stop:
			return nil
		default:
		}
		blocks := make([]block.Builder, len(in.shards))
		for i := from; i < from+chunk; i++ {
			r := in.script.Record(i)
			key := strconv.FormatUint(r.Key, 36)
			hash := stream.HashOf(key)
			place, _ := in.router.Shard(hash)
			blocks[place].Add(key, hash, ledger.AppendRecord(nil, r))
		}
		g, putting := errgroup.WithContext(ctx)
		for i := range blocks {
			if blocks[i].Count() == 0 {
				continue
			}
			b := blocks[i].Finish()
			g.Go(func() error { return in.append(putting, in.shards[i], b) })
		}
		if err := g.Wait(); err != nil {
			return err
		}
		in.put.Add(chunk)
		due := began.Add(time.Duration(in.put.Load()) * time.Second / time.Duration(in.rate))
		if time.Until(due) < -time.Second {
			began = time.Now().Add(-time.Duration(in.put.Load()) * time.Second / time.Duration(in.rate)) // no rush after a pause
		}
		select {
		case <-time.After(time.Until(due)):
		case <-stop:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (in *input) append(ctx context.Context, shard client.Shard, b block.Block) error {
	for {
		asking, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, err := in.client.Append(asking, shard, b)
		cancel()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if k := stream.KindOf(err); k != stream.Unavailable && k != stream.NotOwner && !errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("put to shard %d: %w", shard.Index, err)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// read hands the records of one shard to f, in order, until ctx ends.
func readShard(ctx context.Context, cl *client.Client, shard client.Shard, f func(data [][]byte)) error {
	at := stream.Position{From: stream.FromTrimHorizon}
	for ctx.Err() == nil {
		asking, cancel := context.WithTimeout(ctx, 5*time.Second)
		a, err := cl.Read(asking, shard, client.ReadRequest{At: at, Wait: time.Second})
		cancel()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			k := stream.KindOf(err)
			if k == stream.Unavailable || k == stream.NotOwner || errors.Is(err, context.DeadlineExceeded) {
				select {
				case <-time.After(20 * time.Millisecond):
				case <-ctx.Done():
				}
				continue
			}
			return fmt.Errorf("read shard %d of %s: %w", shard.Index, shard.Stream, err)
		}
		if a.Skipped > 0 {
			return fmt.Errorf("shard %d of %s: %d records are gone", shard.Index, shard.Stream, a.Skipped)
		}
		if a.Records == nil {
			continue
		}
		var data [][]byte
		it := a.Records.Records()
		for r := (block.Record{}); it.Next(&r); {
			data = append(data, r.Data)
		}
		if err := it.Err(); err != nil {
			return err
		}
		f(data)
		at = stream.Position{From: stream.FromAfterSequence, Sequence: a.Next}
	}
	return nil
}
