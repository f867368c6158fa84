package shards

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/sdk"
	"github.com/millrace/millrace/stream"
	"github.com/millrace/millrace/stream/client"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Sink writes a stream of the cluster, encoding records with codec. key gives
// each its partition key, of 1 to 256 characters, which decides its shard. A
// missing stream is created, with 4 shards (see CreateShards).
//
// Each record is delivered exactly once, and becomes readable when the
// checkpoint that covers it has completed; see AtLeastOnce.
func Sink[T any](name string, codec sdk.Codec[T], key func(v T) string, opts ...SinkOption) sdk.Sink[T] {
	c := sinkConfig{shards: 4}
	for _, o := range opts {
		o(&c)
	}
	target := target[T]{stream: name, codec: codec, key: key, shards: c.shards}
	if c.atLeastOnce {
		return &appending[T]{target}
	}
	return &staging[T]{target}
}

// SinkOption changes Sink.
type SinkOption func(*sinkConfig)

type sinkConfig struct {
	shards      int
	atLeastOnce bool
}

// CreateShards sets the number of shards of a stream that Sink creates.
func CreateShards(n int) SinkOption { return func(c *sinkConfig) { c.shards = n } }

// AtLeastOnce appends records as they come, so that readers see them at once,
// and again after a failure.
func AtLeastOnce() SinkOption { return func(c *sinkConfig) { c.atLeastOnce = true } }

// target is where both kinds of sinks write.
type target[T any] struct {
	stream string
	codec  sdk.Codec[T]
	key    func(T) string
	shards int
}

func (t *target[T]) Name() string { return "to-" + t.stream }

func (t *target[T]) Check() error {
	if t.codec == nil || t.key == nil {
		return fmt.Errorf("shards: the sink of stream %s needs a codec and a key function", t.stream)
	}
	if t.shards < 1 || t.shards > stream.MaxShards {
		return fmt.Errorf("shards: stream %s with %d shards: it may have 1 to %d", t.stream, t.shards, stream.MaxShards)
	}
	if err := stream.CheckName(t.stream); err != nil {
		return err
	}
	if c, ok := t.codec.(interface{ Check() error }); ok {
		return c.Check()
	}
	return nil
}

// open returns the process's link and the stream, created if it is missing.
func (t *target[T]) open(ctx context.Context, env sdk.SinkEnv) (*link, *pb.Stream, error) {
	l, err := dial(env.ShardAddress, env.Log)
	if err != nil {
		return nil, nil, fmt.Errorf("write stream %s: %w", t.stream, err)
	}
	s, err := ensure(ctx, l, t.stream, t.shards)
	if err != nil {
		return nil, nil, errors.Join(err, l.release())
	}
	return l, s, nil
}

// staging is the transactional sink. A subtask numbers its transactions from 1
// in each epoch and ends one at each barrier; barriers are the same for all
// subtasks, so a number names one transaction of the whole sink.
type staging[T any] struct{ target[T] }

func (s *staging[T]) Open(ctx context.Context, env sdk.SinkEnv) (sdk.Writer[T], error) {
	l, described, err := s.open(ctx, env)
	if err != nil {
		return nil, err
	}
	st, err := l.OpenStager(ctx, client.StagerConfig{
		Stream: described, Lineage: env.Lineage, Sink: env.UID, Epoch: env.Epoch, Subtask: uint32(env.Subtask), Transaction: 1, Park: env.Park,
	})
	if err != nil {
		return nil, errors.Join(err, l.release())
	}
	return &stagingWriter[T]{target: &s.target, link: l, stager: st, next: 2}, nil
}

type stagingWriter[T any] struct {
	*target[T]
	link   *link
	stager *client.Stager
	next   uint64
	buf    []byte
}

func (w *stagingWriter[T]) Write(b *sdk.Batch[T]) (err error) {
	for i := range b.Values {
		if w.buf, err = w.codec.Append(w.buf[:0], b.Values[i]); err != nil {
			return fmt.Errorf("stream %s: encode %+v: %w", w.stream, b.Values[i], err)
		}
		key := w.key(b.Values[i])
		if err := w.stager.Add(key, stream.HashOf(key), w.buf); err != nil {
			return fmt.Errorf("stream %s: %w", w.stream, err)
		}
	}
	return nil
}

func (w *stagingWriter[T]) Flush() error {
	if err := w.stager.Flush(); err != nil {
		return fmt.Errorf("stream %s: %w", w.stream, err)
	}
	return nil
}

// Prepare implements sdk.Preparer.
func (w *stagingWriter[T]) Prepare(uint64) (func(context.Context) ([]byte, error), error) {
	tx, wait, err := w.stager.Finish(w.next)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", w.stream, err)
	}
	w.next++
	return func(ctx context.Context) ([]byte, error) {
		counts, err := wait(ctx)
		switch {
		case err != nil:
			return nil, fmt.Errorf("stream %s: %w", w.stream, err)
		case len(counts) == 0:
			return nil, nil
		}
		return handle{tx: tx, counts: counts}.encode(), nil
	}, nil
}

