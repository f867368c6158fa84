package join

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/operator"
	"github.com/millrace/millrace/runtime/state"
)

// IntervalConfig describes an Interval join.
type IntervalConfig[K comparable, L, R, U any] struct {
	Left  func(L) K
	Right func(R) K
	// Pair makes a result; one of its arguments is nil for an unmatched row.
	Pair  func(l *L, r *R) U
	Outer Outer
	// Lower and Upper bound the event time of a right row less that of a left
	// one, in milliseconds, both included.
	Lower, Upper int64
	// LateLeft and LateRight are the tags of late records, "" for none.
	LateLeft, LateRight string
}

// maxBound keeps sums of times and bounds from running over.
const maxBound = math.MaxInt64 / int64(time.Millisecond) / 4

// Check names what is wrong, for plan mode.
func (c *IntervalConfig[K, L, R, U]) Check() error {
	switch {
	case c.Lower > c.Upper:
		return fmt.Errorf("no event time is between its bounds: the lower one is %d ms after the upper one", c.Lower-c.Upper)
	case c.Lower < -maxBound || c.Upper > maxBound:
		return fmt.Errorf("its bounds are too far apart: each is at most %v", time.Duration(maxBound)*time.Millisecond)
	case c.Pair == nil:
		return errors.New("its function is nil")
	}
	return nil
}

// erasABound is how many eras a join's bounds cover: more of them look further for
// the rows of a key, fewer keep rows for longer.
const erasABound = 2

// NewInterval returns the operator of one subtask that joins left and right rows
// of a key whose event times are within bounds of each other. The event time of a
// result is that of the later row, of an unmatched row its own.
//
// A row is final, and dropped, once the watermark has passed the last event time
// that could match it; rows are dropped an era at a time, up to half the distance of
// the bounds later. The watermark behind an outer join stays before the rows that
// may still come out unmatched.
//
// A record at or behind the watermark is late: it goes to a late output, or is
// counted.
func NewInterval[K comparable, L, R, U any](c IntervalConfig[K, L, R, U]) operator.Operator {
	j := &interval[K, L, R, U]{}
	j.watermark, j.reached = batch.NoTime, batch.NoTime
	j.width = max(1, (c.Upper-c.Lower+erasABound)/erasABound)
	j.left = intervalSide[K, L, R, U]{
		calls: &j.intervalCalls, key: c.Left, pair: c.Pair, other: &j.right.own, lower: c.Lower, upper: c.Upper,
		outer: c.Outer.Left, otherOuter: c.Outer.Right, late: late[L]{tag: c.LateLeft},
	}
	j.right = intervalSide[K, R, L, U]{
		calls: &j.intervalCalls, key: c.Right, other: &j.left.own, lower: -c.Upper, upper: -c.Lower,
		outer: c.Outer.Right, otherOuter: c.Outer.Left, late: late[R]{tag: c.LateRight},
	}
	j.right.pair = func(r *R, l *L) U { return c.Pair(l, r) }
	return j
}

// intervalCalls is what both sides share.
type intervalCalls[U any] struct {
	output[U]
	width              int64 // of an era
	watermark, reached int64
}

type interval[K comparable, L, R, U any] struct {
	intervalCalls[U]
	left  intervalSide[K, L, R, U]
	right intervalSide[K, R, L, U]
}

// intervalSide is one input. A row of it matches rows of the other side from lower
// to upper after it.
type intervalSide[K comparable, A, B, U any] struct {
	calls             *intervalCalls[U]
	key               func(A) K
	pair              func(*A, *B) U
	own               eras[K, A]
	other             *eras[K, B]
	lower, upper      int64
	outer, otherOuter bool
	late              late[A]
	leaving           unmatched // in the earliest era
}

func (j *interval[K, L, R, U]) Input(i int) any {
	return operator.Either[L, R](i, &j.left, &j.right)
}

func (j *interval[K, L, R, U]) Output(tag string) any {
	return outputs(tag, &j.output, &j.left.late, &j.right.late)
}

func (j *interval[K, L, R, U]) Open(ctx *operator.Context) (err error) {
	j.ctx = ctx
	means := fmt.Sprintf("rows of %v", time.Duration(j.width)*time.Millisecond)
	if j.left.own, err = newEras[K, L](ctx.State, "left", means); err != nil {
		return err
	}
	j.right.own, err = newEras[K, R](ctx.State, "right", means)
	return err
}

