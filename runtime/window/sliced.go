package window

import (
	"fmt"
	"slices"

	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/codec"
	"github.com/millrace/millrace/runtime/operator"
	"github.com/millrace/millrace/runtime/state"
)

// Sliced is the operator of tumbling and sliding windows.
//
// Invariants:
//  1. live holds the starts of the slices that are in the state, ascending.
//  2. fired is the last window end whose results are all out. No window ends
//     at or before it that could still fire.
//  3. A slice is in the combiner if and only if it starts before included and
//     its last window has not left.
//  4. No record is taken in while a window fires.
type Sliced[K comparable, T, A, R any] struct {
	cfg  Config[K, T, A, R]
	ctx  *operator.Context
	main operator.Output[R]
	late operator.Output[T]

	slices *state.Spaces[K, A]
	accs   codec.Codec[A]
	live   []int64
	cache  [4]sliceRef[K, A]

	watermark int64 // of the input
	before    int64 // watermark before the end of time
	reached   int64 // of the output
	fired     int64
	included  int64
	combine   combiner[K, A]
	fire      firing
	restored  []Progress

	out       batch.Batch[R]
	lateBatch batch.Batch[T]
	alarm     alarm
}

// sliceRef is a slice as records find it.
type sliceRef[K comparable, A any] struct {
	start, end int64
	table      *state.Table[K, A]
	fate       fate
}

// fate is what becomes of a record of a slice, as of the current watermark.
type fate uint8

const (
	open    fate = iota // all windows of the slice are still to fire
	behind              // some have fired
	tooLate             // all are past their lateness
	nowhere             // no window covers the slice
)

// Input implements operator.Operator.
func (w *Sliced[K, T, A, R]) Input(int) any {
	if w.cfg.Folded {
		return operator.Stage[Partial[K, T, A]](partials[K, T, A, R]{w})
	}
	return operator.Stage[T](w)
}

// Output implements operator.Operator.
func (w *Sliced[K, T, A, R]) Output(tag string) any {
	return outputs(tag, w.cfg.Late, &w.main, &w.late)
}

// outputs finds the output of a tag.
func outputs[R, T any](tag, lateTag string, main *operator.Output[R], late *operator.Output[T]) any {
	switch tag {
	case "":
		return main
	case lateTag:
		return late
	}
	return nil
}

// Open implements operator.Operator.
func (w *Sliced[K, T, A, R]) Open(ctx *operator.Context) error {
	w.ctx = ctx
	w.watermark, w.reached, w.fired, w.included = batch.NoTime, batch.NoTime, batch.NoTime, batch.NoTime
	if err := w.cfg.validate(); err != nil {
		return err
	}
	var err error
	if w.accs, err = codec.Derive[A](); err != nil {
		return err
	}
	if w.slices, err = state.NewSpaces[K, A](ctx.State, StateName); err != nil {
		return err
	}
	ctx.State.Describe(StateName, "window")
	w.slices.Means(w.cfg.Assigner.cuts())
	w.combine, err = w.cfg.newCombiner(w.slices, w.accs, ctx.KeyGroups)
	return err
}

// Close implements operator.Operator.
func (w *Sliced[K, T, A, R]) Close() error {
	w.alarm.off()
	return nil
}

// Push implements operator.Stage.
func (w *Sliced[K, T, A, R]) Push(b *batch.Batch[T]) error {
	w.ctx.Enter()
	w.ctx.Metrics.RecordsIn += uint64(len(b.Values))
	if w.cfg.Assigner.ProcessingTime {
		return w.pushNow(b)
	}
	cur := &w.cache[0]
	for i, v := range b.Values {
		t := b.Times[i]
		if t < cur.start || t >= cur.end {
			var err error
			if cur, err = w.find(t); err != nil {
				return err
			}
		}
		if cur.fate != open {
			if err := w.pushBehind(cur, v, t, b.Hashes[i]); err != nil {
				return err
			}
			continue
		}
		if i%state.Stride == 0 {
			cur.table.Ahead(b.Hashes, i) // most of these are of this slice
		}
		acc, fresh := cur.table.Upsert(b.Hashes[i], w.cfg.Key(v))
		if fresh {
			*acc = w.cfg.Aggregate.New()
		}
		w.cfg.Aggregate.Add(acc, v)
	}
	return w.flush()
}

