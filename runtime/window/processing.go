package window

import (
	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/state"
)

// pushNow takes records at the time that the clock shows.
func (w *Sliced[K, T, A, R]) pushNow(b *batch.Batch[T]) error {
	now := w.now()
	ref := &w.cache[0]
	if now < ref.start || now >= ref.end {
		var err error
		if ref, err = w.find(now); err != nil {
			return err
		}
		w.schedule()
	}
	if ref.fate == nowhere {
		return nil
	}
	for i, v := range b.Values {
		if i%state.Stride == 0 {
			ref.table.Ahead(b.Hashes, i)
		}
		acc, fresh := ref.table.Upsert(b.Hashes[i], w.cfg.Key(v))
		if fresh {
			*acc = w.cfg.Aggregate.New()
		}
		w.cfg.Aggregate.Add(acc, v)
	}
	return nil
}

// now is the clock's time, never at or before the watermark, so that a clock
// set back makes nothing late.
func (w *Sliced[K, T, A, R]) now() int64 {
	return max(w.ctx.Clock.Now().UnixMilli(), w.watermark+1)
}

// schedule has the clock call at the earliest end that is to fire.
func (w *Sliced[K, T, A, R]) schedule() {
	for _, s := range w.live {
		if w.cfg.Assigner.lastEnd(s) > w.fired {
			w.alarm.set(w.ctx, w.nextEnd(s), w.tick)
			return
		}
	}
}

// tick fires what the clock has passed; it runs on the task's goroutine.
func (w *Sliced[K, T, A, R]) tick() error {
	w.alarm.off()
	return onClock(w.ctx, &w.watermark, w.Work, w.tick, w.schedule)
}
