//go:build linux

package chaos

import (
	"context"
	"fmt"
	"math/big"
	"time"

	"github.com/millrace/millrace/stream"
	"github.com/millrace/millrace/stream/client"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// A stream that is split and merged keeps between fewestShards and mostShards open.
const (
	fewestShards = 2
	mostShards   = 8
)

// splitShard splits a shard of the input, or of the output where the job writes a
// stream; it merges two where there are too many.
func (r *run) splitShard(ctx context.Context, _ Step) (string, func() error, error) {
	return r.reshard(ctx, func(open int) bool { return open < mostShards })
}

// mergeShards merges two neighbours, or splits a shard where there are too few.
func (r *run) mergeShards(ctx context.Context, _ Step) (string, func() error, error) {
	return r.reshard(ctx, func(open int) bool { return open <= fewestShards })
}

// reshard has the catalog begin a change, and every other time kills the job
// manager or the host of a parent while it is under way. It ends when the children
// are open.
func (r *run) reshard(ctx context.Context, split func(open int) bool) (string, func() error, error) {
	name := inputStream
	if r.cfg.Stream && r.rng.IntN(2) == 0 {
		name = outputStream
	}
	var what string
	var parents []*pb.Shard
	before, doubt := 0, false
	err := eventually(ctx, r.cfg.Patience, "stream "+name+" is split or merged", func() (bool, string) {
		// An earlier change goes on as hosts come back.
		s, err := r.settledStream(ctx, name)
		if err != nil {
			return false, err.Error()
		}
		if doubt && len(s.GetShards()) > before {
			return true, "" // nobody was left to say that it was done
		}
		_, open, err := stream.RouteOf(s)
		if err != nil {
			return false, err.Error()
		}
		before = len(s.GetShards())
		var change *pb.StreamCommand
		change, parents = r.drawChange(name, open, split(len(open)))
		what = fmt.Sprintf("%s %v of %d", name, indexes(parents), len(open))
		err = r.command(ctx, change)
		doubt = doubt || err != nil && away(err)
		return err == nil, fmt.Sprintf("%s: %v", what, err)
	})
	if err != nil {
		return what, nil, err
	}
	killed := r.killAmong(ctx, parents)
	if killed != nil {
		what += ", " + killed.name + " killed"
		r.brokenAt = time.Now()
	}
	return what, func() error {
		if killed != nil {
			if err := killed.awaitReady(ctx); err != nil {
				return err
			}
		}
		_, err := r.settledStream(ctx, name)
		return err
	}, nil
}

// drawChange draws a shard and where to split it, or two neighbours to merge.
func (r *run) drawChange(name string, open []*pb.Shard, split bool) (*pb.StreamCommand, []*pb.Shard) {
	if !split {
		i := r.rng.IntN(len(open) - 1)
		return &pb.StreamCommand{Body: &pb.StreamCommand_Merge{Merge: &pb.MergeShards{
			Name: name, Shard: open[i].GetIndex(), Adjacent: open[i+1].GetIndex(),
		}}}, open[i : i+2]
	}
	sh := open[r.rng.IntN(len(open))]
	first, last := new(big.Int).SetBytes(sh.GetHashFirst()), new(big.Int).SetBytes(sh.GetHashLast())
	at := last.Sub(last, first)
	at.Mul(at, big.NewInt(256+r.rng.Int64N(512))).Rsh(at, 10).Add(at, first).Add(at, big.NewInt(1))
	return &pb.StreamCommand{Body: &pb.StreamCommand_Split{Split: &pb.SplitShard{
		Name: name, Shard: sh.GetIndex(), StartingHash: at.FillBytes(make([]byte, len(stream.HashKey{}))),
	}}}, []*pb.Shard{sh}
}

func indexes(shards []*pb.Shard) (all []uint32) {
	for _, sh := range shards {
		all = append(all, sh.GetIndex())
	}
	return all
}

// command has a task manager pass a command on to the job manager. It returns when
// the command is durable and, of a change of shards, only the first step is made.
func (r *run) command(ctx context.Context, cmd *pb.StreamCommand) error {
	var last error = stream.Errorf(stream.Unavailable, "no task manager is known")
	for _, address := range r.cluster.shardSockets(ctx) {
		one := client.New(client.Config{Address: address, RetryFor: -1})
		asking, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := one.Command(asking, cmd)
		cancel()
		_ = one.Close()
		if err == nil || !away(err) {
			return err
		}
		last = err
	}
	return last
}

// killAmong kills the job manager or the host of one of the shards soon after their
// change has begun, or nothing.
func (r *run) killAmong(ctx context.Context, parents []*pb.Shard) *process {
	victim, owner := r.rng.IntN(4), parents[r.rng.IntN(len(parents))].GetOwner()
	if victim > 1 || r.pause(ctx, r.between(0, 30*time.Millisecond)) != nil {
		return nil
	}
	p := r.cluster.jm
	if victim == 1 {
		for _, tm := range r.cluster.tms {
			if tm.id.Load() == owner {
				p = tm
			}
		}
	}
	r.kill(p)
	return p
}

// settledStream waits until no change of a stream is under way.
func (r *run) settledStream(ctx context.Context, name string) (*pb.Stream, error) {
	return describe(ctx, r.client, name, r.cfg.Patience, "has settled", func(s *pb.Stream) bool {
		settled := s.GetStatus() == pb.Stream_STATUS_ACTIVE
		for _, sh := range s.GetShards() {
			settled = settled && (sh.GetClosed() || sh.GetChange() == pb.Shard_CHANGE_UNSPECIFIED)
		}
		return settled
	})
}