// find moves the slice of time t to the front of the cache.
func (w *Sliced[K, T, A, R]) find(t int64) (*sliceRef[K, A], error) {
	for i := 1; i < len(w.cache); i++ {
		if ref := &w.cache[i]; t >= ref.start && t < ref.end {
			w.cache[0], w.cache[i] = w.cache[i], w.cache[0]
			return &w.cache[0], nil
		}
	}
	if t == batch.NoTime {
		return nil, fmt.Errorf("a record without event time reached the window: give its source a watermark strategy, or the stream timestamps")
	}
	start, end, covered := w.cfg.Assigner.slice(t)
	ref := sliceRef[K, A]{start: start, end: end}
	last := w.cfg.Assigner.lastEnd(start)
	switch {
	case !covered:
		ref.fate = nowhere
	case w.watermark != batch.NoTime && last-1+w.cfg.AllowedLateness <= w.watermark:
		ref.fate = tooLate
	default:
		if w.watermark != batch.NoTime && w.cfg.Assigner.firstEnd(start)-1 <= w.watermark {
			ref.fate = behind
		}
		ref.table = w.slices.Space(start)
		if i, found := slices.BinarySearch(w.live, start); !found {
			w.live = slices.Insert(w.live, i, start)
		}
	}
	copy(w.cache[1:], w.cache[:len(w.cache)-1])
	w.cache[0] = ref
	return &w.cache[0], nil
}

// forget empties the cache: tables or fates have changed.
func (w *Sliced[K, T, A, R]) forget() {
	for i := range w.cache {
		w.cache[i] = sliceRef[K, A]{start: 1, end: 0}
	}
}

// pushBehind takes a record of a slice of which not all windows are open.
func (w *Sliced[K, T, A, R]) pushBehind(ref *sliceRef[K, A], v T, t int64, hash uint64) error {
	switch ref.fate {
	case nowhere:
		return nil
	case tooLate:
		w.ctx.Metrics.LateDropped++
		if w.late.Attached() {
			w.lateBatch.AppendKeyed(v, t, hash)
		}
		return nil
	}
	return w.takeBehind(ref, hash, w.cfg.Key(v), func(acc *A, fresh bool) {
		if fresh {
			*acc = w.cfg.Aggregate.New()
		}
		w.cfg.Aggregate.Add(acc, v)
	})
}

// takeBehind adds to a slice of which some windows have fired.
func (w *Sliced[K, T, A, R]) takeBehind(ref *sliceRef[K, A], hash uint64, key K, add func(acc *A, fresh bool)) error {
	acc, fresh := ref.table.Upsert(hash, key)
	add(acc, fresh)
	if w.combine != nil && ref.start < w.included && w.cfg.Assigner.lastEnd(ref.start) > w.fired {
		w.combine.late(ref.start, hash, key, fresh, add)
	}
	return w.refire(ref.start, hash, key)
}

// refire emits anew the fired windows of a slice that are within their
// allowed lateness, for one key.
func (w *Sliced[K, T, A, R]) refire(slice int64, hash uint64, key K) error {
	a := &w.cfg.Assigner
	for end := a.firstEnd(slice); end <= a.lastEnd(slice) && end-1 <= w.watermark; end += a.Slide {
		if end-1+w.cfg.AllowedLateness <= w.watermark {
			continue
		}
		var acc A
		found := false
		from, _ := slices.BinarySearch(w.live, a.start(end))
		for _, s := range w.live[from:] {
			if s >= end {
				break
			}
			if part, ok := w.slices.Lookup(s).Get(hash, key); ok {
				if !found {
					acc, found = w.accs.Clone(part), true
				} else {
					w.cfg.Aggregate.Merge(&acc, part)
				}
			}
		}
		w.out.Append(w.cfg.Result(Window{a.start(end), end}, key, acc), end-1)
	}
	return nil
}

// flush hands on what was collected.
func (w *Sliced[K, T, A, R]) flush() error {
	return flush(w.ctx, &w.main, &w.out, &w.late, &w.lateBatch)
}

// flush hands on results and late records, and names the operator again for
// the user code that follows.
func flush[R, T any](ctx *operator.Context, main *operator.Output[R], out *batch.Batch[R], late *operator.Output[T], lateOut *batch.Batch[T]) error {
	ctx.Metrics.RecordsOut += uint64(out.Len())
	if err := send(late, lateOut); err != nil {
		return err
	}
	if err := send(main, out); err != nil {
		return err
	}
	ctx.Enter()
	return nil
}

func send[T any](o *operator.Output[T], b *batch.Batch[T]) error {
	if b.Len() == 0 {
		return nil
	}
	defer b.Reset()
	return o.Push(b)
}
