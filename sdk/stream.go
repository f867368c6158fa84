package sdk

import (
	"errors"
	"fmt"

	"github.com/millrace/millrace/runtime/keygroup"
	"github.com/millrace/millrace/runtime/operator"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// DataStream is a stream of records of one type: the output of an operator, to
// hang further ones on. It is a value that describes the graph; no record flows
// while build runs. Any number of operators may read the same stream.
//
// Records are immutable once emitted: several operators, and the runtime, may
// hold the same one.
//
// Functions given to the methods are called by several goroutines at once, one
// a subtask. Those that keep something of their own between records belong in
// Process, which makes a function for each subtask.
type DataStream[T any] struct {
	env  *Env
	from []output
	ship pb.Ship
	// partition chooses the subtask of a record where ship is custom.
	partition func(v T, n int) int
	// stamp is set on the stream of a source, whose event time
	// WithTimestamps may still decide.
	stamp *stamping[T]
}

// into connects the stream to an input of a node.
func (s DataStream[T]) into(n *node, port int) {
	if s.ship == pb.Ship_SHIP_CUSTOM {
		connect[T](n, port, s.from, s.ship, s.partition)
		return
	}
	connect[T](n, port, s.from, s.next().ship, nil)
}

func (s DataStream[T]) next() DataStream[T] {
	if s.ship == pb.Ship_SHIP_UNSPECIFIED {
		s.ship = pb.Ship_SHIP_FORWARD
	}
	return s
}

// attach adds an operator from T to U behind a stream.
func attach[T, U any](s DataStream[T], kind string, missing bool, build func() operator.Operator) (DataStream[U], *node) {
	n := s.env.add(kind)
	n.New = build
	s.into(n, 0)
	if missing {
		n.plan = append(n.plan, func() error { return errors.New("its function is nil") })
	}
	return outputOf[U](n), n
}

func outputOf[U any](n *node) DataStream[U] {
	return DataStream[U]{env: n.env, from: []output{{node: n}}}
}

// Map emits f of each record.
func (s DataStream[T]) Map[U any](f func(v T) U) DataStream[U] {
	out, _ := attach[T, U](s, "Map", f == nil, func() operator.Operator { return operator.NewMap(f) })
	return out
}

// TryMap is Map for a function that may fail. Its error fails the job, which
// then restarts: leave out bad input with FlatMap, or send it to a side output
// with Process.
func (s DataStream[T]) TryMap[U any](f func(v T) (U, error)) DataStream[U] {
	out, _ := attach[T, U](s, "Map", f == nil, func() operator.Operator { return operator.NewTryMap(f) })
	return out
}

// FlatMap emits, for each record, what f hands to emit: nothing, one record or
// many. f must not keep emit.
func (s DataStream[T]) FlatMap[U any](f func(v T, emit func(U))) DataStream[U] {
	out, _ := attach[T, U](s, "Flat Map", f == nil, func() operator.Operator { return operator.NewFlatMap(f) })
	return out
}

// Filter lets through the records for which keep is true.
func (s DataStream[T]) Filter(keep func(v T) bool) DataStream[T] {
	out, _ := attach[T, T](s, "Filter", keep == nil, func() operator.Operator { return operator.NewFilter(keep) })
	return out
}

// FilterMap emits the first result of f for the records for which the second is
// true: Filter and Map in one call of f.
func (s DataStream[T]) FilterMap[U any](f func(v T) (U, bool)) DataStream[U] {
	out, _ := attach[T, U](s, "Filter Map", f == nil, func() operator.Operator { return operator.NewFilterMap(f) })
	return out
}

// Union is the records of this stream and of others, in no order among them.
// Event time is that of the one furthest behind.
func (s DataStream[T]) Union(others ...DataStream[T]) DataStream[T] {
	all := DataStream[T]{env: s.env, ship: s.ship}
	for _, o := range append([]DataStream[T]{s}, others...) {
		if o.next().ship != s.next().ship || o.ship == pb.Ship_SHIP_CUSTOM {
			s.env.fail(errors.New("Union of streams of which some are rebalanced: call Rebalance, or PartitionBy, on the union"))
		}
		all.from = append(all.from, o.from...)
	}
	return all
}

// Rebalance spreads the records evenly over the subtasks of the next operator.
func (s DataStream[T]) Rebalance() DataStream[T] {
	s.ship, s.stamp = pb.Ship_SHIP_REBALANCE, nil
	return s
}

// Broadcast gives every record to every subtask of the next operator.
func (s DataStream[T]) Broadcast() DataStream[T] {
	s.ship, s.stamp = pb.Ship_SHIP_BROADCAST, nil
	return s
}

// Side is a side output of the operator: dead letters of a source, late records
// of a window, or what a Process declared with Op.Side.
func (s DataStream[T]) Side[U any](tag Tag[U]) DataStream[U] {
	n := s.last("Side")
	if n == nil {
		return DataStream[U]{env: s.env}
	}
	for _, p := range n.parts {
		if p.tags[tag.Name] {
			n = p.node
		}
	}
	n.plan = append(n.plan, func() error {
		if n.tags[tag.Name] {
			return nil
		}
		return fmt.Errorf("it has no side output %q: declare the tag (Late on a window, DeadLetters on From, Op.Side in Process)", tag.Name)
	})
	return DataStream[U]{env: s.env, from: []output{{node: n, tag: tag.Name}}}
}

// To ends the stream in a sink.
func (s DataStream[T]) To(sink Sink[T]) StreamSink {
	n := s.env.add(kindSink)
	s.into(n, 0)
	if sink == nil {
		n.plan = append(n.plan, func() error { return errors.New("the sink is nil") })
		return StreamSink{n}
	}
	n.New = func() operator.Operator { return operator.NewSink(sink) }
	if role := operator.NewSinkRole(sink); role != nil {
		n.Transactional, n.Roles = true, role
	}
	n.suggest(nameOf(sink))
	n.plan = append(n.plan, func() error { return check(sink) }, func() error { return s.env.outlives(sink) })
	return StreamSink{n}
}

const (
	kindSink   = "Sink"
	kindSource = "Source"
)

// StreamSink is a sink in the graph.
type StreamSink struct{ n *node }

// Named names the sink. The name maps its transactions when the job is
// restored, so it must stay.
func (s StreamSink) Named(name string) StreamSink {
	s.n.rename(name)
	return s
}

// Parallel sets the number of subtasks.
func (s StreamSink) Parallel(n int) StreamSink {
	s.n.setParallel(n)
	return s
}

// Named names the operator that the stream comes from. The name maps its state
// when the job is restored: an operator that keeps state must keep its name.
func (s DataStream[T]) Named(name string) DataStream[T] {
	if n := s.last("Named"); n != nil {
		n.rename(name)
	}
	return s
}

// Parallel sets the number of subtasks of the operator that the stream comes
// from; the job's default without it.
func (s DataStream[T]) Parallel(n int) DataStream[T] {
	if last := s.last("Parallel"); last != nil {
		last.setParallel(n)
	}
	return s
}

// MaxParallel sets the number of key groups of the operator that the stream
// comes from; see Env.MaxParallelism.
func (s DataStream[T]) MaxParallel(n int) DataStream[T] {
	if last := s.last("MaxParallel"); last != nil {
		if n < 1 || n > keygroup.Max {
			s.env.fail(fmt.Errorf("operator %q: max parallelism %d: it must be from 1 to %d", last.Name, n, keygroup.Max))
			return s
		}
		last.MaxParallelism = n
		for _, part := range last.parts {
			if !part.chained {
				part.MaxParallelism = n
			}
		}
	}
	return s
}

// last is the operator that the stream comes from; a union has several.
func (s DataStream[T]) last(method string) *node {
	if len(s.from) != 1 {
		s.env.fail(fmt.Errorf("%s: the stream is a union of %d streams, which has no operator of its own: call it on each of them", method, len(s.from)))
		return nil
	}
	return s.from[0].node
}

func (n *node) setParallel(p int) {
	if p < 1 {
		n.env.fail(fmt.Errorf("operator %q: parallelism %d: it must be at least 1", n.Name, p))
		return
	}
	n.Parallelism = p
	for _, part := range n.parts {
		if !part.chained {
			part.Parallelism = p
		}
	}
	if n.pair != nil {
		n.pair.Parallelism = p
	}
}

// suggest gives the node the name that its source or sink has for itself. A
// name is the key of a source's positions, so it is not made unique here.
func (n *node) suggest(name string) {
	if name == "" {
		return
	}
	taken := 0
	for _, other := range n.env.nodes {
		if other != n && (other.UID == name || other.suggested == name) {
			taken++
		}
	}
	n.suggested = name
	if taken > 0 && n.Kind == kindSink && !n.Transactional {
		name = fmt.Sprintf("%s-%d", name, taken+1)
	}
	n.Name, n.UID = name, name
}

// Tag names a side output and the type of its records. Tags are values: two of
// one name and type are the same output.
type Tag[T any] = operator.Tag[T]

// NewTag returns a tag. The name must be unique among the side outputs of one
// operator.
func NewTag[T any](name string) Tag[T] { return Tag[T]{Name: name} }
