package window

import (
	"cmp"
	"slices"

	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/operator"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// next is when event time has something to do for a pane: its trigger's timer,
// its end, or the end of its lateness.
func (w *Triggered[K, T, A, S, R]) next(p *pane[A, S]) int64 {
	if w.cfg.Assigner.Endless {
		return p.Timer
	}
	at := p.End - 1
	if p.Over {
		at += w.cfg.AllowedLateness
	}
	return min(at, p.Timer)
}

// Watermark implements operator.Operator.
func (w *Triggered[K, T, A, S, R]) Watermark(t int64) (int64, error) {
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
func (w *Triggered[K, T, A, S, R]) Work() (more bool, watermark int64, err error) {
	w.ctx.Enter()
	w.call.now = w.ctx.Clock.Now().UnixMilli()
	if more, err = w.clocks.Advance(w.call.now, keysAStep, w.onClock); err != nil || more {
		return more, w.reached, err
	}
	if w.watermark != batch.NoTime {
		if more, err = w.timers.Advance(w.watermark, keysAStep, w.onTime); err != nil {
			return false, w.reached, err
		}
	}
	if err := w.flush(); err != nil {
		return false, w.reached, err
	}
	if !more {
		w.reached = max(w.reached, w.watermark)
	}
	w.schedule()
	return more, w.reached, nil
}

// onClock is a timer of a key in processing time.
func (w *Triggered[K, T, A, S, R]) onClock(at int64, hash uint64, key K) error {
	if w.stamp = batch.NoTime; w.watermark != batch.NoTime {
		w.stamp = w.watermark + 1
	}
	return w.visit(hash, key, func(p *pane[A, S]) bool {
		if p.Clock > at {
			return true
		}
		p.Clock = never
		if f := w.cfg.Trigger.OnClock; f != nil {
			w.act(p, key, w.ask(p, at, func() Action { return f(&w.call, &p.Kept) }))
		}
		return w.holds(p)
	})
}

// onTime is a timer of a key in event time: its trigger's, the end of a window or
// of its lateness.
func (w *Triggered[K, T, A, S, R]) onTime(at int64, hash uint64, key K) error {
	w.stamp = at
	return w.visit(hash, key, func(p *pane[A, S]) bool {
		ends := !p.Over && !w.cfg.Trigger.Only && p.End-1 <= at
		if p.Timer <= at {
			p.Timer = never
			if f := w.cfg.Trigger.OnTimer; f != nil && !ends { // its end fires it anyhow
				w.act(p, key, w.ask(p, at, func() Action { return f(&w.call, &p.Kept) }))
			}
		}
		if w.cfg.Assigner.Endless || p.End-1 > at {
			return w.holds(p)
		}
		if !p.Over {
			p.Over = true
			w.end(p, key)
		}
		if p.End-1+w.cfg.AllowedLateness > at {
			return true
		}
		if p.Fresh { // late records that the trigger held back
			w.end(p, key)
		}
		return false
	})
}

// holds says whether a pane is to stay: an endless one goes when it is empty and
// waits for nothing.
func (w *Triggered[K, T, A, S, R]) holds(p *pane[A, S]) bool {
	return !w.cfg.Assigner.Endless || p.Held || min(p.Timer, p.Clock) != never
}

// end fires a pane at its end.
func (w *Triggered[K, T, A, S, R]) end(p *pane[A, S], key K) {
	if w.cfg.Trigger.Only {
		return
	}
	w.fire(p, key)
}

// visit calls f for the panes of a key, drops those for which it is false, and
// sets the timers of the others.
func (w *Triggered[K, T, A, S, R]) visit(hash uint64, key K, f func(p *pane[A, S]) bool) error {
	if _, ok := w.panes.Get(hash, key); !ok {
		return nil
	}
	list, _ := w.panes.Upsert(hash, key)
	kept := (*list)[:0]
	for i := range *list {
		p := (*list)[i]
		if f(&p) {
			kept = append(kept, p)
		}
	}
	clear((*list)[len(kept):])
	*list = kept
	for i := range kept {
		if at := w.next(&kept[i]); at != never {
			w.timers.Register(at, hash, key)
		}
		if at := kept[i].Clock; at != never {
			w.clocks.Register(at, hash, key)
		}
	}
	if len(kept) == 0 {
		w.panes.Delete(hash, key)
	}
	if w.out.Full() {
		return w.flush()
	}
	return nil
}

// Restore implements operator.Restorer.
func (w *Triggered[K, T, A, S, R]) Restore(entries []*pb.OperatorEntry) error {
	w.timers.Rebuild()
	w.clocks.Rebuild()
	all, err := restoreProgress(entries, w.ctx.KeyGroups)
	if len(all) > 0 {
		w.watermark = slices.MinFunc(all, func(a, b Progress) int { return cmp.Compare(a.Watermark, b.Watermark) }).Watermark
	}
	w.reached = w.watermark
	w.schedule()
	return err
}

// Snapshot implements operator.Snapshotter. The end of time is not kept, as of
// Sliced.
func (w *Triggered[K, T, A, S, R]) Snapshot(s *operator.Snapshot) error {
	p := Progress{Groups: w.ctx.KeyGroups, Watermark: w.watermark, Fired: batch.NoTime, Emitting: batch.NoTime}
	if s.Terminal && w.watermark == batch.EndOfTime {
		p.Watermark = w.before
	}
	s.Entries = append(s.Entries, p.entry())
	return nil
}

// schedule has the clock call at the earliest timer of processing time.
func (w *Triggered[K, T, A, S, R]) schedule() {
	at, ok := w.clocks.Next()
	if w.cfg.Assigner.ProcessingTime {
		if end, set := w.timers.Next(); set && (!ok || end+1 < at) {
			at, ok = end+1, true
		}
	}
	if ok {
		w.alarm.set(w.ctx, at, w.tick)
	}
}

// tick does what the clock has passed; it runs on the task's goroutine.
func (w *Triggered[K, T, A, S, R]) tick() error {
	w.alarm.off()
	if w.cfg.Assigner.ProcessingTime {
		return onClock(w.ctx, &w.watermark, w.Work, w.tick, w.schedule)
	}
	more, _, err := w.Work()
	if more {
		w.ctx.Mail(w.tick)
	}
	return err
}

// flush hands on what was collected.
func (w *Triggered[K, T, A, S, R]) flush() error {
	return flush(w.ctx, &w.main, &w.out, &w.late, &w.lateBatch)
}
