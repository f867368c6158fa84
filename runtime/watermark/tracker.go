package watermark

import (
	"math"
	"time"

	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/source"
)

// State is where a split stands.
type State uint8

// States of a split:
//
//	Reading ◀──▶ CaughtUp ──idle-after──▶ Idle ──data──▶ Reading
//	Reading ◀──▶ Waiting
//	any ──▶ Ended
//	any ──▶ Followed ──followers there──▶ Ended
const (
	// Reading: there may be more at once.
	Reading State = iota
	// CaughtUp: empty, and still holding time back.
	CaughtUp
	// Waiting: there is more, which is not here yet.
	Waiting
	// Idle: empty for the idle-after time; left out.
	Idle
	// Ended: at +infinity, left out.
	Ended
	// Followed: read to its end, and holding time back for those that follow.
	Followed
)

// Tracker is event time at one subtask of a source: per split, and the least
// of those that are not left out.
type Tracker struct {
	outOfOrderness int64
	idleAfter      time.Duration
	maxDrift       int64
	limit          int64

	splits  []split
	current int64
	turns   uint64
}

type split struct {
	watermark int64
	state     State
	// due is set while the split's reader is worth polling.
	due bool
	// since is when the split was first seen empty.
	since time.Time
	// turn is when the split was last picked: among equals the one that has
	// waited longest is next.
	turn uint64
}

// NewTracker returns a Tracker without splits. An idleAfter of 0 is
// DefaultIdleAfter, a negative one is for ever; a maxDrift of 0 is without
// bound.
func NewTracker(outOfOrderness, idleAfter, maxDrift time.Duration) *Tracker {
	if idleAfter == 0 {
		idleAfter = DefaultIdleAfter
	}
	return &Tracker{
		outOfOrderness: outOfOrderness.Milliseconds(), idleAfter: idleAfter, maxDrift: maxDrift.Milliseconds(),
		limit: math.MaxInt64, current: batch.NoTime,
	}
}

// Add takes in a split with the watermark of the restored checkpoint
// (batch.NoTime for none) and returns its index.
func (t *Tracker) Add(watermark int64) int {
	t.splits = append(t.splits, split{watermark: watermark, due: true})
	return len(t.splits) - 1
}

// Observe tells of records read from a split, by their greatest time.
func (t *Tracker) Observe(i int, greatest int64) {
	s := &t.splits[i]
	if greatest != batch.NoTime {
		s.watermark = max(s.watermark, behind(greatest, t.outOfOrderness))
	}
	if !s.over() {
		s.state = Reading
	}
}

// Report tells what the reader of a split answered, after Observe of what it
// returned. read says whether it returned records.
func (t *Tracker) Report(i int, status source.Status, read bool, now time.Time) {
	s := &t.splits[i]
	s.due = status == source.More
	switch status {
	case source.More:
		s.state = Reading
	case source.Waiting:
		s.state = Waiting
	case source.Ended:
		s.state = Ended
	case source.Followed:
		s.state = Followed
	case source.Empty:
		if read || s.state == Reading || s.state == Waiting {
			s.state, s.since = CaughtUp, now
		}
	}
}

// Advance turns splits idle that have been empty long enough and returns the
// watermark of the subtask, and whether the subtask is idle: all its splits
// are, or it has none. The watermark is batch.EndOfTime once every split has
// ended, of at least one.
func (t *Tracker) Advance(now time.Time) (watermark int64, idle bool) {
	least, active, ended := int64(math.MaxInt64), 0, 0
	for i := range t.splits {
		s := &t.splits[i]
		if s.state == CaughtUp && t.idleAfter >= 0 && now.Sub(s.since) >= t.idleAfter {
			s.state = Idle
		}
		switch s.state {
		case Ended:
			ended++
		case Idle:
		default:
			active++
			least = min(least, s.watermark)
		}
	}
	switch {
	case ended == len(t.splits) && ended > 0:
		t.current = batch.EndOfTime
		return t.current, false
	case active == 0:
		return t.current, true
	}
	t.current = max(t.current, least)
	return t.current, false
}

// NextIdle returns how long from now until Advance may turn a split idle, and
// false when none is on its way there.
func (t *Tracker) NextIdle(now time.Time) (time.Duration, bool) {
	next, ok := time.Duration(math.MaxInt64), false
	if t.idleAfter < 0 {
		return 0, false
	}
	for i := range t.splits {
		if s := &t.splits[i]; s.state == CaughtUp {
			next, ok = min(next, max(0, t.idleAfter-now.Sub(s.since))), true
		}
	}
	if !ok {
		return 0, false
	}
	return next, true
}

// Wake tells that the reader of a split may have data again. The split keeps
// its state, so it may still turn idle, until the reader answers.
func (t *Tracker) Wake(i int) {
	if s := &t.splits[i]; !s.over() {
		s.due = true
	}
}

// over says that nothing will ever be read from a split.
func (s *split) over() bool { return s.state == Ended || s.state == Followed }

// Next returns the split to read from: of those that may have data, the one
// furthest behind in event time, and of equals the one that has waited longest.
// It is false when there is none, or those that there are have drifted too far
// ahead of one that holds time back: then data, idleness or a higher limit
// will change that.
func (t *Tracker) Next() (int, bool) {
	bound := t.bound()
	best := -1
	for i := range t.splits {
		s := &t.splits[i]
		if !s.due || s.watermark > bound {
			continue
		}
		if best < 0 || s.watermark < t.splits[best].watermark ||
			s.watermark == t.splits[best].watermark && s.turn < t.splits[best].turn {
			best = i
		}
	}
	if best < 0 {
		return 0, false
	}
	t.turns++
	t.splits[best].turn = t.turns
	return best, true
}

// SetLimit bounds the event time to which any split may be read: alignment
// with other subtasks. math.MaxInt64 is without bound.
func (t *Tracker) SetLimit(time int64) { t.limit = time }

// Watermark is a split's own watermark, as it goes into a checkpoint.
func (t *Tracker) Watermark(i int) int64 { return t.splits[i].watermark }

// State is where a split stands.
func (t *Tracker) State(i int) State { return t.splits[i].state }

// bound is the greatest watermark at which a split may be read. A split that
// has never had data does not hold others back once it is empty.
func (t *Tracker) bound() int64 {
	if t.maxDrift <= 0 {
		return t.limit
	}
	least := int64(math.MaxInt64)
	for i := range t.splits {
		s := &t.splits[i]
		if s.state == Idle || s.state == Ended || s.state == CaughtUp && s.watermark == batch.NoTime {
			continue
		}
		least = min(least, s.watermark)
	}
	if least > math.MaxInt64-t.maxDrift {
		return t.limit
	}
	return min(t.limit, least+t.maxDrift)
}
