package join

import (
	"iter"
	"slices"

	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/operator"
	"github.com/millrace/millrace/runtime/state"
	"github.com/millrace/millrace/runtime/timer"
	"github.com/millrace/millrace/runtime/window"
)

// sessions is a Window join whose windows are sessions: records of either side
// that are less than a gap apart. A key's sessions are sorted and at least a gap
// apart; each has a timer at the end it had when that was set.
type sessions[K comparable, L, R, U any] struct {
	sessionCalls[K, U]
	each  func(*Group[K, L, R], func(U))
	left  sessionSide[K, L, U]
	right sessionSide[K, R, U]
	group Group[K, L, R]
	hash  uint64
	to    func(U)
}

// sessionCalls is what both sides share.
type sessionCalls[K comparable, U any] struct {
	output[U]
	gap                int64
	watermark, reached int64
	spans              *state.Table[K, []span]
	timers             *timer.Timers[K]
}

// span is a session: End is a gap after the last record.
type span struct{ Start, End int64 }

type sessionSide[K comparable, A, U any] struct {
	calls *sessionCalls[K, U]
	key   func(A) K
	own   rows[K, A]
	late  late[A]
	kept  []Row[A] // for remove
}

func newSessions[K comparable, L, R, U any](c WindowConfig[K, L, R, U]) operator.Operator {
	j := &sessions[K, L, R, U]{each: c.Each()}
	j.gap, j.watermark, j.reached = c.Assigner.Gap, batch.NoTime, batch.NoTime
	j.left = sessionSide[K, L, U]{calls: &j.sessionCalls, key: c.Left, late: late[L]{tag: c.LateLeft}}
	j.right = sessionSide[K, R, U]{calls: &j.sessionCalls, key: c.Right, late: late[R]{tag: c.LateRight}}
	return j
}

func (j *sessions[K, L, R, U]) Input(i int) any {
	return operator.Either[L, R](i, &j.left, &j.right)
}

func (j *sessions[K, L, R, U]) Output(tag string) any {
	return outputs(tag, &j.output, &j.left.late, &j.right.late)
}

func (j *sessions[K, L, R, U]) Open(ctx *operator.Context) (err error) {
	j.ctx = ctx
	if j.left.own, err = newRows[K, L](ctx.State, "left"); err != nil {
		return err
	}
	if j.right.own, err = newRows[K, R](ctx.State, "right"); err != nil {
		return err
	}
	if j.spans, err = state.NewTable[K, []span](ctx.State, "sessions"); err != nil {
		return err
	}
	ctx.State.Describe("sessions", "join")
	j.group.Left, j.group.Right = within(j, &j.left), within(j, &j.right)
	j.to = func(v U) { j.emit(v, j.group.Window.End-1) }
	j.timers, err = timer.New[K](ctx.State, "ends")
	return err
}

// within goes through the rows of the group on one side.
func within[K comparable, L, R, A, U any](j *sessions[K, L, R, U], s *sessionSide[K, A, U]) iter.Seq[A] {
	return func(yield func(A) bool) {
		w, hash, key := j.group.Window, j.hash, j.group.Key
		for row, at, end := s.own.first(hash, key); row != nil; row, at = s.own.after(hash, key, at, end) {
			if row.Time >= w.Start && row.Time < w.End && !yield(row.Value) {
				return
			}
		}
	}
}

// Restore implements operator.Restorer.
func (j *sessions[K, L, R, U]) Restore([]*operator.Entry) error {
	j.timers.Rebuild()
	return nil
}

func (j *sessions[K, L, R, U]) Close() error { return nil }

// Push implements operator.Stage.
func (s *sessionSide[K, A, U]) Push(b *batch.Batch[A]) error {
	c := s.calls
	c.ctx.Enter()
	c.ctx.Metrics.RecordsIn += uint64(len(b.Values))
	for i := range b.Values {
		if i%state.Stride == 0 {
			c.spans.Ahead(b.Hashes, i)
			s.own.heads.Ahead(b.Hashes, i)
		}
		v, t, hash := &b.Values[i], b.Times[i], b.Hashes[i]
		if t == batch.NoTime {
			return errNoTime
		}
		key := s.key(*v)
		if !c.grow(hash, key, t) {
			s.late.add(c.ctx, *v, t)
			continue
		}
		s.own.append(hash, key, Row[A]{Time: t, Value: *v})
	}
	return s.late.flush()
}

