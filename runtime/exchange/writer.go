package exchange

import (
	"time"

	"github.com/millrace/millrace/runtime/barrier"
)

// Writer is the sending end of one edge at one subtask. Records reach it
// through the output that it is attached to. Its methods are for the task's
// goroutine; all may wait for room, but Barrier and Pending.
type Writer interface {
	// Flush sends what is in open batches.
	Flush() error
	// Pending says whether open batches hold records.
	Pending() bool
	// Watermark, Idle and Active flush and send the event to every channel.
	Watermark(t int64) error
	Idle() error
	Active() error
	// Barrier flushes and sends the barrier to every channel, without
	// waiting for room.
	Barrier(b barrier.Barrier) error
	// Stats counts what was sent.
	Stats() WriterStats
}

// WriterStats are totals of a writer.
type WriterStats struct {
	Batches uint64
	Rows    uint64
	// Bytes counts what went over the wire.
	Bytes uint64
	// Blocked is the time spent waiting for room: backpressure.
	Blocked time.Duration
}

// WriterConfig says which edge a writer is for.
type WriterConfig struct {
	// Edge is the id of the edge in the network's Topology.
	Edge    int
	Subtask int
	From    Out
	// To is the receiving operator's name, for messages.
	To string
	// Key fills the hash column on hash edges: a func(*batch.Batch[T]). On custom
	// ones it chooses the receiver of a record: a func(T, int) int.
	Key any
	// Park waits until room can be received from, or the attempt ends, and
	// returns an error in that case. It lets a task answer for itself while
	// it is held back. pressed says that it does not wait for room: a barrier
	// waits for the task, and what is before it goes beyond the bound, as the
	// barrier does. Nil waits for room or the end of the network.
	Park func(room <-chan struct{}) (pressed bool, err error)
}
