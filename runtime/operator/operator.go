package operator

import (
	"github.com/millrace/millrace/runtime/batch"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Stage is a typed input: of an operator in a chain, or of an edge writer.
// The batch is borrowed for the call (see package batch).
type Stage[T any] interface {
	Push(b *batch.Batch[T]) error
}

// Output is one typed output of an operator. The zero value drops what it gets.
type Output[T any] struct {
	stages []Stage[T]
}

// Attach adds a receiver. Only wiring calls it, before the task runs.
func (o *Output[T]) Attach(s Stage[T]) { o.stages = append(o.stages, s) }

// Attached says whether anybody receives, so that side outputs cost nothing
// where nobody does.
func (o *Output[T]) Attached() bool { return len(o.stages) > 0 }

// Push hands the batch to every receiver in turn.
func (o *Output[T]) Push(b *batch.Batch[T]) error {
	for _, s := range o.stages {
		if err := s.Push(b); err != nil {
			return err
		}
	}
	return nil
}

// Operator is what every operator implements, besides Stage of its inputs.
type Operator interface {
	// Input returns the Stage[T] of input i (operators with one input: 0).
	// Sources have none and return nil.
	Input(i int) any
	// Output returns the *Output[T] of a tag, "" being the main one, or nil.
	Output(tag string) any
	Open(ctx *Context) error
	// Watermark says that event time has reached t at the operator's input.
	// The operator emits what t completes and returns the watermark of its
	// own output (t, for most). It is called with rising t only. An operator
	// with more work than fits in about a millisecond returns the watermark
	// it has reached so far and continues in Work.
	Watermark(t int64) (int64, error)
	Close() error
}

// Worker is an operator with work besides its input: a source that reads, a
// window that still fires. Work does about a millisecond of it. While more is
// true the task calls again, barriers and mail in between; an operator that is
// not a source takes no input until its work is done. The watermark is the one
// that the operator's output has reached.
type Worker interface {
	Work() (more bool, watermark int64, err error)
}

// Snapshotter has state that is not keyed.
type Snapshotter interface {
	// Snapshot is called at a barrier. It adds what it must have as of now,
	// in O(1) or nearly so, and defers the rest.
	Snapshot(s *Snapshot) error
}

// Restorer gets back, after keyed state was loaded and before the first
// record, the entries that all subtasks of this operator wrote with Snapshot.
// It is called with none on an empty start.
type Restorer interface {
	Restore(entries []*pb.OperatorEntry) error
}

// Snapshot collects the operator state of one checkpoint.
type Snapshot struct {
	CheckpointID uint64
	// Terminal is set when the job ends with this checkpoint.
	Terminal bool
	Entries  []*pb.OperatorEntry
	// Deferred runs beside the task, after the barrier went on, and may
	// block (on a staged block's fsync, say). Its entries join Entries.
	Deferred []func() ([]*pb.OperatorEntry, error)
}

// Completer is told of completed checkpoints, on the task's goroutine.
type Completer interface {
	CheckpointCompleted(id uint64) error
}

// Idler is a source that may have nothing to say about event time: while Idle
// is true its output must not hold back anybody's watermark. The task asks
// after each Work.
type Idler interface {
	Idle() bool
}

// Flusher is told when the task has run out of input, and before each
// snapshot: what the operator holds back on its own account leaves now.
type Flusher interface {
	Flush() error
}

// Watermarked is an operator that makes watermarks out of its records: the
// task asks after every batch that went through the chain. The watermark
// never falls.
type Watermarked interface {
	CurrentWatermark() int64
}

// Entry is one piece of operator state.
type Entry = pb.OperatorEntry
