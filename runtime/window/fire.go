package window

import (
	"slices"

	"github.com/millrace/millrace/runtime/batch"
)

// keysAStep bounds the work of one step of firing: keys included, emitted or
// expired before the task may turn to its mailbox.
const keysAStep = 2048

// firing is where the operator stands on its way from fired to the watermark.
//
//	resting ── an end is due ──▶ including ──▶ emitting ──▶ expiring ──▶ resting
//
// Tumbling windows have no combiner: they go from resting to emitting. Each
// phase goes through its slices (or the combiner's keys) in hash order; at is
// the hash to go on from.
type firing struct {
	phase phase
	end   int64
	slice int64
	at    uint64
	// after is fired as of the beginning: slices whose windows had all fired by
	// then are not in the combiner.
	after int64
}

type phase uint8

const (
	resting phase = iota
	including
	emitting
	expiring
)

// Watermark implements operator.Operator.
func (w *Sliced[K, T, A, R]) Watermark(t int64) (int64, error) {
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

// Work implements operator.Worker: one bounded step of firing.
func (w *Sliced[K, T, A, R]) Work() (more bool, watermark int64, err error) {
	w.ctx.Enter()
	for budget := keysAStep; ; {
		if w.fire.phase == resting && !w.begin() {
			w.rest()
			return false, w.reached, w.flush()
		}
		done, err := w.step(&budget)
		if err != nil {
			return false, w.reached, err
		}
		if !done {
			return true, w.reached, w.flush()
		}
	}
}

// rest is when all that is due has fired. Windows that held nothing count: what
// comes for them from now on is as late as if they had.
func (w *Sliced[K, T, A, R]) rest() {
	w.forget()
	w.reached = max(w.reached, w.watermark)
	if w.watermark != batch.EndOfTime {
		w.fired = max(w.fired, w.cfg.Assigner.lastEndBy(w.watermark))
	}
}

// begin starts on the earliest window that is due and holds something. Slices
// that nothing covers any more go here.
func (w *Sliced[K, T, A, R]) begin() bool {
	a := &w.cfg.Assigner
	w.dropSlices()
	for _, s := range w.live {
		if a.lastEnd(s) <= w.fired {
			continue // kept for late records only
		}
		end := w.nextEnd(s)
		if !w.due(end) {
			return false
		}
		w.fire = firing{phase: emitting, end: end, after: w.fired}
		if w.combine != nil {
			w.fire.phase, w.fire.slice = including, s
		}
		return true
	}
	return false
}

// nextEnd is the earliest window end after fired that covers a slice.
func (w *Sliced[K, T, A, R]) nextEnd(slice int64) int64 {
	end := w.cfg.Assigner.firstEnd(slice)
	if w.fired != batch.NoTime && end <= w.fired {
		end = w.fired - (w.fired-end)%w.cfg.Assigner.Slide + w.cfg.Assigner.Slide
	}
	return end
}

// due says whether the window that ends at end fires at the watermark.
func (w *Sliced[K, T, A, R]) due(end int64) bool {
	return w.watermark != batch.NoTime && end-1 <= w.watermark
}

// step works on the current phase until it is done or the budget is gone.
func (w *Sliced[K, T, A, R]) step(budget *int) (done bool, err error) {
	f := &w.fire
	switch f.phase {
	case including:
		if !w.include(budget) {
			return false, nil
		}
		w.included = f.end
		f.phase, f.at = emitting, 0
	case emitting:
		done, err := w.emit(budget)
		if !done || err != nil {
			return false, err
		}
		w.fired = f.end
		w.restored = slices.DeleteFunc(w.restored, func(p Progress) bool { return max(p.Fired, p.Emitting) <= w.fired })
		if w.combine == nil {
			f.phase = resting
			break
		}
		f.phase, f.at = expiring, 0
		f.slice = batch.NoTime
	case expiring:
		if !w.expire(budget) {
			return false, nil
		}
		f.phase = resting
	}
	return *budget > 0, nil
}

// include adds to the combiner the slices that the window covers and that it
// has not seen.
func (w *Sliced[K, T, A, R]) include(budget *int) bool {
	f := &w.fire
	i, _ := slices.BinarySearch(w.live, max(f.slice, w.included))
	for ; i < len(w.live) && w.live[i] < f.end; i++ {
		s := w.live[i]
		if s != f.slice {
			f.slice, f.at = s, 0
		}
		if w.cfg.Assigner.lastEnd(s) <= w.fired {
			continue
		}
		if !w.scan(s, budget, func(hash uint64, key *K, acc *A) { w.combine.include(s, hash, key, acc) }) {
			return false
		}
	}
	return true
}

// expire takes from the combiner the slices that no later window covers.
func (w *Sliced[K, T, A, R]) expire(budget *int) bool {
	f := &w.fire
	i, _ := slices.BinarySearch(w.live, f.slice)
	for ; i < len(w.live) && w.cfg.Assigner.lastEnd(w.live[i]) <= f.end; i++ {
		s := w.live[i]
		if w.cfg.Assigner.lastEnd(s) <= f.after {
			continue
		}
		if !w.combine.prepare(budget) {
			return false
		}
		if s != f.slice {
			f.slice, f.at = s, 0
		}
		if !w.scan(s, budget, func(hash uint64, key *K, acc *A) { w.combine.expire(s, hash, key, acc) }) {
			return false
		}
		w.combine.expired(s)
	}
	return true
}

// scan goes on through a slice from f.at.
func (w *Sliced[K, T, A, R]) scan(slice int64, budget *int, f func(hash uint64, key *K, acc *A)) bool {
	if *budget <= 0 {
		return false
	}
	next, done := w.slices.Lookup(slice).Scan(w.fire.at, *budget, func(hash uint64, key *K, acc *A) bool {
		*budget--
		f(hash, key, acc)
		return true
	})
	w.fire.at = next
	if done {
		w.fire.at = 0
	}
	return done
}

// emit sends the results of the window, in hash order.
func (w *Sliced[K, T, A, R]) emit(budget *int) (done bool, err error) {
	f := &w.fire
	if w.combine != nil && !w.combine.settle(budget) {
		return false, nil
	}
	span := Window{w.cfg.Assigner.start(f.end), f.end}
	each := func(hash uint64, key *K, acc *A) bool {
		*budget--
		if len(w.restored) > 0 && w.emitted(f.end, hash) {
			return true
		}
		w.out.Append(w.cfg.Result(span, *key, *acc), f.end-1)
		if w.out.Full() {
			err = w.flush()
		}
		return err == nil
	}
	for !done && *budget > 0 && err == nil {
		n := *budget
		if w.combine == nil {
			f.at, done = w.slices.Lookup(span.Start).Scan(f.at, n, each)
		} else {
			f.at, done = w.combine.scan(f.at, n, each)
		}
		if *budget == n {
			*budget-- // an empty stretch is work too
		}
	}
	return done, err
}

// dropSlices drops the state of slices whose windows are all out and past
// their lateness.
func (w *Sliced[K, T, A, R]) dropSlices() {
	n := 0
	for n < len(w.live) {
		last := w.cfg.Assigner.lastEnd(w.live[n])
		if w.fired == batch.NoTime || last > w.fired || last-1+w.cfg.AllowedLateness > w.watermark {
			break
		}
		w.slices.Drop(w.live[n])
		n++
	}
	if n > 0 {
		w.live = slices.Delete(w.live, 0, n)
		w.forget()
	}
}
