package window

import (
	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/state"
)

// partials is the input of a Sliced that a Folder feeds.
type partials[K comparable, T, A, R any] struct{ w *Sliced[K, T, A, R] }

// Push implements operator.Stage.
func (in partials[K, T, A, R]) Push(b *batch.Batch[Partial[K, T, A]]) error {
	w := in.w
	w.ctx.Enter()
	w.ctx.Metrics.RecordsIn += uint64(len(b.Values))
	clock := w.cfg.Assigner.ProcessingTime
	now := int64(0)
	if clock {
		now = w.now()
	}
	ref := &w.cache[0]
	for i := range b.Values {
		p := &b.Values[i]
		t := b.Times[i]
		if clock {
			t = now
		}
		if t < ref.start || t >= ref.end {
			var err error
			if ref, err = w.find(t); err != nil {
				return err
			}
			if clock {
				w.schedule()
			}
		}
		if ref.fate != open {
			if err := in.behind(ref, p, t, b.Hashes[i]); err != nil {
				return err
			}
			continue
		}
		if i%state.Stride == 0 {
			ref.table.Ahead(b.Hashes, i) // most of these are of this slice
		}
		acc, fresh := ref.table.Upsert(b.Hashes[i], p.Key)
		in.fold(p, acc, fresh)
	}
	return w.flush()
}

// fold adds a partial to an accumulator. Nobody else has the partial's memory,
// but a checkpoint may be reading it.
func (in partials[K, T, A, R]) fold(p *Partial[K, T, A], acc *A, fresh bool) {
	w := in.w
	switch {
	case p.N == 0:
		if fresh {
			*acc = w.cfg.Aggregate.New()
		}
		w.cfg.Aggregate.Add(acc, p.Raw)
	case fresh:
		*acc = w.accs.Clone(&p.Acc)
	default:
		w.cfg.Aggregate.Merge(acc, &p.Acc)
	}
}

// behind takes a partial of a slice of which not all windows are open.
func (in partials[K, T, A, R]) behind(ref *sliceRef[K, A], p *Partial[K, T, A], t int64, hash uint64) error {
	if ref.fate == behind {
		return in.w.takeBehind(ref, hash, p.Key, func(acc *A, fresh bool) { in.fold(p, acc, fresh) })
	}
	if ref.fate == tooLate {
		in.w.ctx.Metrics.LateDropped += uint64(max(1, p.N))
	}
	return nil
}
