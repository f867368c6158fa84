package sdk

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/millrace/millrace/runtime/keygroup"
	"github.com/millrace/millrace/runtime/operator"
	"github.com/millrace/millrace/runtime/window"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Windows says how time is cut into windows: Tumbling, Sliding, Cumulating or
// Session. They are in event time unless InProcessingTime.
type Windows struct{ a window.Assigner }

// Tumbling cuts time into windows of one size: an hour, a day. A record belongs
// to one. They begin at multiples of the size since 1970-01-01 UTC (see Offset).
func Tumbling(size time.Duration) Windows { return Windows{window.Tumbling(size)} }

// Sliding makes windows of one size that begin every slide: the last hour, every
// minute. A record belongs to size ÷ slide of them, and yet costs one update.
func Sliding(size, slide time.Duration) Windows { return Windows{window.Sliding(size, slide)} }

// Cumulating makes windows that begin every size and grow by step until they have
// that size: today so far, every ten minutes. A record belongs to all that end
// after it, and yet costs one update. The size is a multiple of the step.
func Cumulating(size, step time.Duration) Windows { return Windows{window.Cumulating(size, step)} }

// Session makes, for each key, windows of records that are less than gap apart.
func Session(gap time.Duration) Windows { return Windows{window.Session(gap)} }

// Offset moves the beginnings of windows: Tumbling(24*time.Hour).Offset(-2*time.Hour)
// makes days of UTC+2. Sessions have none.
func (w Windows) Offset(d time.Duration) Windows {
	w.a.Offset = d.Milliseconds()
	return w
}

// InProcessingTime takes the clock of the machine instead of event times: a
// record belongs to the time at which the operator sees it, and none is late.
func (w Windows) InProcessingTime() Windows {
	w.a.ProcessingTime = true
	return w
}

// Window is the time that a result is about: from Start up to, and not
// including, End. Both are UTC.
type Window struct {
	Start, End time.Time
}

// WindowedStream is a keyed stream cut into windows. A window fires, and its
// result is emitted, once event time has passed its end; the result's own event
// time is a millisecond before End.
//
// A record that comes after that is late. Late records go to the side output
// given with Late, or are counted (numLateRecordsDropped): never lost unseen.
type WindowedStream[K comparable, T any] struct {
	k        KeyedStream[K, T]
	a        window.Assigner
	lateness time.Duration
	late     *Tag[T]
	unfolded bool
}

// Window cuts the stream into windows.
func (k KeyedStream[K, T]) Window(w Windows) WindowedStream[K, T] {
	return WindowedStream[K, T]{k: k, a: w.a}
}

// AllWindowedStream is a stream without keys cut into windows: a window is over
// all records.
type AllWindowedStream[T any] struct {
	w WindowedStream[struct{}, T]
}

// WindowAll cuts the whole stream into windows, without keys. The results come
// from one subtask. An aggregate that merges folds the records where they come
// from, so that subtask sees a row now and then, however many records there are;
// without Merge, and with Late, every record goes to it.
func (s DataStream[T]) WindowAll[W interface{ Windows }](w W) AllWindowedStream[T] {
	all := s.KeyBy(func(T) struct{} { return struct{}{} })
	return AllWindowedStream[T]{all.Window(Windows(w))}
}

// AllowedLateness is WindowedStream.AllowedLateness.
func (w AllWindowedStream[T]) AllowedLateness(d time.Duration) AllWindowedStream[T] {
	w.w.lateness = d
	return w
}

// Late is WindowedStream.Late.
func (w AllWindowedStream[T]) Late(tag Tag[T]) AllWindowedStream[T] {
	w.w.late = &tag
	return w
}

// Aggregate folds the records of each window into an accumulator, and makes one
// result of it. A window without records has none. result must not keep memory
// that the accumulator holds.
func (w AllWindowedStream[T]) Aggregate[A, R any](name string, agg Aggregate[T, A], result func(w Window, acc A) R) DataStream[R] {
	if result == nil {
		return w.w.Aggregate[A, R](name, agg, nil).Parallel(1)
	}
	return w.w.Aggregate(name, agg, func(span Window, _ struct{}, acc A) R { return result(span, acc) }).Parallel(1)
}

