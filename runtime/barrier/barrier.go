package barrier

import (
	"fmt"
	"time"
)

// Barrier is the mark between the records before a checkpoint and those after
// it. It travels in the channels, among the batches.
type Barrier struct {
	// ID is the checkpoint's; ids rise from one trigger to the next.
	ID uint64
	// TriggeredMillis is when the job master triggered it, in Unix ms.
	TriggeredMillis int64
	// Savepoint is set when the user owns the checkpoint.
	Savepoint bool
	// Terminal is set when the job ends here: sources emit nothing after it.
	Terminal bool
	// Halt is set when tasks take nothing in after it and keep their state.
	Halt bool
}

func (b Barrier) String() string {
	s := fmt.Sprintf("barrier %d", b.ID)
	if b.Savepoint {
		s += " (savepoint)"
	}
	if b.Terminal {
		s += " (terminal)"
	}
	if b.Halt {
		s += " (halt)"
	}
	return s
}

// Step is what a task does after it told the Aligner something. The zero Step
// is nothing.
type Step struct {
	// Aborted is the id of an alignment that ends without a checkpoint, 0
	// for none.
	Aborted uint64
	// Unblock says that every blocked channel is to be read again. When
	// Aligned is set too, it is done after the snapshot.
	Unblock bool
	// Block says that the channel the barrier came from is not to be read
	// until it is unblocked.
	Block bool
	// Aligned says that the checkpoint is to be taken now.
	Aligned bool
	// Barrier is the one that is aligned or that the task now waits for.
	Barrier Barrier
	// StartDelay is from the trigger to the first barrier's arrival, and
	// Alignment from there to Aligned. Set with Aligned.
	StartDelay time.Duration
	Alignment  time.Duration
}
