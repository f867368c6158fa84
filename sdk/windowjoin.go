package sdk

import (
	"errors"
	"iter"
	"time"

	"github.com/millrace/millrace/runtime/join"
	"github.com/millrace/millrace/runtime/operator"
	"github.com/millrace/millrace/runtime/window"
)

// WindowJoin is a join whose records meet by key and window of event time. Results
// come once event time has passed the end of a window, and have an event time a
// millisecond before it. A record is kept once, however many windows it belongs
// to, until the last of them has fired.
//
// A record all of whose windows have fired is late: it goes to the outputs given
// with Join.Late, or is counted.
type WindowJoin[K comparable, L, R any] struct {
	j Join[K, L, R]
	a window.Assigner
}

// Window makes the join one within windows: Tumbling, Sliding or Session, whose
// sessions are those of both sides together.
func (j Join[K, L, R]) Window(w Windows) WindowJoin[K, L, R] {
	if j.bounded || j.one || j.ttl != 0 {
		j.wrong = append(j.wrong, errors.New("a join within windows is bounded by them: leave out Between, Retain, ToOne and TTL"))
	}
	return WindowJoin[K, L, R]{j, w.a}
}

// Inner emits f of each pair of records of a key and window.
func (w WindowJoin[K, L, R]) Inner[U any](name string, f func(l L, r R) U) DataStream[U] {
	return w.pairs(name, join.Outer{}, innerPair(f))
}

// Left is Inner, and f with nil of each left record without a right one in its
// window. f must not keep the pointer.
func (w WindowJoin[K, L, R]) Left[U any](name string, f func(l L, r *R) U) DataStream[U] {
	return w.pairs(name, join.Outer{Left: true}, leftPair(f))
}

// Right is Inner, and f with nil of each right record without a left one in its
// window. f must not keep the pointer.
func (w WindowJoin[K, L, R]) Right[U any](name string, f func(l *L, r R) U) DataStream[U] {
	return w.pairs(name, join.Outer{Right: true}, rightPair(f))
}

// Full is Inner, and f with nil of each record of either side without one of the
// other in its window. f must not keep the pointers.
func (w WindowJoin[K, L, R]) Full[U any](name string, f func(l *L, r *R) U) DataStream[U] {
	return w.pairs(name, join.Outer{Left: true, Right: true}, f)
}

func (w WindowJoin[K, L, R]) pairs[U any](name string, outer join.Outer, pair func(*L, *R) U) DataStream[U] {
	if pair == nil {
		return w.attach[U](name, nil)
	}
	return w.attach(name, join.Pairs[K](outer, pair))
}

// CoGroup calls f with all records of each key and window that has any. left and
// right may be ranged over any number of times, during the call: the records lie in
// state, and a group may be larger than memory. They are in order of arrival within
// pieces of the window.
func (w WindowJoin[K, L, R]) CoGroup[U any](name string, f func(w Window, key K, left iter.Seq[L], right iter.Seq[R], emit func(U))) DataStream[U] {
	if f == nil {
		return w.attach[U](name, nil)
	}
	each := func(g *join.Group[K, L, R], emit func(U)) {
		f(Window{time.UnixMilli(g.Window.Start).UTC(), time.UnixMilli(g.Window.End).UTC()}, g.Key, g.Left, g.Right, emit)
	}
	return w.attach(name, func() func(*join.Group[K, L, R], func(U)) { return each })
}

func (w WindowJoin[K, L, R]) attach[U any](name string, each func() func(*join.Group[K, L, R], func(U))) DataStream[U] {
	c := join.WindowConfig[K, L, R, U]{
		Assigner: w.a, Left: w.j.in.left.key, Right: w.j.in.right.key, Each: each, LateLeft: w.j.lateLeft, LateRight: w.j.lateRight,
	}
	out, n := w.j.in.attach[U]("Window Join", name, func() operator.Operator { return join.NewWindow(c) })
	n.eventTime = true
	n.joins(c.Check, w.j.wrong, w.j.lateLeft, w.j.lateRight)
	return out
}