// Reduce folds the records of each window to one, f of the reduction so far and
// the record, and makes a result of it.
func (w AllWindowedStream[T]) Reduce[R any](name string, f func(sofar, v T) T, result func(w Window, v T) R) DataStream[R] {
	if result == nil {
		return w.w.Reduce[R](name, f, nil).Parallel(1)
	}
	return w.w.Reduce(name, f, func(span Window, _ struct{}, v T) R { return result(span, v) }).Parallel(1)
}

// AllowedLateness keeps a window for d after it has fired: a record that comes
// in that time makes its result be emitted again, updated.
func (w WindowedStream[K, T]) AllowedLateness(d time.Duration) WindowedStream[K, T] {
	w.lateness = d
	return w
}

// Late sends late records to a side output, which DataStream.Side reads from
// the stream of results. Such a window takes each record by itself (see
// Unfolded), for it must be able to give it back.
func (w WindowedStream[K, T]) Late(tag Tag[T]) WindowedStream[K, T] {
	w.late = &tag
	return w
}

// Unfolded sends each record to the subtask of its key as it is. Without it,
// records are folded before they are exchanged wherever the aggregate merges, and
// where that makes them fewer (see Aggregate.Merge): results are the same, if
// Merge is associative, and hot keys cost less.
func (w WindowedStream[K, T]) Unfolded() WindowedStream[K, T] {
	w.unfolded = true
	return w
}

// Aggregate folds the records of each key and window into an accumulator, and
// makes one result of it. result must not keep memory that the accumulator
// holds.
func (w WindowedStream[K, T]) Aggregate[A, R any](name string, agg Aggregate[T, A], result func(w Window, key K, acc A) R) DataStream[R] {
	out, _ := windowed(w, "Window", name, agg, spanned[K](result), nil)
	return out
}

// lateTag is the tag of late records, "" for none.
func (w WindowedStream[K, T]) lateTag() string {
	if w.late == nil {
		return ""
	}
	return w.late.Name
}

// mark notes what the windows need of the graph.
func (w WindowedStream[K, T]) mark(n *node) {
	n.eventTime = !w.a.ProcessingTime && !w.a.Endless
	if w.late != nil {
		n.tags[w.late.Name] = true
	}
}

func (w WindowedStream[K, T]) check() error {
	if w.late != nil && w.late.Name == "" {
		return errors.New("the tag of its late records has no name")
	}
	return nil
}

// spanOf is a window of the runtime's as users see it.
func spanOf(w window.Window) Window {
	return Window{time.UnixMilli(w.Start).UTC(), time.UnixMilli(w.End).UTC()}
}

// spanned is a result function of the runtime's windows.
func spanned[K comparable, A, R any](result func(Window, K, A) R) func(window.Window, K, A) R {
	if result == nil {
		return nil
	}
	return func(span window.Window, key K, acc A) R {
		return result(spanOf(span), key, acc)
	}
}

// windowed adds the operator that aggregates windows.
func windowed[K comparable, T, A, R any](w WindowedStream[K, T], kind, name string, agg Aggregate[T, A], result func(window.Window, K, A) R, rank func() window.Ranking[K, A]) (DataStream[R], *node) {
	c := window.Config[K, T, A, R]{
		Assigner:        w.a,
		Key:             w.k.key,
		Aggregate:       window.Aggregate[T, A]{New: agg.New, Add: agg.Add, Merge: agg.Merge, Subtract: agg.Subtract},
		Result:          result,
		AllowedLateness: w.lateness.Milliseconds(),
		Rank:            rank,
	}
	c.Late = w.lateTag()
	var out DataStream[R]
	var n *node
	if c.Folded = c.CanFold() && !agg.keeps && !w.unfolded && w.k.key != nil && agg.New != nil && agg.Add != nil; c.Folded {
		out, n = folded(w.k, kind, name, c)
	} else {
		out, n = attachKeyed[K, T, R](w.k, kind, name, func() operator.Operator { return window.New(c) })
	}
	w.mark(n)
	n.plan = append(n.plan, func() error {
		if err := w.check(); err != nil {
			return err
		}
		if err := window.Check(c); err != nil {
			return err
		}
		return n.declareState()
	})
	return out, n
}