// grow makes the sessions of a key hold a record of time t, unless that is late.
func (c *sessionCalls[K, U]) grow(hash uint64, key K, t int64) bool {
	grown := span{t, t + c.gap}
	first, last := 0, 0 // the sessions that it touches
	if list, ok := c.spans.Get(hash, key); ok {
		for first < len(*list) && (*list)[first].End <= grown.Start {
			first++
		}
		for last = first; last < len(*list) && (*list)[last].Start < grown.End; last++ {
			grown.Start, grown.End = min(grown.Start, (*list)[last].Start), max(grown.End, (*list)[last].End)
		}
		if last == first+1 && (*list)[first] == grown {
			return true
		}
	}
	if grown.End-1 <= c.watermark {
		return false
	}
	list, _ := c.spans.Upsert(hash, key)
	if first == last {
		*list = slices.Insert(*list, first, grown)
		c.timers.Register(grown.End-1, hash, key)
		return true
	}
	(*list)[first] = grown
	*list = slices.Delete(*list, first+1, last)
	return true
}

// Watermark implements operator.Operator.
func (j *sessions[K, L, R, U]) Watermark(t int64) (int64, error) {
	j.watermark = t
	_, reached, err := j.Work()
	return reached, err
}

// Work implements operator.Worker: sessions that are over.
func (j *sessions[K, L, R, U]) Work() (more bool, watermark int64, err error) {
	if j.watermark == batch.NoTime {
		return false, j.reached, nil
	}
	j.ctx.Enter()
	if more, err = j.timers.Advance(j.watermark, rowsAStep/2, j.end); err != nil {
		return false, j.reached, err
	}
	if !more {
		j.reached = max(j.reached, j.watermark)
	}
	return more, j.reached, j.flush()
}

// end is a timer of a key: sessions that are over fire and go, what has grown
// since gets a new timer.
func (j *sessions[K, L, R, U]) end(at int64, hash uint64, key K) error {
	list, ok := j.spans.Get(hash, key)
	if !ok {
		return nil
	}
	var due []span
	left := 0
	for _, s := range *list {
		if s.End-1 <= at {
			due = append(due, s)
		} else {
			left++
		}
	}
	j.hash, j.group.Key = hash, key
	for _, s := range due {
		j.group.Window = window.Window{Start: s.Start, End: s.End}
		j.each(&j.group, j.to)
	}
	if left == 0 {
		j.spans.Delete(hash, key)
		j.left.own.clear(hash, key)
		j.right.own.clear(hash, key)
		return nil
	}
	if len(due) > 0 {
		p, _ := j.spans.Upsert(hash, key)
		*p = slices.DeleteFunc(*p, func(s span) bool { return s.End-1 <= at })
		j.left.remove(hash, key, due)
		j.right.remove(hash, key, due)
	}
	list, _ = j.spans.Get(hash, key)
	for _, s := range *list {
		j.timers.Register(s.End-1, hash, key)
	}
	return nil
}

// remove removes the rows of a key in some sessions, of several that it has.
func (s *sessionSide[K, A, U]) remove(hash uint64, key K, due []span) {
	s.kept = s.kept[:0]
	n := 0
	for row, at, end := s.own.first(hash, key); row != nil; row, at = s.own.after(hash, key, at, end) {
		n++
		if !slices.ContainsFunc(due, func(d span) bool { return row.Time >= d.Start && row.Time < d.End }) {
			s.kept = append(s.kept, *row)
		}
	}
	if len(s.kept) < n {
		s.own.clear(hash, key)
		for _, row := range s.kept {
			s.own.append(hash, key, row)
		}
	}
	clear(s.kept)
}
