package sdk

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace/millrace/runtime/join"
	"github.com/millrace/millrace/runtime/operator"
)

// VersionJoin joins each record of a keyed stream with the version that was valid
// at its event time, of a table whose versions are the other stream: exchange
// rates, prices, addresses. A version is valid from its event time on until that of
// the next one of its key, and of two of one time the one that came later is.
//
// A record waits until event time has reached its own, and results come in the
// order of event times, which are those of the records. Versions that no record to
// come can need are dropped; the last one of each key stays, unless ValidFor.
type VersionJoin[K comparable, L, R any] struct {
	in                  Connected[K, L, R]
	valid               time.Duration
	lateLeft, lateRight string
	wrong               []error
}

// JoinVersions puts a table beside the stream, as the stream of its versions.
func (k KeyedStream[K, T]) JoinVersions[R any](versions KeyedStream[K, R]) VersionJoin[K, T, R] {
	return VersionJoin[K, T, R]{in: k.Connect(versions)}
}

// ValidFor bounds how long a version is valid, in event time, when no other follows.
func (v VersionJoin[K, L, R]) ValidFor(d time.Duration) VersionJoin[K, L, R] {
	if d < time.Millisecond {
		v.wrong = append(v.wrong, fmt.Errorf("a version would be valid for %v: it must be at least 1ms", d))
	}
	v.valid = d
	return v
}

// Late sends to side outputs the records that come at or behind the watermark, and
// the versions that come when a later one is valid already. Without it they are
// counted.
func (v VersionJoin[K, L, R]) Late(records Tag[L], versions Tag[R]) VersionJoin[K, L, R] {
	v.lateLeft, v.lateRight = records.Name, versions.Name
	if records.Name == "" || records.Name == versions.Name {
		v.wrong = append(v.wrong, errors.New("the tags of its late records need names that differ"))
	}
	return v
}

// Inner emits f of each record for which a version was valid.
func (v VersionJoin[K, L, R]) Inner[U any](name string, f func(l L, r R) U) DataStream[U] {
	return v.attach(name, false, innerPair(f))
}

// Left emits f of each record, with nil where no version was valid. f must not keep
// the pointer.
func (v VersionJoin[K, L, R]) Left[U any](name string, f func(l L, r *R) U) DataStream[U] {
	return v.attach(name, true, leftPair(f))
}

func (v VersionJoin[K, L, R]) attach[U any](name string, outer bool, pair func(*L, *R) U) DataStream[U] {
	c := join.TemporalConfig[K, L, R, U]{
		Left: v.in.left.key, Right: v.in.right.key, Pair: pair, Outer: outer, Valid: v.valid.Milliseconds(),
		LateLeft: v.lateLeft, LateRight: v.lateRight,
	}
	out, n := v.in.attach[U]("Temporal Join", name, func() operator.Operator { return join.NewTemporal(c) })
	n.eventTime = true
	n.joins(c.Check, v.wrong, v.lateLeft, v.lateRight)
	return out
}

// LookupTable is a table outside of the job, or in its memory, that records are
// joined with as it is when they come: see DataStream.Lookup.
type LookupTable[K comparable, R any] struct {
	// Find finds the row of a key, and says whether there is one. It is called by
	// the goroutine of a subtask, which waits for it; ctx ends when the subtask does.
	// An error fails the job, which then restarts. It is safe for concurrent use:
	// all subtasks share it.
	Find func(ctx context.Context, key K) (row R, ok bool, err error)
	// Cache is how many keys each subtask remembers, also those without a row;
	// none if 0. When it is full it forgets one that was not asked for recently.
	Cache int
	// TTL is how long a key is remembered, by the clock; for ever if 0.
	TTL time.Duration
}

// MemoryTable is a LookupTable of a map, which must not change any more.
func MemoryTable[K comparable, R any](rows map[K]R) LookupTable[K, R] {
	return LookupTable[K, R]{Find: func(_ context.Context, key K) (R, bool, error) {
		row, ok := rows[key]
		return row, ok, nil
	}}
}

// LookupJoin joins each record of a stream with the row that a table has for its
// key when it comes. What it found is no state: after a failure it asks again, and
// may find something else.
type LookupJoin[L any, K comparable, R any] struct {
	s     DataStream[L]
	key   func(L) K
	table LookupTable[K, R]
}

// Lookup puts a table beside the stream, to be asked for the key of each record.
func (s DataStream[T]) Lookup[K comparable, R any](table LookupTable[K, R], key func(v T) K) LookupJoin[T, K, R] {
	return LookupJoin[T, K, R]{s, key, table}
}

// Inner emits f of each record that the table has a row for.
func (j LookupJoin[L, K, R]) Inner[U any](f func(l L, r R) U) DataStream[U] {
	return j.attach(false, innerPair(f))
}

// Left emits f of each record, with nil where the table has no row. f must not keep
// the pointer.
func (j LookupJoin[L, K, R]) Left[U any](f func(l L, r *R) U) DataStream[U] {
	return j.attach(true, leftPair(f))
}

func (j LookupJoin[L, K, R]) attach[U any](outer bool, pair func(*L, *R) U) DataStream[U] {
	c := join.LookupConfig[K, L, R, U]{
		Key: j.key, Find: j.table.Find, Pair: pair, Outer: outer, Cache: j.table.Cache, TTL: j.table.TTL,
	}
	out, n := attach[L, U](j.s, "Lookup Join", pair == nil || j.key == nil, func() operator.Operator { return join.NewLookup(c) })
	n.plan = append(n.plan, func() error {
		switch t := j.table; {
		case t.Find == nil:
			return errors.New("its table has no Find")
		case t.Cache < 0 || t.TTL < 0 || t.TTL > 0 && t.TTL < time.Millisecond:
			return fmt.Errorf("its table remembers %d keys for %v: neither can be negative, nor the time under 1ms", t.Cache, t.TTL)
		case t.TTL > 0 && t.Cache == 0:
			return errors.New("its table has a TTL and no Cache: say how many keys to remember")
		}
		return nil
	})
	return out
}
