package sdk

import (
	"context"
	"errors"
	"fmt"

	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/keygroup"
	"github.com/millrace/millrace/runtime/operator"
	"github.com/millrace/millrace/runtime/sink"
	"github.com/millrace/millrace/runtime/update"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Change is what a row of an update stream does to the table that the stream is
// the changelog of.
type Change = batch.Op

const (
	// Insert: the row comes.
	Insert = batch.Insert
	// Delete: a row that came before, and is equal to this one, goes.
	Delete = batch.Delete
)

// Updates is an update stream: the changelog of a table, whose rows come
// (Insert) and go (Delete). A row that changes is a Delete of the old one and,
// next to it, an Insert of the new one. Running results are such streams: what
// KeyedUpdates makes, and a DataStream whose records all come (AsUpdates).
//
// A type of its own keeps update streams apart from streams of records, whose
// operators and sinks would take a row that goes for one more that comes. An
// update stream ends in a sink that takes updates (To), or becomes a stream of
// records again, one for each change (Changes).
//
// Functions given to the methods must depend on the row alone, for they are
// asked again when the row goes. The order of the changes of one row is kept.
type Updates[T any] struct {
	s DataStream[T]
	// inserts says that no row ever goes.
	inserts bool
}

// AsUpdates makes an update stream of which every record is an insert.
func (s DataStream[T]) AsUpdates() Updates[T] { return Updates[T]{s: s, inserts: true} }

// attachUpdates adds an operator without state behind an update stream.
func attachUpdates[T, U any](u Updates[T], kind string, missing bool, build func() operator.Operator) DataStream[U] {
	out, n := attach[T, U](u.s, kind, missing, build)
	u.mark(n)
	return out
}

// mark says of a node's inputs whether rows go there.
func (u Updates[T]) mark(n *node) {
	for _, e := range n.Inputs {
		e.Updates = !u.inserts
	}
}

// Map makes f of each row.
func (u Updates[T]) Map[U any](f func(v T) U) Updates[U] {
	return Updates[U]{attachUpdates[T, U](u, "Map", f == nil, func() operator.Operator { return update.NewMap(f) }), u.inserts}
}

// FlatMap makes of each row those that f hands to emit. f must not keep emit.
func (u Updates[T]) FlatMap[U any](f func(v T, emit func(U))) Updates[U] {
	return Updates[U]{attachUpdates[T, U](u, "Flat Map", f == nil, func() operator.Operator { return update.NewFlatMap(f) }), u.inserts}
}

// Filter leaves the rows for which keep is true.
func (u Updates[T]) Filter(keep func(v T) bool) Updates[T] {
	return Updates[T]{attachUpdates[T, T](u, "Filter", keep == nil, func() operator.Operator { return update.NewFilter(keep) }), u.inserts}
}

// Changes makes a record of each change: the way from an update stream to one
// of records, for a sink that only appends, for windows or for a Process.
func (u Updates[T]) Changes[U any](f func(c Change, v T) U) DataStream[U] {
	return attachUpdates[T, U](u, "Changes", f == nil, func() operator.Operator { return update.NewChanges(f) })
}

// Union is the rows of this stream and of others: a row that is in several is
// there as often.
func (u Updates[T]) Union(others ...Updates[T]) Updates[T] {
	streams, inserts := make([]DataStream[T], len(others)), u.inserts
	for i, o := range others {
		streams[i], inserts = o.s, inserts && o.inserts
	}
	return Updates[T]{u.s.Union(streams...), inserts}
}

// KeyBy partitions the stream by f of each row.
func (u Updates[T]) KeyBy[K comparable](f func(v T) K) KeyedUpdates[K, T] {
	return KeyedUpdates[K, T]{u: u, key: f}
}

// Named names the operator that the stream comes from; see DataStream.Named.
func (u Updates[T]) Named(name string) Updates[T] { return Updates[T]{u.s.Named(name), u.inserts} }

// Parallel sets the number of subtasks of the operator that the stream comes
// from; see DataStream.Parallel. Where that of the next operator is another,
// each subtask sends all it has to one of the next, so that no change overtakes
// another.
func (u Updates[T]) Parallel(n int) Updates[T] { return Updates[T]{u.s.Parallel(n), u.inserts} }

// MaxParallel sets the number of key groups of the operator that the stream
// comes from; see Env.MaxParallelism.
func (u Updates[T]) MaxParallel(n int) Updates[T] { return Updates[T]{u.s.MaxParallel(n), u.inserts} }

// UpdatingSink is a Sink that takes update streams, and KeyedSink one that also
// knows rows by a key, so that all changes of a key come to one writer, in order.
// A sink that is neither only appends: Updates.To refuses it, unless no row ever
// goes.
type (
	UpdatingSink     = sink.Updating
	KeyedSink[T any] = sink.Keyed[T]
)

// To ends the stream in a sink that takes updates (UpdatingSink). In a batch run
// (Env.Batch) rows only come, and any sink will do.
func (u Updates[T]) To(sink Sink[T]) StreamSink {
	out := u.s.To(sink)
	u.mark(out.n)
	if sink == nil || u.inserts {
		return out
	}
	if updating, ok := sink.(UpdatingSink); !ok || !updating.TakesUpdates() {
		out.n.plan = append(out.n.plan, func() error {
			if out.n.env.g.Config.Batch {
				return nil // rows only come
			}
			return fmt.Errorf("a retraction into an append-only sink: rows of its input also go, and %T only appends: "+
				"use a sink that takes updates (sdk.UpdatingSink), make a record of each change with Changes, or show final results only with --batch", sink)
		})
		return out
	}
	keyed, ok := sink.(KeyedSink[T])
	if !ok {
		return out
	}
	hash, err := keygroup.HasherOf[string]()
	out.n.plan = append(out.n.plan, func() error { return err })
	for _, e := range out.n.Inputs {
		e.Ship, e.Key = pb.Ship_SHIP_HASH, hashing(keyed.RowKey, hash)
	}
	return out
}

// FuncUpdates is a sink of updates that calls f with each change, at least once.
// With a parallelism above 1, f is called by several goroutines at once. Its
// error fails the job, which then restarts.
func FuncUpdates[T any](f func(c Change, v T) error) Sink[T] { return funcUpdates[T]{f} }

type funcUpdates[T any] struct{ f func(Change, T) error }

func (s funcUpdates[T]) TakesUpdates() bool { return true }

func (s funcUpdates[T]) Check() error {
	if s.f == nil {
		return errors.New("its function is nil")
	}
	return nil
}

func (funcUpdates[T]) Name() string { return "to-func" }

func (s funcUpdates[T]) Open(context.Context, SinkEnv) (Writer[T], error) { return s, nil }

func (s funcUpdates[T]) Write(b *Batch[T]) error {
	for i := range b.Values {
		if err := s.f(b.OpOf(i), b.Values[i]); err != nil {
			return err
		}
	}
	return nil
}

func (funcUpdates[T]) Flush() error { return nil }

func (funcUpdates[T]) Close() error { return nil }
