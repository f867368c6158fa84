package barrier

import "time"

// Aligner aligns the barriers of one task's input channels, over all its
// inputs together.
//
// Invariants:
//  1. current is 0, or greater than done.
//  2. arrived[c] is set only while current is not 0, exactly for the channels
//     that the task was told to block and not yet to unblock.
//  3. For each checkpoint Aligned is returned at most once, and only when the
//     barrier has come on every channel.
type Aligner struct {
	arrived []bool
	waiting int

	// done is the highest id that is aligned, aborted or cancelled.
	done    uint64
	current Barrier
	started time.Time
	delay   time.Duration
}

// NewAligner returns an Aligner for a task with this many input channels, at
// least one. A task without input takes its barriers from the trigger and
// needs none.
func NewAligner(channels int) *Aligner {
	return &Aligner{arrived: make([]bool, channels), waiting: channels}
}

// Barrier tells of a barrier that came in on a channel.
func (a *Aligner) Barrier(channel int, b Barrier, now time.Time) Step {
	if b.ID <= a.done || b.ID < a.current.ID {
		return Step{}
	}
	var step Step
	if a.current.ID != 0 && b.ID > a.current.ID {
		step = a.abort()
	}
	if a.current.ID == 0 {
		a.current, a.started = b, now
		a.delay = max(0, now.Sub(time.UnixMilli(b.TriggeredMillis)))
	}
	if a.arrived[channel] {
		return step
	}
	a.arrived[channel] = true
	a.waiting--
	step.Barrier = a.current
	if a.waiting > 0 {
		step.Block = true
		return step
	}
	step.Aligned = true
	step.Unblock = len(a.arrived) > 1
	step.StartDelay, step.Alignment = a.delay, now.Sub(a.started)
	a.settle()
	return step
}

// Cancel tells that the job master gave up a checkpoint, and with it every
// older one. It may come before any barrier of it.
func (a *Aligner) Cancel(id uint64) Step {
	var step Step
	if a.current.ID != 0 && a.current.ID <= id {
		step = a.abort()
	}
	a.done = max(a.done, id)
	return step
}

// Aligning returns the id of the checkpoint that is being aligned, 0 for none,
// and since when.
func (a *Aligner) Aligning() (id uint64, since time.Time) {
	return a.current.ID, a.started
}

func (a *Aligner) abort() Step {
	step := Step{Aborted: a.current.ID, Unblock: true}
	a.settle()
	return step
}

// settle ends the current alignment, whatever became of it.
func (a *Aligner) settle() {
	a.done = a.current.ID
	a.current = Barrier{}
	a.waiting = len(a.arrived)
	clear(a.arrived)
}
