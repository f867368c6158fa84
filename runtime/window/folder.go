package window

import (
	"time"
	"unsafe"

	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/keygroup"
	"github.com/millrace/millrace/runtime/operator"
)

// Partial is what travels to a window operator from a Folder: records of a key
// and slice that are folded to an accumulator, at the time at which the slice
// starts, or one record as it is, at its own. Where windows are sessions there
// are no slices, but pieces of sessions, at the time of their first record.
type Partial[K comparable, T, A any] struct {
	Key K
	// N is the number of records in Acc, 0 where Raw is the record.
	N uint32
	// Span is from the first record of a piece of a session to its last, in
	// milliseconds.
	Span uint32
	Acc  A
	Raw  T
}

// Folder folds the records of a subtask into partial aggregates before they are
// exchanged, so that a hot key costs its receiver a row now and then, and not one
// a record. It is chained to the sender, and its state is the few records that it
// holds back: they leave when their place is needed, when the task has run out of
// input, after foldFor, and before a watermark or a barrier goes on. So nothing
// of it is in a checkpoint, and the receiver sees each record between the same two
// watermarks of the channel as without it.
//
// A record is folded only while no window of its slice has fired by the sender's
// watermark, nor a session of it alone would have. The others travel raw: each may
// have a result, or a lateness, of its own. A receiver that has gone ahead (the sender was idle) judges a slice, which
// is what it does with a record: partials and records of a slice share its fate.
//
// Invariants:
//  1. Records of one key and slice, or of one key where windows are sessions,
//     leave in the order in which they came.
//  2. used lists the places that hold something, each once.
//  3. An accumulator is in one place or in one row: nobody else refers to it.
type Folder[K comparable, T, A any] struct {
	assigner  Assigner
	key       func(T) K
	aggregate Aggregate[T, A]
	hash      func(*K) uint64
	ctx       *operator.Context
	out       operator.Output[Partial[K, T, A]]
	buf       batch.Batch[Partial[K, T, A]]
	none      Partial[K, T, A]

	places []folded[K, A]
	used   []uint16
	since  time.Time // when the first of used came

	watermark int64
	// start and end are the slice in hand, mix is what it adds to hashes, and
	// open says that its records are folded. Where windows are sessions, start is
	// the time of the record in hand.
	start, end int64
	mix        uint64
	open       bool

	k     K
	worth worth
}

// folded is a place of the table.
type folded[K comparable, A any] struct {
	hash  uint64
	slice int64  // where it starts, or a piece of a session
	n     uint32 // 0 in an empty one
	span  uint32
	key   K
	acc   A
}

const (
	// foldBytes bounds the table: it is to stay in the nearer caches.
	foldBytes = 96 << 10
	// mostPlaces and leastPlaces bound their number, powers of two.
	mostPlaces  = 2048
	leastPlaces = 16
	// foldFor is how long a busy task may hold records back.
	foldFor = 5 * time.Millisecond
)

// NewFolder makes the folder of one subtask, for a window operator whose
// configuration says that it is fed by one.
func NewFolder[K comparable, T, A, R any](c Config[K, T, A, R]) operator.Operator {
	return &Folder[K, T, A]{assigner: c.Assigner, key: c.Key, aggregate: c.Aggregate}
}

// Input implements operator.Operator.
func (f *Folder[K, T, A]) Input(int) any { return operator.Stage[T](f) }

// Output implements operator.Operator.
func (f *Folder[K, T, A]) Output(tag string) any {
	if tag != "" {
		return nil
	}
	return &f.out
}

// Open implements operator.Operator.
func (f *Folder[K, T, A]) Open(ctx *operator.Context) error {
	f.ctx, f.watermark, f.worth = ctx, batch.NoTime, worth{on: true}
	n := mostPlaces
	for n > leastPlaces && uintptr(n)*unsafe.Sizeof(folded[K, A]{}) > foldBytes {
		n /= 2
	}
	f.places = make([]folded[K, A], n)
	var err error
	f.hash, err = keygroup.HasherOf[K]()
	return err
}

// Close implements operator.Operator.
func (f *Folder[K, T, A]) Close() error { return nil }

// Watermark implements operator.Operator: what is held leaves before it.
func (f *Folder[K, T, A]) Watermark(t int64) (int64, error) {
	if err := f.Flush(); err != nil {
		return f.watermark, err
	}
	f.watermark, f.start, f.end = t, 0, 0
	return t, nil
}

// Push implements operator.Stage.
func (f *Folder[K, T, A]) Push(b *batch.Batch[T]) error {
	f.ctx.Enter()
	f.ctx.Metrics.RecordsIn += uint64(len(b.Values))
	on := f.worth.take(len(b.Values))
	if !on && len(f.used) > 0 {
		if err := f.Flush(); err != nil { // the raw ones come after them
			return err
		}
	}
	if err := f.fold(b, on); err != nil {
		return err
	}
	if on && len(f.used) > 0 && f.ctx.Clock.Now().Sub(f.since) >= foldFor {
		return f.Flush()
	}
	if f.buf.Len() > 0 {
		return f.handOver()
	}
	return nil
}