// Restore implements operator.Restorer.
func (j *interval[K, L, R, U]) Restore([]*operator.Entry) error {
	j.left.own.restore()
	j.right.own.restore()
	return nil
}

func (j *interval[K, L, R, U]) Close() error { return nil }

// start is the beginning of the era that t is in.
func (c *intervalCalls[U]) start(t int64) int64 {
	m := t % c.width
	if m < 0 {
		m += c.width
	}
	return t - m
}

// Push implements operator.Stage.
func (s *intervalSide[K, A, B, U]) Push(b *batch.Batch[A]) error {
	c := s.calls
	c.ctx.Enter()
	c.ctx.Metrics.RecordsIn += uint64(len(b.Values))
	for i := range b.Values {
		if i%state.Stride == 0 {
			s.ahead(b.Hashes, i)
		}
		v, t, hash := &b.Values[i], b.Times[i], b.Hashes[i]
		if t <= c.watermark {
			if t == batch.NoTime {
				return errNoTime
			}
			s.late.add(c.ctx, *v, t)
			continue
		}
		key := s.key(*v)
		matched := s.probe(hash, key, v, t)
		switch {
		case t+s.upper > c.watermark:
			s.own.at(c.start(t)).append(hash, key, Row[A]{Time: t, Matched: matched || !s.outer, Value: *v})
		case s.outer && !matched:
			c.emit(s.pair(v, nil), t)
		}
	}
	if err := s.late.flush(); err != nil {
		return err
	}
	return c.flush()
}

// ahead asks memory for what most records of a batch will need: the newest eras.
func (s *intervalSide[K, A, B, U]) ahead(hashes []uint64, i int) {
	if n := len(s.other.live); n > 0 {
		s.other.live[n-1].rows.heads.Ahead(hashes, i)
		if n > 1 {
			s.other.live[n-2].rows.heads.Ahead(hashes, i)
		}
	}
	if n := len(s.own.live); n > 0 {
		s.own.live[n-1].rows.heads.Ahead(hashes, i)
	}
}

// probe emits the pairs of a row, and says whether there are any.
func (s *intervalSide[K, A, B, U]) probe(hash uint64, key K, v *A, t int64) (matched bool) {
	c := s.calls
	from, to := t+s.lower, t+s.upper
	for e := range s.other.live {
		era := &s.other.live[e]
		if era.start+c.width <= from {
			continue
		}
		if era.start > to {
			break
		}
		rows := &era.rows
		for row, at, end := rows.first(hash, key); row != nil; row, at = rows.after(hash, key, at, end) {
			if row.Time < from || row.Time > to {
				continue
			}
			matched = true
			if s.otherOuter && !row.Matched {
				row = rows.match(hash, key, at)
			}
			c.emit(s.pair(v, &row.Value), max(t, row.Time))
		}
	}
	return matched
}

// Watermark implements operator.Operator.
func (j *interval[K, L, R, U]) Watermark(t int64) (int64, error) {
	j.watermark = t
	_, reached, err := j.Work()
	return reached, err
}

// Work implements operator.Worker: it drops what is over.
func (j *interval[K, L, R, U]) Work() (more bool, watermark int64, err error) {
	if j.watermark == batch.NoTime {
		return false, j.reached, nil
	}
	j.ctx.Enter()
	budget := rowsAStep
	more = !j.left.drop(&budget) || !j.right.drop(&budget)
	j.reached = max(j.reached, min(j.watermark, j.left.bound(), j.right.bound()))
	return more, j.reached, j.flush()
}

// drop drops the eras that the watermark has passed. done is false when the budget
// did not suffice.
func (s *intervalSide[K, A, B, U]) drop(budget *int) (done bool) {
	c := s.calls
	for len(s.own.live) > 0 {
		era := &s.own.live[0]
		if era.start+c.width-1+s.upper > c.watermark {
			break
		}
		if s.outer && !era.rows.takeUnmatched(&s.leaving, budget, func(v *A, t int64) { c.emit(s.pair(v, nil), t) }) {
			return false
		}
		s.leaving = unmatched{}
		s.own.dropFirst()
	}
	return true
}

// bound is the latest watermark that no row which may still come out unmatched is
// behind.
func (s *intervalSide[K, A, B, U]) bound() int64 {
	if !s.outer || len(s.own.live) == 0 {
		return batch.EndOfTime
	}
	return s.own.live[0].start - 1
}
