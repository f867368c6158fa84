//go:build linux

package chaos

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/stream"
	"github.com/millrace/millrace/stream/block"
	"github.com/millrace/millrace/stream/client"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// follower reads a stream from its first record on: each shard to its end, and a
// child once all its parents have ended.
type follower struct {
	client   *client.Client
	stream   string
	patience time.Duration
	// take is told of records of a shard, in their order, and of none when the
	// shard begins. It is called from one goroutine a shard.
	take func(ctx context.Context, sh *pb.Shard, data [][]byte)
}

// run ends with ctx, or with what cannot be read.
func (f *follower) run(ctx context.Context) error {
	desc, err := describe(ctx, f.client, f.stream, f.patience, "is there", func(*pb.Stream) bool { return true })
	if err != nil {
		return err
	}
	g, reading := errgroup.WithContext(ctx)
	begun, over := map[uint32]bool{}, map[uint32]bool{}
	ended := make(chan uint32)
	for {
		for _, sh := range desc.GetShards() {
			ready := !begun[sh.GetIndex()] && sh.GetChange() != pb.Shard_CHANGE_OPENING
			for _, p := range parentsOf(sh) {
				ready = ready && over[uint32(p)]
			}
			if !ready {
				continue
			}
			begun[sh.GetIndex()] = true
			g.Go(func() error {
				f.take(reading, sh, nil)
				at := client.Shard{Stream: desc.GetName(), Generation: desc.GetGeneration(), Index: sh.GetIndex()}
				err := readShard(reading, f.client, at, stream.Position{From: stream.FromTrimHorizon}, func(data [][]byte) { f.take(reading, sh, data) })
				if err != nil || reading.Err() != nil {
					return err
				}
				select {
				case ended <- sh.GetIndex():
				case <-reading.Done():
				}
				return nil
			})
		}
		select {
		case index := <-ended:
			over[index] = true
			if desc, err = describe(ctx, f.client, f.stream, f.patience, fmt.Sprintf("has children of shard %d", index), func(s *pb.Stream) bool {
				return closed(s, index)
			}); err != nil {
				return errors.Join(err, g.Wait())
			}
		case <-reading.Done():
			return g.Wait()
		}
	}
}

// describe asks for a stream until it is as it should be. The task manager that
// answers may be behind the others.
func describe(ctx context.Context, cl *client.Client, name string, patience time.Duration, what string, good func(*pb.Stream) bool) (s *pb.Stream, err error) {
	err = eventually(ctx, patience, "stream "+name+" "+what, func() (bool, string) {
		var err error
		if s, err = cl.Describe(ctx, name); err != nil {
			return false, err.Error()
		}
		return good(s), fmt.Sprintf("%v, %d shards", s.GetStatus(), len(s.GetShards()))
	})
	return s, err
}

// closed says whether a shard has given way to its children, which are then open.
func closed(s *pb.Stream, index uint32) bool {
	for _, sh := range s.GetShards() {
		if sh.GetIndex() == index {
			return sh.GetClosed()
		}
	}
	return false
}

// parentsOf are the shards that a shard follows.
func parentsOf(sh *pb.Shard) (parents []int) {
	for _, p := range []uint32{sh.GetParent(), sh.GetAdjacentParent()} {
		if p > 0 {
			parents = append(parents, int(p)-1)
		}
	}
	return parents
}

// readShard hands the records of one shard to f, in order, until the shard or ctx
// ends.
func readShard(ctx context.Context, cl *client.Client, shard client.Shard, at stream.Position, f func(data [][]byte)) error {
	for ctx.Err() == nil {
		asking, cancel := context.WithTimeout(ctx, 5*time.Second)
		a, err := cl.Read(asking, shard, client.ReadRequest{At: at, Wait: time.Second})
		cancel()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if away(err) {
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
		if a.Records != nil {
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
		if a.End {
			return nil
		}
	}
	return nil
}

// away says whether an error is that of a host which is not there now.
func away(err error) bool {
	k := stream.KindOf(err)
	return k == stream.Unavailable || k == stream.NotOwner || errors.Is(err, context.DeadlineExceeded)
}
