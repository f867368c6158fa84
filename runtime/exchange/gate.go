package exchange

import "github.com/millrace/millrace/runtime/barrier"

// Kind is what Poll took in.
type Kind uint8

// The kinds of items. None: nothing is there, wait for Notify.
const (
	None Kind = iota
	Data
	Watermark
	Barrier
	Idle
	Active
)

func (k Kind) String() string {
	switch k {
	case None:
		return "none"
	case Data:
		return "data"
	case Watermark:
		return "watermark"
	case Barrier:
		return "barrier"
	case Idle:
		return "idle"
	case Active:
		return "active"
	}
	return "unknown"
}

// Item is one thing that came out of a channel.
type Item struct {
	Kind    Kind
	Channel int
	// Rows and Bytes of a Data item. Bytes is what the batch took on the
	// wire, 0 from a local channel.
	Rows  int
	Bytes int
	// Time of a Watermark.
	Time int64
	// Barrier of a Barrier.
	Barrier barrier.Barrier
}

// Gate is the receiving end of one input of one subtask: all the channels of
// all the edges that reach that input. Its methods are for the task's
// goroutine; none of them blocks.
type Gate interface {
	// Channels is the number of channels; Item.Channel counts from 0, edge by
	// edge in the order of the vertex's inputs, then by sending subtask.
	Channels() int
	// Poll takes the next item from a channel that is not blocked, the
	// channels taking turns. A batch has been pushed into the operator and
	// recycled when Poll returns. An error is the operator's, or names the
	// channel whose bytes do not decode.
	Poll() (Item, error)
	// TakeBarrier takes the first barrier of a channel that is not blocked, and
	// nothing else: for a task whose operator has work to do before it takes
	// more input. With overtake the barrier is taken past what is before it in
	// the queue, unless it is terminal, the edge is forward or broadcast, or that is
	// more than a checkpoint may hold.
	TakeBarrier(overtake bool) (Item, bool)
	// Pressed says that a barrier waits in a channel that is not blocked.
	Pressed() bool
	// InFlight returns the records, encoded, that barriers have overtaken and
	// that Poll has not returned yet: part of the checkpoint. It is called
	// once all barriers have come, before Unblock.
	InFlight() [][]byte
	// Resume gives back what InFlight returned, of all subtasks there were:
	// the gate keeps what is this subtask's, for Poll to return first.
	Resume(flights [][]byte) error
	// Port is the input of the operator.
	Port() int
	// Block leaves what comes in on a channel, behind its barrier, queued
	// until Unblock.
	Block(channel int)
	// Unblock reads every blocked channel again; what barriers have overtaken
	// there is in flight no more. Of a channel that is not blocked it stays so: the
	// barrier that gives an alignment up has already been taken from one.
	Unblock()
	// Stats counts what Poll took in.
	Stats() GateStats
}

// GateStats are totals of a gate.
type GateStats struct {
	Batches uint64
	Rows    uint64
	Bytes   uint64
}

// GateConfig says which input a gate is for.
type GateConfig struct {
	// Vertex is the index of the receiving vertex in the job graph.
	Vertex  int
	Subtask int
	// To is the input: its operator is the first of the vertex.
	To In
	// Notify is signalled, without blocking, when something comes in; make
	// it with capacity 1. One may serve several gates. A task polls all of
	// its gates until each returns None before it waits.
	Notify chan struct{}
	// Press, which may be nil, is called when a barrier comes in; it must not
	// block.
	Press func()
}
