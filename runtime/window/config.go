package window

import (
	"errors"
	"fmt"

	"github.com/millrace/millrace/runtime/operator"
)

// Aggregate folds the records of a key to an accumulator A. New and Add are
// needed, Merge for sliding windows and sessions. The functions must not keep
// their arguments nor share memory between accumulators: what Merge takes from
// its second argument, it copies.
type Aggregate[T, A any] struct {
	New func() A
	Add func(acc *A, v T)
	// Merge folds b into a. It must be associative; a holds the earlier
	// records.
	Merge func(a, b *A)
	// Subtract undoes Merge exactly: integers yes, floats no. It is optional
	// and makes overlapping windows cheaper.
	Subtract func(a, b *A)
}

// Config describes a window operator over records T of keys K.
type Config[K comparable, T, A, R any] struct {
	// Name of the state: the operator's uid.
	Assigner  Assigner
	Key       func(T) K
	Aggregate Aggregate[T, A]
	// Result makes the record that leaves. It must not keep memory that acc
	// points to.
	Result func(w Window, key K, acc A) R
	// AllowedLateness, in milliseconds, keeps a window for updates after it
	// has fired.
	AllowedLateness int64
	// Late is the tag of the late output.
	Late string
	// Folded says that a Folder feeds the operator: its input are partials.
	// See CanFold.
	Folded bool
	// Rank makes what chooses the keys of a window whose results leave; nil
	// for all of them.
	Rank func() Ranking[K, A]
}

func (c *Config[K, T, A, R]) validate() error {
	if err := c.Assigner.Validate(); err != nil {
		return err
	}
	switch {
	case c.Key == nil || c.Result == nil || c.Aggregate.New == nil || c.Aggregate.Add == nil:
		return errors.New("a window needs a key, a result function and an aggregate with New and Add")
	case c.Aggregate.Merge == nil && (c.Assigner.Gap != 0 || c.Assigner.overlaps()):
		return errors.New("session and sliding windows merge accumulators: give the aggregate a Merge function, or use a tumbling window")
	case c.Assigner.Endless:
		return errors.New("an endless window has no end at which to fire: give it a trigger")
	case c.AllowedLateness < 0:
		return fmt.Errorf("allowed lateness is %d ms: it cannot be negative", c.AllowedLateness)
	case c.AllowedLateness > 0 && c.Assigner.ProcessingTime:
		return errors.New("nothing is late in processing time: allowed lateness belongs to event time windows")
	}
	if c.Folded && !c.CanFold() {
		return errors.New("records are folded before the exchange only for an aggregate that merges, over windows without a late output")
	}
	if c.Rank == nil {
		return nil
	}
	switch {
	case c.Assigner.Gap != 0:
		return errors.New("sessions are windows of one key, so there is nothing to rank: use tumbling or sliding windows")
	case c.AllowedLateness > 0:
		return errors.New("a late record may change which keys of a window come first: the greatest of a window have no allowed lateness, give the watermark more time or take late records from the late output")
	case c.Assigner.ProcessingTime:
		return errors.New("the greatest of a window are found once event time has passed its end: use event time")
	}
	return nil
}

// CanFold says whether a Folder may feed the operator: its aggregate merges, and
// nobody wants late records back one by one.
func (c *Config[K, T, A, R]) CanFold() bool {
	return c.Aggregate.Merge != nil && c.Late == ""
}

// Check names what is wrong with a configuration, for plan mode.
func Check[K comparable, T, A, R any](c Config[K, T, A, R]) error { return c.validate() }

// StateName is the name under which a window operator keeps its keyed state.
const StateName = "window"

// New makes the operator of one subtask. The configuration has been checked.
func New[K comparable, T, A, R any](c Config[K, T, A, R]) operator.Operator {
	if c.Assigner.Gap != 0 {
		return &Sessions[K, T, A, R]{cfg: c}
	}
	return &Sliced[K, T, A, R]{cfg: c}
}