// folded is attachKeyed of a window operator with folders before the exchange:
// one chained to each operator that the stream comes from.
func folded[K comparable, T, A, R any](k KeyedStream[K, T], kind, name string, c window.Config[K, T, A, R]) (DataStream[R], *node) {
	hash, err := keygroup.HasherOf[K]()
	var parts []part
	var from []output
	for i, o := range k.s.from {
		f := k.s.env.add(kind + " Fold")
		f.New = func() operator.Operator { return window.NewFolder(c) }
		connect[T](f, 0, []output{o}, pb.Ship_SHIP_FORWARD, nil)
		f.plan = append(f.plan, func() error {
			f.Parallelism, f.MaxParallelism = o.Parallelism, o.MaxParallelism
			return nil
		})
		suffix := "-fold"
		if i > 0 {
			suffix += fmt.Sprint("-", i+1)
		}
		parts = append(parts, part{f, suffix, true})
		from = append(from, output{node: f})
	}
	n := k.s.env.add(kind)
	n.keyed = true
	n.New = func() operator.Operator { return window.New(c) }
	key := func(p window.Partial[K, T, A]) K { return p.Key }
	connect[window.Partial[K, T, A]](n, 0, from, pb.Ship_SHIP_HASH, hashing(key, hash))
	n.plan = append(n.plan, func() error { return err })
	n.parts = append(parts, part{node: n})
	if name != "" {
		n.rename(name)
	}
	return outputOf[R](n), n
}

// Top emits, for each window, the n keys whose accumulators have the greatest
// score, the greatest first: result of each. Keys that tie with the last of them
// are among the results, so a window may have more than n, and with n of 1 has all
// keys that reach the maximum. Of keys of equal score none comes first.
//
//	// The auctions with the most bids of the last minute, every second.
//	bids.KeyBy(auction).Window(sdk.Sliding(time.Minute, time.Second)).
//		Top("hot items", 1, sdk.Count[Bid](), func(n int64) int64 { return n }, hottest)
//
// The order is kept from window to window, so a sliding window costs the keys
// whose records enter or leave it, and not all that it holds. score must depend
// on the accumulator alone, and neither change nor keep it.
//
// The windows are in event time, tumbling, sliding or cumulating, and have no allowed
// lateness, for a late record could change which keys come first.
func (w WindowedStream[K, T]) Top[A any, V cmp.Ordered, R any](name string, n int, agg Aggregate[T, A], score func(acc A) V, result func(w Window, key K, acc A) R) DataStream[R] {
	contend := func(w window.Window, key K, acc A) window.Contender[K, A] {
		return window.Contender[K, A]{End: w.End, Key: key, Acc: acc}
	}
	first, inner := windowed(w, "Window Top", name, agg, contend, window.Greatest[K](n, score))
	ends := first.KeyBy(func(c window.Contender[K, A]) int64 { return c.End })
	f := window.Final[K, A, R, V]{Assigner: w.a, N: n, Score: score, Result: spanned(result)}
	out, last := attachKeyed[int64, window.Contender[K, A], R](ends, "Window Top", name, func() operator.Operator { return window.NewFinal(f) })
	last.parts = append(inner.parts, part{node: last, suffix: "-final"})
	if len(inner.parts) == 0 {
		last.parts = append(last.parts, part{node: inner})
	}
	if name != "" {
		last.rename(name)
	}
	last.plan = append(last.plan, func() error {
		if n < 1 || score == nil || result == nil {
			return fmt.Errorf("the first %d of a window: it needs a number of at least 1, a score and a result function", n)
		}
		return last.declareState()
	})
	return out
}

// Reduce folds the records of each key and window to one, f of the reduction so
// far and the record, and makes a result of it.
func (w WindowedStream[K, T]) Reduce[R any](name string, f func(sofar, v T) T, result func(w Window, key K, v T) R) DataStream[R] {
	agg := Aggregate[T, reduced[T]]{
		New: func() reduced[T] { return reduced[T]{} },
		Add: func(acc *reduced[T], v T) { acc.add(f, v) },
		Merge: func(a, b *reduced[T]) {
			if b.Any {
				a.add(f, b.Value)
			}
		},
	}
	if f == nil || result == nil {
		return w.Aggregate[reduced[T], R](name, agg, nil)
	}
	return w.Aggregate(name, agg, func(span Window, key K, acc reduced[T]) R { return result(span, key, acc.Value) })
}

// reduced is the reduction of the records so far, if there were any.
type reduced[T any] struct {
	Value T
	Any   bool
}

func (r *reduced[T]) add(f func(T, T) T, v T) {
	if r.Any {
		v = f(r.Value, v)
	}
	r.Value, r.Any = v, true
}
