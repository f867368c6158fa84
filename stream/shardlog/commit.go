package shardlog

import (
	"context"

	"github.com/cockroachdb/pebble/v2"

	"github.com/millrace/millrace/internal/planted"
	"github.com/millrace/millrace/stream"
)

// op is one write on its way through the committer.
//
//	caller ──queue──▶ prepare ─▶ batch ─▶ fsync ─▶ publish ─▶ done ──▶ caller
//
// prepare runs on the committer; it may change what the committer owns, for a
// batch that does not get to disk ends the log. publish runs after the fsync,
// if prepare did not refuse, and makes the change visible to readers.
type op struct {
	// bytes is about what the op adds to the batch.
	bytes int
	// grows says that the op must be refused when the disk is full.
	grows   bool
	prepare func(b *pebble.Batch) error
	publish func()
	err     error
	done    chan struct{}
}

// submit queues an op; wait must follow.
func (l *Log) submit(ctx context.Context, o *op) error {
	if err := l.fault.err(); err != nil {
		return err
	}
	o.done = make(chan struct{})
	select {
	case l.queue <- o:
		return nil
	case <-l.stopped:
		return l.stoppedError()
	case <-ctx.Done():
		return stream.Errorf(stream.Unavailable, "wait for the shard log: %w", ctx.Err())
	}
}

// wait returns the op's outcome. An Unavailable or StoreFailed error leaves it
// open.
func (l *Log) wait(ctx context.Context, o *op) error {
	select {
	case <-o.done:
		return o.err
	default:
	}
	select {
	case <-o.done:
		return o.err
	case <-l.stopped:
		return l.stoppedError()
	case <-ctx.Done():
		return stream.Errorf(stream.Unavailable, "wait for the shard log: %w", ctx.Err())
	}
}

func (l *Log) do(ctx context.Context, o *op) error {
	if err := l.submit(ctx, o); err != nil {
		return err
	}
	return l.wait(ctx, o)
}

func (l *Log) stoppedError() error {
	if err := l.fault.err(); err != nil {
		return err
	}
	return stream.Errorf(stream.Unavailable, "shard log %s is shutting down", l.dir)
}

func (l *Log) commitLoop(ctx context.Context) {
	group := make([]*op, 0, groupOps)
	for {
		select {
		case o := <-l.queue:
			group = l.gather(append(group[:0], o))
		case <-ctx.Done():
			return
		}
		if err := l.commitGroup(group); err != nil {
			l.fault.raise(err)
			return
		}
		clear(group)
	}
}

// gather takes what else waits, up to the bounds of a batch.
func (l *Log) gather(group []*op) []*op {
	size := group[0].bytes
	for size < groupBytes && len(group) < groupOps {
		select {
		case o := <-l.queue:
			group = append(group, o)
			size += o.bytes
		default:
			return group
		}
	}
	return group
}

// commitGroup writes a group. An error ends the log; nothing of the group is
// acknowledged then.
func (l *Log) commitGroup(group []*op) error {
	full := l.room.check(group)
	size := 0
	for _, o := range group {
		size += o.bytes
	}
	b := l.db.NewBatchWithSize(size + 1024)
	for _, o := range group {
		if full != nil && o.grows {
			o.err = full
			continue
		}
		o.err = o.prepare(b)
		if o.err != nil && l.fault.err() != nil {
			return l.fault.err()
		}
	}
	if !b.Empty() {
		if err := l.apply(b); err != nil {
			return stream.Errorf(stream.StoreFailed, "write to the shard log in %s: %w: what was not acknowledged may be lost; it takes no more writes until its process is started again", l.dir, err)
		}
	} else if err := b.Close(); err != nil {
		return stream.Errorf(stream.Internal, "discard an empty batch: %w", err)
	}
	for _, o := range group {
		if o.err == nil && o.publish != nil {
			o.publish()
		}
		close(o.done)
	}
	return nil
}

// apply writes and syncs. Pebble's own Apply with Sync takes a sync that fails for
// the end; waiting for the sync apart returns the error.
func (l *Log) apply(b *pebble.Batch) error {
	if l.opt.withoutSync || planted.FsyncRemoved {
		if err := l.db.Apply(b, pebble.NoSync); err != nil {
			return err
		}
		return b.Close()
	}
	if err := l.db.ApplyNoSyncWait(b, pebble.Sync); err != nil {
		return err
	}
	if err := b.SyncWait(); err != nil {
		return err
	}
	return b.Close()
}