// fold takes in records where folding is on, else it lets them pass.
func (f *Folder[K, T, A]) fold(b *batch.Batch[T], on bool) error {
	if f.assigner.Gap != 0 {
		return f.foldSessions(b, on)
	}
	last := &f.places[0]
	for i := range b.Values {
		t := b.Times[i]
		if t < f.start || t >= f.end {
			f.enter(t)
		}
		k := f.key(b.Values[i])
		if !on || !f.open {
			if err := f.pass(k, b.Values[i], t); err != nil {
				return err
			}
			continue
		}
		if last.n == 0 || last.slice != f.start || last.key != k {
			var err error
			if last, err = f.find(k); err != nil {
				return err
			}
		}
		last.n++
		f.aggregate.Add(&last.acc, b.Values[i])
	}
	return nil
}

// pass makes a row of a record as it is.
func (f *Folder[K, T, A]) pass(k K, v T, t int64) error {
	p := f.row(t)
	p.Key, p.N, p.Span, p.Acc, p.Raw = k, 0, 0, f.none.Acc, v
	if f.buf.Full() {
		return f.handOver()
	}
	return nil
}

// enter makes the slice of a time the one in hand.
func (f *Folder[K, T, A]) enter(t int64) {
	a := &f.assigner
	if a.ProcessingTime { // one slice: the receiver's clock counts
		f.start, f.end, f.open = batch.NoTime, batch.EndOfTime, true
		return
	}
	if t == batch.NoTime { // the receiver refuses it
		f.start, f.end, f.open = 0, 0, false
		return
	}
	f.start, f.end, f.open = a.slice(t)
	f.open = f.open && (f.watermark == batch.NoTime || a.firstEnd(f.start)-1 > f.watermark)
	f.mix = uint64(f.start) * 0x9e3779b97f4a7c15 >> 32
}

// find returns the place of a key in the slice in hand, or in whatever piece of a
// session. It has two places to be; where others hold both, the one with fewer
// records leaves.
func (f *Folder[K, T, A]) find(k K) (*folded[K, A], error) {
	f.k = k // a key on the stack would escape to the heap
	h := f.hash(&f.k)
	at := (h ^ f.mix) & uint64(len(f.places)-1)
	sessions := f.assigner.Gap != 0
	p := &f.places[at]
	if p.n > 0 && p.hash == h && (p.slice == f.start || sessions) && p.key == k {
		return p, nil
	}
	q := &f.places[at^1]
	if q.n > 0 && q.hash == h && (q.slice == f.start || sessions) && q.key == k {
		return q, nil
	}
	switch {
	case p.n == 0:
		f.occupy(at)
	case q.n == 0:
		f.occupy(at ^ 1)
		p = q
	default:
		if q.slice < p.slice && !sessions || (q.slice == p.slice || sessions) && q.n < p.n {
			p = q
		}
		if err := f.leave(p); err != nil {
			return nil, err
		}
	}
	p.hash, p.slice, p.key, p.acc = h, f.start, k, f.aggregate.New()
	return p, nil
}

func (f *Folder[K, T, A]) occupy(at uint64) {
	if len(f.used) == 0 {
		f.since = f.ctx.Clock.Now()
	}
	f.used = append(f.used, uint16(at))
}

// leave makes a row of what a place holds, which is then empty.
func (f *Folder[K, T, A]) leave(p *folded[K, A]) error {
	f.worth.rows++
	r := f.row(p.slice)
	r.Key, r.N, r.Span, r.Acc, r.Raw = p.key, p.n, p.span, p.acc, f.none.Raw
	*p = folded[K, A]{}
	if f.buf.Full() {
		return f.handOver()
	}
	return nil
}

// row adds one to the buffer, to be filled in place. The buffer is not cleared
// between batches: it keeps at most one batch of the user's values alive.
func (f *Folder[K, T, A]) row(t int64) *Partial[K, T, A] {
	f.buf.Times = append(f.buf.Times, t)
	n := len(f.buf.Values)
	if n == cap(f.buf.Values) {
		f.buf.Values = append(f.buf.Values, f.none)
	}
	f.buf.Values = f.buf.Values[:n+1]
	return &f.buf.Values[n]
}

// Flush implements operator.Flusher.
func (f *Folder[K, T, A]) Flush() error {
	for _, at := range f.used {
		if err := f.leave(&f.places[at]); err != nil {
			return err
		}
	}
	f.used = f.used[:0]
	if f.buf.Len() > 0 {
		return f.handOver()
	}
	return nil
}

func (f *Folder[K, T, A]) handOver() error {
	f.ctx.Metrics.RecordsOut += uint64(f.buf.Len())
	err := f.out.Push(&f.buf)
	f.buf.Values, f.buf.Times = f.buf.Values[:0], f.buf.Times[:0]
	f.ctx.Enter()
	return err
}

// worth measures whether folding reduces, and switches it off where it does not:
// then records travel raw, and a sample now and then tells whether it has come to
// be worth while.
//
//	on ── after sample records, rows beyond 2/3 of them ──▶ off
//	on ◀── after restAfter records ── off
type worth struct {
	on            bool
	records, rows int
}

const (
	sample    = 1 << 14
	restAfter = 1 << 20
)

// take counts records and says whether they are to be folded.
func (w *worth) take(n int) bool {
	switch {
	case w.on && w.records >= sample:
		w.on = 3*w.rows <= 2*w.records
		w.records, w.rows = 0, 0
	case !w.on && w.records >= restAfter:
		*w = worth{on: true}
	}
	w.records += n
	return w.on
}
