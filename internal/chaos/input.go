//go:build linux

package chaos

import (
	"context"
	"fmt"
	"strconv"
	"sync"
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

// input is the producer of the input stream. It follows the shards as they are
// split and merged.
type input struct {
	client   *client.Client
	script   ledger.Script
	patience time.Duration
	// put is how many entries are acknowledged.
	put  atomic.Uint64
	rate int
	most uint64 // 0 without an end

	mu struct {
		sync.Mutex
		desc   *pb.Stream
		router *stream.Router
		open   []*pb.Shard
		// last are the records that shards have acknowledged last.
		last map[uint32]stream.Sequence
	}
}

func openInput(ctx context.Context, c *cluster, cl *client.Client, script ledger.Script, rate int, most uint64) (*input, error) {
	in := &input{client: cl, script: script, patience: c.cfg.Patience, rate: rate, most: most}
	in.mu.last = map[uint32]stream.Sequence{}
	return in, in.reroute(ctx, "is there", func(*pb.Stream) bool { return true })
}

// reroute learns the open shards, once the stream is as it should be.
func (in *input) reroute(ctx context.Context, what string, good func(*pb.Stream) bool) error {
	desc, err := describe(ctx, in.client, inputStream, in.patience, what, good)
	if err != nil {
		return err
	}
	router, open, err := stream.RouteOf(desc)
	if err != nil {
		return err
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.mu.desc, in.mu.router, in.mu.open = desc, router, open
	return nil
}

// parcels are blocks by the shards that take them.
type parcels map[client.Shard]*block.Builder

// add adds a record, behind those of its key that are there.
func (in *input) add(to parcels, key string, data []byte) {
	hash := stream.HashOf(key)
	in.mu.Lock()
	defer in.mu.Unlock()
	place, _ := in.mu.router.Shard(hash)
	shard := client.Shard{Stream: in.mu.desc.GetName(), Generation: in.mu.desc.GetGeneration(), Index: in.mu.open[place].GetIndex()}
	if to[shard] == nil {
		to[shard] = &block.Builder{}
	}
	to[shard].Add(key, hash, data)
}

// produce puts entries until stop is closed. What is not acknowledged is put
// again, at the same shard or its children, before anything else: those of a key
// keep their order, and none is left out. One may be twice in a shard whose answer
// was lost, and never in a shard and its child.
func (in *input) produce(ctx context.Context, stop <-chan struct{}) error {
	began := time.Now()
	for from := in.put.Load(); in.most == 0 || from < in.most; from += chunk {
		select {
		case <-stop:
			return nil
		default:
		}
		all := parcels{}
		for i := from; i < from+chunk; i++ {
			r := in.script.Record(i)
			in.add(all, strconv.FormatUint(r.Key, 36), ledger.AppendRecord(nil, r))
		}
		if err := in.putAll(ctx, all); err != nil {
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

// putAll returns when every block is acknowledged.
func (in *input) putAll(ctx context.Context, all parcels) error {
	g, putting := errgroup.WithContext(ctx)
	for shard, b := range all {
		g.Go(func() error { return in.append(putting, shard, b.Finish()) })
	}
	return g.Wait()
}

func (in *input) append(ctx context.Context, shard client.Shard, b block.Block) error {
	for doubt := false; ; doubt = true {
		asking, cancel := context.WithTimeout(ctx, 5*time.Second)
		a, err := in.client.Append(asking, shard, b)
		cancel()
		switch {
		case err == nil:
			in.mu.Lock()
			in.mu.last[shard.Index] = a.Last
			in.mu.Unlock()
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case stream.KindOf(err) == stream.Closed:
			return in.appendToChildren(ctx, shard, b, doubt)
		case !away(err):
			return fmt.Errorf("put to shard %d: %w", shard.Index, err)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// appendToChildren puts a block that a shard has refused because it has ended. With
// doubt the shard may have taken it before, and not have been able to say so: its
// end is read first.
func (in *input) appendToChildren(ctx context.Context, shard client.Shard, b block.Block, doubt bool) error {
	err := in.reroute(ctx, fmt.Sprintf("has children of shard %d", shard.Index), func(s *pb.Stream) bool { return closed(s, shard.Index) })
	if err != nil {
		return err
	}
	all, most := parcels{}, 0
	waiting := map[string]bool{}
	it := b.Records()
	for r := (block.Record{}); it.Next(&r); most++ {
		waiting[string(r.Data)] = true
		in.add(all, string(r.Key), r.Data)
	}
	if err := it.Err(); err != nil {
		return err
	}
	if doubt {
		at := stream.Position{From: stream.FromTrimHorizon}
		in.mu.Lock()
		if last, ok := in.mu.last[shard.Index]; ok {
			at = stream.Position{From: stream.FromAfterSequence, Sequence: last}
		}
		in.mu.Unlock()
		if err := readShard(ctx, in.client, shard, at, func(data [][]byte) {
			for _, d := range data {
				delete(waiting, string(d))
			}
		}); err != nil {
			return err
		}
		switch len(waiting) {
		case 0:
			return nil
		case most:
		default:
			return fmt.Errorf("atomicity: shard %d has taken %d of the %d records of a block", shard.Index, most-len(waiting), most)
		}
	}
	return in.putAll(ctx, all)
}
