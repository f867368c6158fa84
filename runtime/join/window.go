package join

import (
	"errors"
	"iter"
	"slices"

	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/operator"
	"github.com/millrace/millrace/runtime/state"
	"github.com/millrace/millrace/runtime/window"
)

// Group is what a Window join has of one key in one window. It is valid during
// the call that it is given to.
type Group[K comparable, L, R any] struct {
	Window window.Window
	Key    K
	// Left and Right walk through the rows of either side, in order of arrival
	// within stretches of event time that follow one another. They may be walked
	// through any number of times.
	Left  iter.Seq[L]
	Right iter.Seq[R]
}

// WindowConfig describes a Window join.
type WindowConfig[K comparable, L, R, U any] struct {
	Assigner window.Assigner
	Left     func(L) K
	Right    func(R) K
	// Each makes the function of a subtask, which makes the results of a group that
	// has rows on either side.
	Each func() func(g *Group[K, L, R], emit func(U))
	// LateLeft and LateRight are the tags of late records, "" for none.
	LateLeft, LateRight string
}

// Check names what is wrong, for plan mode.
func (c *WindowConfig[K, L, R, U]) Check() error {
	switch {
	case c.Each == nil:
		return errors.New("its function is nil")
	case c.Assigner.ProcessingTime:
		return errors.New("a window join is in event time: which rows meet would depend on the clock")
	case c.Assigner.Cumulate || c.Assigner.Endless:
		return errors.New("a window join has tumbling, sliding or session windows: a pair of rows would meet again in each window that grows, and an endless one never fires; leave out Window, or take another kind")
	}
	return c.Assigner.Validate()
}

// NewWindow returns the operator of one subtask that brings rows of a key and a
// window together once the watermark has passed its end. The event time of results
// is a millisecond before that. Rows are kept once, however many windows they
// belong to.
//
// A record all of whose windows have fired is late: it goes to a late output, or
// is counted.
func NewWindow[K comparable, L, R, U any](c WindowConfig[K, L, R, U]) operator.Operator {
	if c.Assigner.Gap != 0 {
		return newSessions(c)
	}
	j := &windowed[K, L, R, U]{each: c.Each()}
	j.a, j.watermark, j.reached, j.fired = c.Assigner, batch.NoTime, batch.NoTime, batch.NoTime
	j.left = windowSide[K, L, U]{calls: &j.windowCalls, key: c.Left, late: late[L]{tag: c.LateLeft}}
	j.right = windowSide[K, R, U]{calls: &j.windowCalls, key: c.Right, late: late[R]{tag: c.LateRight}}
	return j
}

// windowCalls is what both sides share.
type windowCalls[U any] struct {
	output[U]
	a                  window.Assigner
	watermark, reached int64
	// fired is the last window end that fired; no window before it can.
	fired int64
}

type windowed[K comparable, L, R, U any] struct {
	windowCalls[U]
	each  func(*Group[K, L, R], func(U))
	left  windowSide[K, L, U]
	right windowSide[K, R, U]
	// group is the one that is being made, of the hash, to whoever asks.
	group Group[K, L, R]
	hash  uint64
	to    func(U)
	fire  firing
	// restored is how far the keys of other subtasks had fired, while this one has
	// not come so far.
	restored []progress
}

// firing is where the operator stands in a window that fires: at a hash of the
// keys that first come in an era, of the left side or of the right one. It is not
// kept in checkpoints: where a barrier may fall before the window is done, keys
// that fired are marked.
type firing struct {
	on, mark bool
	end      int64
	right    bool
	era      int64
	at       uint64
}

type windowSide[K comparable, A, U any] struct {
	calls *windowCalls[U]
	key   func(A) K
	own   eras[K, A]
	late  late[A]
	due   []hashed[K]
	// The slice of the last record.
	start, end int64
	rows       *rows[K, A]
}

type hashed[K comparable] struct {
	hash uint64
	key  K
}

func (j *windowed[K, L, R, U]) Input(i int) any {
	return operator.Either[L, R](i, &j.left, &j.right)
}

func (j *windowed[K, L, R, U]) Output(tag string) any {
	return outputs(tag, &j.output, &j.left.late, &j.right.late)
}

func (j *windowed[K, L, R, U]) Open(ctx *operator.Context) (err error) {
	j.ctx = ctx
	if j.left.own, err = newEras[K, L](ctx.State, "left", j.a.Cuts()); err != nil {
		return err
	}
	if j.right.own, err = newEras[K, R](ctx.State, "right", j.a.Cuts()); err != nil {
		return err
	}
	j.group.Left, j.group.Right = walk(j, &j.left), walk(j, &j.right)
	j.to = func(v U) { j.emit(v, j.fire.end-1) }
	return nil
}

