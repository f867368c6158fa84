package exchange

import (
	"github.com/millrace/millrace/runtime/barrier"
	"github.com/millrace/millrace/runtime/batch"
)

const (
	// maxQueued bounds the items of a local channel, whatever their size.
	maxQueued = 16
	// maxOverdrafts bounds the frames that a sender may put into a remote
	// channel without credit: barriers, and what precedes them.
	maxOverdrafts = 1 << 16
)

// item is one thing in a channel.
type item[T any] struct {
	kind Kind
	// Of a Data item either batch (local) or frame (remote) is set.
	batch *batch.Batch[T]
	frame []byte
	rows  int
	// bytes is what the item counts for in the channel's bound.
	bytes   int
	time    int64
	barrier barrier.Barrier
}

// channel is the receiving half of one channel. It is guarded by its gate's
// mutex.
//
// Invariants:
//  1. queued is true exactly while the channel's index is in the gate's ready
//     ring.
//  2. A channel with items that is not blocked is queued, and so is a blocked
//     one with items ahead.
//  3. rows and bytes count what is in items, and the batch that Poll is at.
//  4. The first ahead items of a channel came before its last barrier that was
//     taken; of a blocked channel they are part of the checkpoint that it is
//     blocked for.
//  5. waiting is true only while the sender of a local channel waits on room.
type channel[T any] struct {
	number uint32
	hashed bool
	// sender is the sending subtask, edge its edge: for messages.
	sender int
	edge   *Edge

	items ring[item[T]]
	// barriers counts those in items; ahead is how many items a barrier of this
	// channel, which was taken, has overtaken.
	barriers int
	ahead    int
	rows     int
	bytes    int
	queued   bool
	blocked  bool

	// Local only.
	free    []*batch.Batch[T]
	room    chan struct{}
	waiting bool

	// Remote only.
	from *inbound
	// owed is consumed credit that was not given back yet.
	owed       int
	overdrafts int
}

// take returns an empty batch, a recycled one where there is one.
func (c *channel[T]) take() *batch.Batch[T] {
	if k := len(c.free); k > 0 {
		b := c.free[k-1]
		c.free[k-1] = nil
		c.free = c.free[:k-1]
		return b
	}
	return new(batch.Batch[T])
}

// grows says that the last item in the queue may take in what comes: it is not
// one that came before a barrier which is gone from behind it.
func (c *channel[T]) grows() bool { return c.items.len() > c.ahead }

// absorb adds a small batch to the last one in the queue, if that has room:
// a receiver that lags behind then finds full batches instead of many small ones.
func (c *channel[T]) absorb(b *batch.Batch[T], bytes, bound int) bool {
	if !c.grows() || b.Len() > batch.Rows/4 {
		return false
	}
	last := c.items.last()
	if last.kind != Data || last.rows+b.Len() > min(batch.Rows, max(1, bound/batchesPerBound)) || last.bytes+bytes > batchBytes {
		return false
	}
	if len(b.Ops) > 0 || len(last.batch.Ops) > 0 {
		last.batch.Ops = append(batch.FillOps(last.batch.Ops, last.rows), batch.FillOps(b.Ops, b.Len())...)
	}
	last.batch.Values = append(last.batch.Values, b.Values...)
	last.batch.Times = append(last.batch.Times, b.Times...)
	last.batch.Hashes = append(last.batch.Hashes, b.Hashes...)
	last.rows += b.Len()
	last.bytes += bytes
	c.rows += b.Len()
	c.bytes += bytes
	return true
}
