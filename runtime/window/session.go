package window

import (
	"fmt"
	"slices"

	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/codec"
	"github.com/millrace/millrace/runtime/operator"
	"github.com/millrace/millrace/runtime/state"
	"github.com/millrace/millrace/runtime/timer"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Sessions is the operator of session windows. The state of a key is its
// sessions, sorted and at least a gap apart; each has one timer, at the end it
// had when the timer was set. A session that has grown since sets a new one
// when the old one fires, so a record costs no timer.
//
// A fired session stays for the allowed lateness; a record that joins it makes
// its result be emitted again, with the session's new span.
type Sessions[K comparable, T, A, R any] struct {
	cfg  Config[K, T, A, R]
	ctx  *operator.Context
	main operator.Output[R]
	late operator.Output[T]

	sessions  *state.Table[K, []session[A]]
	accs      codec.Codec[A]
	timers    *timer.Timers[K]
	watermark int64
	before    int64 // watermark before the end of time
	reached   int64

	// now is the time of the batch in hand, in processing time.
	now int64
	// fresh says that the session in hand is new, again that one of those that it
	// is made of had fired.
	fresh, again bool

	out       batch.Batch[R]
	lateBatch batch.Batch[T]
	alarm     alarm
}

// session is [Start, End): End is a gap after the last record.
type session[A any] struct {
	Start, End int64
	Fired      bool
	Acc        A
}

// Input implements operator.Operator.
func (w *Sessions[K, T, A, R]) Input(int) any {
	if w.cfg.Folded {
		return operator.Stage[Partial[K, T, A]](pieces[K, T, A, R]{w})
	}
	return operator.Stage[T](w)
}

// Output implements operator.Operator.
func (w *Sessions[K, T, A, R]) Output(tag string) any {
	return outputs(tag, w.cfg.Late, &w.main, &w.late)
}

// Open implements operator.Operator.
func (w *Sessions[K, T, A, R]) Open(ctx *operator.Context) error {
	w.ctx = ctx
	w.watermark, w.reached = batch.NoTime, batch.NoTime
	if err := w.cfg.validate(); err != nil {
		return err
	}
	var err error
	if w.accs, err = codec.Derive[A](); err != nil {
		return err
	}
	if w.sessions, err = state.NewTable[K, []session[A]](ctx.State, StateName); err != nil {
		return err
	}
	ctx.State.Describe(StateName, "window")
	w.timers, err = timer.New[K](ctx.State, StateName+"-ends")
	return err
}

// Close implements operator.Operator.
func (w *Sessions[K, T, A, R]) Close() error {
	w.alarm.off()
	return nil
}

// Push implements operator.Stage.
func (w *Sessions[K, T, A, R]) Push(b *batch.Batch[T]) error {
	w.enter(len(b.Values))
	for i := range b.Values {
		if i%state.Stride == 0 {
			w.sessions.Ahead(b.Hashes, i)
		}
		t, err := w.at(b.Times[i])
		if err != nil {
			return err
		}
		key := w.cfg.Key(b.Values[i])
		s := w.take(t, t, b.Hashes[i], key)
		if s == nil {
			w.ctx.Metrics.LateDropped++
			if w.late.Attached() {
				w.lateBatch.AppendKeyed(b.Values[i], t, b.Hashes[i])
			}
			continue
		}
		w.cfg.Aggregate.Add(&s.Acc, b.Values[i])
		w.took(s, b.Hashes[i], key)
	}
	return w.leave()
}

// enter begins a batch of n rows.
func (w *Sessions[K, T, A, R]) enter(n int) {
	w.ctx.Enter()
	w.ctx.Metrics.RecordsIn += uint64(n)
	if w.cfg.Assigner.ProcessingTime {
		w.now = max(w.ctx.Clock.Now().UnixMilli(), w.watermark+1)
	}
}

// leave ends a batch.
func (w *Sessions[K, T, A, R]) leave() error {
	if w.cfg.Assigner.ProcessingTime {
		w.schedule()
	}
	return w.flush()
}

// at is when a record of time t counts.
func (w *Sessions[K, T, A, R]) at(t int64) (int64, error) {
	switch {
	case w.cfg.Assigner.ProcessingTime:
		return w.now, nil
	case t == batch.NoTime:
		return 0, fmt.Errorf("a record without event time reached the window: give its source a watermark strategy, or the stream timestamps")
	}
	return t, nil
}

// take makes room for records from first to last: it extends the session that
// they touch, joins the neighbours that now touch it, or starts a session. It
// returns the session, to which they are to be added and which took is to be told
// of, nil if they are late. w.fresh says that it is new, and so without any.
func (w *Sessions[K, T, A, R]) take(first, last int64, hash uint64, key K) *session[A] {
	start, end := first, last+w.cfg.Assigner.Gap
	if w.isLate(end) {
		// Unless a session that is open still takes them in.
		list, ok := w.sessions.Get(hash, key)
		if !ok {
			return nil
		}
		if _, _, _, grown := touching(*list, start, end); w.isLate(grown) {
			return nil
		}
	}
	p, _ := w.sessions.Upsert(hash, key)
	i, j, start, end := touching(*p, start, end)
	if w.fresh, w.again = i == j, false; w.fresh {
		*p = slices.Insert(*p, i, session[A]{Start: start, End: end, Acc: w.cfg.Aggregate.New()})
	} else {
		w.again = w.join((*p)[i:j], start, end)
		if j > i+1 {
			*p = slices.Delete(*p, i+1, j)
		}
	}
	return &(*p)[i]
}

// isLate says that a session with this end is past its lateness.
func (w *Sessions[K, T, A, R]) isLate(end int64) bool {
	return w.watermark != batch.NoTime && end-1+w.cfg.AllowedLateness <= w.watermark
}

// touching finds the sessions i to j that touch a span, and the span that they
// have together with it.
func touching[A any](list []session[A], start, end int64) (i, j int, from, to int64) {
	for i < len(list) && list[i].End <= start {
		i++
	}
	from, to = start, end
	for j = i; j < len(list) && list[j].Start < end; j++ {
		from, to = min(from, list[j].Start), max(to, list[j].End)
	}
	return i, j, from, to
}

// took is when the records have been added. A session that has fired fires again:
// now, or at its new end.
func (w *Sessions[K, T, A, R]) took(s *session[A], hash uint64, key K) {
	if s.Fired = s.End-1 <= w.watermark; s.Fired {
		w.emit(s, key)
	}
	if w.fresh || w.again {
		w.timers.Register(w.next(s), hash, key)
	}
}

// join merges neighbouring sessions into the first of them and says whether
// one had fired.
func (w *Sessions[K, T, A, R]) join(list []session[A], start, end int64) (fired bool) {
	s := &list[0]
	fired = s.Fired
	for i := range list[1:] {
		other := &list[1+i]
		w.cfg.Aggregate.Merge(&s.Acc, &other.Acc)
		fired = fired || other.Fired
	}
	s.Start, s.End = start, end
	return fired
}

// next is when there is something to do for a session: fire it, or drop it.
func (w *Sessions[K, T, A, R]) next(s *session[A]) int64 {
	if s.Fired {
		return s.End - 1 + w.cfg.AllowedLateness
	}
	return s.End - 1
}

func (w *Sessions[K, T, A, R]) emit(s *session[A], key K) {
	w.out.Append(w.cfg.Result(Window{s.Start, s.End}, key, s.Acc), s.End-1)
}

// Watermark implements operator.Operator.
func (w *Sessions[K, T, A, R]) Watermark(t int64) (int64, error) {
	if w.cfg.Assigner.ProcessingTime && t != batch.EndOfTime {
		w.reached = t
		return t, nil
	}
	if t > w.watermark {
		w.before, w.watermark = w.watermark, t
	}
	_, reached, err := w.Work()
	return reached, err
}

// Work implements operator.Worker: a bounded number of timers.
func (w *Sessions[K, T, A, R]) Work() (more bool, watermark int64, err error) {
	w.ctx.Enter()
	if w.watermark != batch.NoTime {
		if more, err = w.timers.Advance(w.watermark, keysAStep, w.end); err != nil {
			return false, w.reached, err
		}
	}
	if err := w.flush(); err != nil {
		return false, w.reached, err
	}
	if !more {
		w.reached = max(w.reached, w.watermark)
	}
	return more, w.reached, nil
}

// end is a timer of a key: sessions that are over fire, or go when they have
// fired and their lateness is over; what has grown since gets a new timer.
func (w *Sessions[K, T, A, R]) end(at int64, hash uint64, key K) error {
	list, ok := w.sessions.Get(hash, key)
	if !ok {
		return nil
	}
	if !slices.ContainsFunc(*list, func(s session[A]) bool { return w.next(&s) <= at }) {
		w.follow(*list, hash, key)
		return nil
	}
	p, _ := w.sessions.Upsert(hash, key)
	kept := (*p)[:0]
	for _, s := range *p {
		if !s.Fired && w.next(&s) <= at {
			w.emit(&s, key)
			s.Fired = true
		}
		if !s.Fired || w.next(&s) > at {
			kept = append(kept, s)
		}
	}
	clear((*p)[len(kept):])
	*p = kept
	w.follow(kept, hash, key)
	if len(kept) == 0 {
		w.sessions.Delete(hash, key)
	}
	if w.out.Full() {
		return w.flush()
	}
	return nil
}

// follow sets the timers of what is left.
func (w *Sessions[K, T, A, R]) follow(list []session[A], hash uint64, key K) {
	for i := range list {
		w.timers.Register(w.next(&list[i]), hash, key)
	}
}

// Restore implements operator.Restorer.
func (w *Sessions[K, T, A, R]) Restore(entries []*pb.OperatorEntry) error {
	w.timers.Rebuild()
	all, err := restoreProgress(entries, w.ctx.KeyGroups)
	for i, p := range all {
		if i == 0 {
			w.watermark = p.Watermark
		}
		w.watermark = min(w.watermark, p.Watermark)
	}
	w.reached = w.watermark
	if w.cfg.Assigner.ProcessingTime {
		w.schedule()
	}
	return err
}

// Snapshot implements operator.Snapshotter. The end of time is not kept, as of
// Sliced.
func (w *Sessions[K, T, A, R]) Snapshot(s *operator.Snapshot) error {
	p := Progress{Groups: w.ctx.KeyGroups, Watermark: w.watermark, Fired: batch.NoTime, Emitting: batch.NoTime}
	if s.Terminal && w.watermark == batch.EndOfTime {
		p.Watermark = w.before
	}
	s.Entries = append(s.Entries, p.entry())
	return nil
}

// schedule has the clock call at the earliest timer, in processing time.
func (w *Sessions[K, T, A, R]) schedule() {
	if at, ok := w.timers.Next(); ok {
		w.alarm.set(w.ctx, at+1, w.tick)
	}
}

// tick ends what the clock has passed; it runs on the task's goroutine.
func (w *Sessions[K, T, A, R]) tick() error {
	w.alarm.off()
	return onClock(w.ctx, &w.watermark, w.Work, w.tick, w.schedule)
}

// flush hands on what was collected.
func (w *Sessions[K, T, A, R]) flush() error {
	return flush(w.ctx, &w.main, &w.out, &w.late, &w.lateBatch)
}
