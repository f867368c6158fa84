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
type item struct {
	kind Kind
	// Of a Data item either batch (local) or frame (remote) is set.
	batch *columns
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
type channel struct {
	number uint32
	hashed bool
	// sender is the sending subtask, edge its edge: for messages.
	sender int
	edge   *Edge

	items ring[item]
	// barriers counts those in items; ahead is how many items a barrier of this
	// channel, which was taken, has overtaken.
	barriers int
	ahead    int
	rows     int
	bytes    int
	queued   bool
	blocked  bool

	// Local only.
	free    []*columns
	room    chan struct{}
	waiting bool

	// Remote only.
	from *inbound
	// owed is consumed credit that was not given back yet.
	owed       int
	overdrafts int
}

// take returns an empty batch, a recycled one where there is one.
func (c *channel) take(k kind) *columns {
	if k := len(c.free); k > 0 {
		b := c.free[k-1]
		c.free[k-1] = nil
		c.free = c.free[:k-1]
		return b
	}
	return k.make()
}

// grows says that the last item in the queue may take in what comes: it is not
// one that came before a barrier which is gone from behind it.
func (c *channel) grows() bool { return c.items.len() > c.ahead }

// absorb adds a small batch to the last one in the queue, if that has room:
// a receiver that lags behind then finds full batches instead of many small ones.
func (c *channel) absorb(b *columns, bytes, bound int, k kind) bool {
	if !c.grows() || b.len() > batch.Rows/4 {
		return false
	}
	last := c.items.last()
	if last.kind != Data || last.rows+b.len() > min(batch.Rows, max(1, bound/batchesPerBound)) || last.bytes+bytes > batchBytes {
		return false
	}
	last.batch.add(b, 0, b.len(), c.hashed, k)
	last.batch.fillOps()
	last.rows += b.len()
	last.bytes += bytes
	c.rows += b.len()
	c.bytes += bytes
	return true
}