func (w *stagingWriter[T]) Close() error {
	err := w.stager.Close()
	if e := w.link.release(); err == nil {
		err = e
	}
	return err
}

// Recover implements sdk.Transactional: it fences the shards first, so that
// nothing of an older attempt can change while the rest is settled.
func (s *staging[T]) Recover(ctx context.Context, env sdk.SinkEnv, _ uint64, handles []sdk.Handle) error {
	l, described, err := s.open(ctx, env)
	if err != nil {
		return err
	}
	defer l.release()
	commits, err := s.commits(described, handles)
	if err != nil {
		return err
	}
	g, fencing := errgroup.WithContext(ctx)
	for _, sh := range described.GetShards() {
		shard := client.Shard{Stream: described.GetName(), Generation: described.GetGeneration(), Index: sh.GetIndex()}
		var keep []*pb.Transaction
		for _, c := range commits {
			if c.shard == shard {
				keep = append(keep, c.tx)
			}
		}
		g.Go(func() error {
			if _, err := l.Fence(fencing, shard, env.Lineage, env.UID, env.Epoch, keep); err != nil {
				return fmt.Errorf("fence %s of stream %s: %w", stream.ShardName(shard.Index), shard.Stream, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return commitAll(ctx, l, commits)
}

// Commit implements sdk.Transactional.
func (s *staging[T]) Commit(ctx context.Context, env sdk.SinkEnv, _ uint64, handles []sdk.Handle) error {
	if len(handles) == 0 {
		return nil
	}
	l, described, err := s.open(ctx, env)
	if err != nil {
		return err
	}
	defer l.release()
	commits, err := s.commits(described, handles)
	if err != nil {
		return err
	}
	return commitAll(ctx, l, commits)
}

// commit is one transaction at one shard, of all subtasks.
type commit struct {
	shard  client.Shard
	tx     *pb.Transaction
	staged []*pb.StagedCount
}

// commits gathers handles by shard and transaction, oldest first: a shard makes
// all subtasks' blocks of one transaction readable at once.
func (s *staging[T]) commits(described *pb.Stream, handles []sdk.Handle) ([]*commit, error) {
	var all []*commit
	for _, raw := range handles {
		h, err := decodeHandle(raw.Value)
		if err != nil {
			return nil, fmt.Errorf("stream %s: the handle of subtask %d: %w", s.stream, raw.Subtask, err)
		}
		for _, n := range h.counts {
			if n.Shard.Stream != described.GetName() || n.Shard.Generation != described.GetGeneration() {
				return nil, fmt.Errorf("stream %s holds output of the restored checkpoint that is not committed, and was deleted since "+
					"(or the sink, under the same name, writes stream %s now): restore with allowed loss of this sink's name, or keep the stream", n.Shard.Stream, s.stream)
			}
			all = merge(all, n, h.tx, uint32(raw.Subtask))
		}
	}
	slices.SortStableFunc(all, func(a, b *commit) int {
		return cmp.Or(cmp.Compare(a.tx.Epoch, b.tx.Epoch), cmp.Compare(a.tx.Checkpoint, b.tx.Checkpoint))
	})
	return all, nil
}

func merge(all []*commit, n client.ShardCount, tx *pb.Transaction, subtask uint32) []*commit {
	staged := &pb.StagedCount{Subtask: subtask, Blocks: n.Blocks, Records: n.Records}
	for _, c := range all {
		if c.shard == n.Shard && c.tx.Epoch == tx.Epoch && c.tx.Checkpoint == tx.Checkpoint && c.tx.Lineage == tx.Lineage {
			c.staged = append(c.staged, staged)
			return all
		}
	}
	return append(all, &commit{shard: n.Shard, tx: tx, staged: []*pb.StagedCount{staged}})
}

// commitAll commits shard by shard side by side; at one shard in order.
func commitAll(ctx context.Context, l *link, commits []*commit) error {
	byShard := map[client.Shard][]*commit{}
	for _, c := range commits {
		byShard[c.shard] = append(byShard[c.shard], c)
	}
	g, committing := errgroup.WithContext(ctx)
	for shard, list := range byShard {
		g.Go(func() error {
			for _, c := range list {
				if _, _, err := l.Commit(committing, shard, c.tx, c.staged); err != nil {
					return fmt.Errorf("commit transaction %d of epoch %d at %s of stream %s: %w",
						c.tx.Checkpoint, c.tx.Epoch, stream.ShardName(shard.Index), shard.Stream, err)
				}
			}
			return nil
		})
	}
	return g.Wait()
}