// walk goes through the rows of the group on one side.
func walk[K comparable, L, R, A, U any](j *windowed[K, L, R, U], s *windowSide[K, A, U]) iter.Seq[A] {
	return func(yield func(A) bool) {
		own, hash, key := &s.own, j.hash, j.group.Key
		for i := own.from(j.group.Window.Start); i < len(own.live) && own.live[i].start < j.group.Window.End; i++ {
			rows := &own.live[i].rows
			for row, at, end := rows.first(hash, key); row != nil; row, at = rows.after(hash, key, at, end) {
				if !yield(row.Value) {
					return
				}
			}
		}
	}
}

// Snapshot implements operator.Snapshotter.
func (j *windowed[K, L, R, U]) Snapshot(s *operator.Snapshot) error {
	if j.fired != batch.NoTime && len(j.left.own.live)+len(j.right.own.live) > 0 {
		s.Entries = append(s.Entries, progress{j.ctx.KeyGroups, j.fired}.entry())
	}
	for _, p := range j.restored {
		if p.fired > j.fired {
			s.Entries = append(s.Entries, p.entry())
		}
	}
	return nil
}

// Restore implements operator.Restorer.
func (j *windowed[K, L, R, U]) Restore(entries []*operator.Entry) (err error) {
	j.left.own.restore()
	j.right.own.restore()
	j.restored, j.fired, err = restoreProgress(entries, j.ctx.KeyGroups)
	return err
}

func (j *windowed[K, L, R, U]) Close() error { return nil }

// Push implements operator.Stage.
func (s *windowSide[K, A, U]) Push(b *batch.Batch[A]) error {
	c := s.calls
	c.ctx.Enter()
	c.ctx.Metrics.RecordsIn += uint64(len(b.Values))
	for i := range b.Values {
		v, t, hash := &b.Values[i], b.Times[i], b.Hashes[i]
		if t < s.start || t >= s.end {
			if t == batch.NoTime {
				return errNoTime
			}
			s.slice(t)
		}
		if s.rows == nil {
			if _, _, covered := c.a.Cut(t); covered {
				s.late.add(c.ctx, *v, t)
			}
			continue
		}
		if i%state.Stride == 0 {
			s.rows.heads.Ahead(b.Hashes, i)
		}
		s.rows.append(hash, s.key(*v), Row[A]{Time: t, Mark: batch.NoTime, Value: *v})
	}
	return s.late.flush()
}

// slice finds the slice of time t; it has no rows if no window of it is to come.
func (s *windowSide[K, A, U]) slice(t int64) {
	c := s.calls
	var covered bool
	s.start, s.end, covered = c.a.Cut(t)
	s.rows = nil
	if covered && (c.watermark == batch.NoTime || c.a.LastEnd(s.start)-1 > c.watermark) {
		s.rows = s.own.at(s.start)
	}
}

// forget forgets the slice: it may be gone, or the list of eras have moved.
func (s *windowSide[K, A, U]) forget() { s.start, s.end, s.rows = 1, 0, nil }

// Watermark implements operator.Operator.
func (j *windowed[K, L, R, U]) Watermark(t int64) (int64, error) {
	j.watermark = t
	_, reached, err := j.Work()
	return reached, err
}

// Work implements operator.Worker: it fires what is due, and drops what is over.
func (j *windowed[K, L, R, U]) Work() (more bool, watermark int64, err error) {
	if j.watermark == batch.NoTime {
		return false, j.reached, nil
	}
	j.ctx.Enter()
	j.left.forget()
	j.right.forget()
	for budget := rowsAStep; ; {
		if !j.fire.on && !j.begin() {
			j.reached = max(j.reached, j.watermark)
			return false, j.reached, j.flush()
		}
		if !j.fire.mark && budget < rowsAStep {
			if j.fire.mark = j.keys() > budget; j.fire.mark {
				j.fire.on = false // it begins with the next step
				return true, j.reached, j.flush()
			}
		}
		if !j.step(&budget) {
			return true, j.reached, j.flush()
		}
		j.fired, j.fire.on = j.fire.end, false
		j.restored = slices.DeleteFunc(j.restored, func(p progress) bool { return p.fired <= j.fired })
		j.reached = max(j.reached, j.fired-1)
	}
}

