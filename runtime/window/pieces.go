package window

import (
	"math"
	"slices"

	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/state"
)

// Sessions are folded to pieces: records of a key of which each is less than a
// gap from another. Wherever a session begins and ends at the receiver, a piece
// lies in it as a whole.

// foldSessions is fold where windows are sessions.
func (f *Folder[K, T, A]) foldSessions(b *batch.Batch[T], on bool) error {
	gap := f.assigner.Gap
	last := &f.places[0]
	for i := range b.Values {
		t := b.Times[i]
		k := f.key(b.Values[i])
		// The receiver refuses a record without time.
		open := t != batch.NoTime && (f.watermark == batch.NoTime || t+gap-1 > f.watermark)
		if f.assigner.ProcessingTime {
			t, open = 0, true // the receiver's clock counts
		}
		if !on || !open {
			if err := f.passBehind(k, b.Values[i], b.Times[i]); err != nil {
				return err
			}
			continue
		}
		f.start = t
		if last.n == 0 || last.key != k {
			var err error
			if last, err = f.find(k); err != nil {
				return err
			}
		}
		if err := f.extend(last, t); err != nil {
			return err
		}
		last.n++
		f.aggregate.Add(&last.acc, b.Values[i])
	}
	return nil
}

// passBehind lets a record pass, behind what is held of its key: whether it is
// late may depend on the session that this has made.
func (f *Folder[K, T, A]) passBehind(k K, v T, t int64) error {
	if len(f.used) > 0 {
		f.k = k
		home := f.hash(&f.k) & uint64(len(f.places)-1)
		for _, at := range [2]uint64{home, home ^ 1} {
			p := &f.places[at]
			if p.n == 0 || p.key != k {
				continue
			}
			i := slices.Index(f.used, uint16(at))
			f.used = slices.Delete(f.used, i, i+1)
			if err := f.leave(p); err != nil {
				return err
			}
		}
	}
	return f.pass(k, v, t)
}

// extend has a piece of a session cover a time. One that does not touch it leaves
// first, and another begins in its place.
func (f *Folder[K, T, A]) extend(p *folded[K, A], t int64) error {
	if p.n == 0 {
		return nil // find has begun it at t
	}
	first, end := min(p.slice, t), max(p.slice+int64(p.span), t)
	if t-p.slice-int64(p.span) < f.assigner.Gap && p.slice-t < f.assigner.Gap && end-first <= math.MaxUint32 {
		p.slice, p.span = first, uint32(end-first)
		return nil
	}
	hash, key := p.hash, p.key
	if err := f.leave(p); err != nil {
		return err
	}
	p.hash, p.slice, p.key, p.acc = hash, t, key, f.aggregate.New()
	return nil
}

// pieces is the input of a Sessions that a Folder feeds.
type pieces[K comparable, T, A, R any] struct{ w *Sessions[K, T, A, R] }

// Push implements operator.Stage.
func (in pieces[K, T, A, R]) Push(b *batch.Batch[Partial[K, T, A]]) error {
	w := in.w
	w.enter(len(b.Values))
	for i := range b.Values {
		p := &b.Values[i]
		if i%state.Stride == 0 {
			w.sessions.Ahead(b.Hashes, i)
		}
		at, err := w.at(b.Times[i])
		if err != nil {
			return err
		}
		s := w.take(at, at+int64(p.Span), b.Hashes[i], p.Key)
		switch {
		case s == nil:
			w.ctx.Metrics.LateDropped += uint64(max(1, p.N))
			continue
		case p.N == 0:
			w.cfg.Aggregate.Add(&s.Acc, p.Raw)
		case w.fresh: // a checkpoint may be reading the row
			s.Acc = w.accs.Clone(&p.Acc)
		default:
			w.cfg.Aggregate.Merge(&s.Acc, &p.Acc)
		}
		w.took(s, b.Hashes[i], p.Key)
	}
	return w.leave()
}