// keys counts what there is to do for the window.
func (j *windowed[K, L, R, U]) keys() int {
	return j.left.keys(j.group.Window) + j.right.keys(j.group.Window)
}

func (s *windowSide[K, A, U]) keys(span window.Window) (n int) {
	for i := s.own.from(span.Start); i < len(s.own.live) && s.own.live[i].start < span.End; i++ {
		n += s.own.live[i].rows.heads.Len() + 1
	}
	return n
}

// begin starts on the earliest window that is due and holds something; eras that
// no window to come covers go here.
func (j *windowed[K, L, R, U]) begin() bool {
	j.left.drop(j.fired)
	j.right.drop(j.fired)
	end := int64(batch.EndOfTime)
	if n := j.left.next(j.fired); n < end {
		end = n
	}
	if n := j.right.next(j.fired); n < end {
		end = n
	}
	if end == batch.EndOfTime || end-1 > j.watermark {
		return false
	}
	j.fire = firing{on: true, end: end, era: batch.NoTime}
	j.group.Window = window.Window{Start: end - j.a.Size, End: end}
	j.fire.mark = j.keys() > rowsAStep
	return true
}

// drop drops the eras of which all windows have fired.
func (s *windowSide[K, A, U]) drop(fired int64) {
	for len(s.own.live) > 0 && fired != batch.NoTime && s.calls.a.LastEnd(s.own.live[0].start) <= fired {
		s.own.dropFirst()
	}
}

// next is the earliest window end after fired that covers an era.
func (s *windowSide[K, A, U]) next(fired int64) int64 {
	if len(s.own.live) == 0 {
		return batch.EndOfTime
	}
	a, start := &s.calls.a, s.own.live[0].start
	end := a.FirstEnd(start)
	if fired != batch.NoTime && end <= fired {
		end = fired - (fired-end)%a.Slide + a.Slide
	}
	return end
}

// step fires keys until the window is done or the budget is gone. A key fires from
// the first era of the window that has rows of it, on the left side or else on the
// right one.
func (j *windowed[K, L, R, U]) step(budget *int) (done bool) {
	if !j.fire.right {
		if !fireSide(j, &j.left, nil, budget) {
			return false
		}
		j.fire.right, j.fire.era, j.fire.at = true, batch.NoTime, 0
	}
	return fireSide(j, &j.right, &j.left, budget)
}

// fireSide fires the keys that first come on a side. before is the side whose keys
// have fired.
func fireSide[K comparable, L, R, A, U any](j *windowed[K, L, R, U], s *windowSide[K, A, U], before *windowSide[K, L, U], budget *int) (done bool) {
	f, own, span := &j.fire, &s.own, j.group.Window
	first := own.from(span.Start)
	for i := own.from(max(span.Start, f.era)); i < len(own.live) && own.live[i].start < span.End; i++ {
		if own.live[i].start != f.era {
			f.era, f.at = own.live[i].start, 0
		}
		heads := own.live[i].rows.heads
		for end := false; !end; {
			if *budget <= 0 {
				return false
			}
			// Rows are walked through after the scan, for walks let state leave memory.
			s.due = s.due[:0]
			f.at, end = heads.Scan(f.at, *budget, func(hash uint64, key *K, h *Head[A]) bool {
				if h.Row.Mark != span.End { // before the restore
					s.due = append(s.due, hashed[K]{hash, *key})
				}
				*budget--
				return true
			})
			for _, d := range s.due {
				if s.came(d, first, i) || before != nil && before.has(span, d) || len(j.restored) > 0 && fired(j.restored, d.hash, span.End) {
					continue
				}
				if f.mark {
					h, _ := heads.Upsert(d.hash, d.key)
					h.Row.Mark = span.End
				}
				j.hash, j.group.Key = d.hash, d.key
				j.each(&j.group, j.to)
			}
			*budget-- // an empty stretch is work too
		}
		f.at = 0
	}
	return true
}

// came says whether a key has rows in one of the eras from first up to i.
func (s *windowSide[K, A, U]) came(d hashed[K], first, i int) bool {
	for k := first; k < i; k++ {
		if _, ok := s.own.live[k].rows.heads.Get(d.hash, d.key); ok {
			return true
		}
	}
	return false
}

// has says whether a key has rows in a window.
func (s *windowSide[K, A, U]) has(span window.Window, d hashed[K]) bool {
	first := s.own.from(span.Start)
	return s.came(d, first, s.own.from(span.End))
}
