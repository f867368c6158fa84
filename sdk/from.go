package sdk

import (
	"errors"
	"fmt"
	"time"

	"github.com/millrace/millrace/runtime/operator"
	"github.com/millrace/millrace/runtime/watermark"
)

// From begins a stream at a source. The source's positions are state, so it has
// a name: the one that the source has for itself (from-flights for the stream
// flights) or that Named gives.
//
// Of a source that decodes records, one that does not decode fails the job, and
// the error names its place; SkipUndecodable and DeadLetters let the job go on.
func From[T any](env *Env, src Source[T], opts ...FromOption) DataStream[T] {
	var c fromConfig
	for _, o := range opts {
		o(&c)
	}
	n := env.add(kindSource)
	n.Source = true
	stamp := &stamping[T]{n: n}
	out := outputOf[T](n)
	out.stamp = stamp
	if src == nil {
		n.plan = append(n.plan, func() error { return errors.New("the source is nil") })
		return out
	}
	stamp.timed = hasTimes(src)
	n.Bounded = src.Bounded()
	n.suggest(nameOf(src))
	n.plan = append(n.plan, func() error { return check(src) })
	n.stamps = func() int { return stamp.stamps() }
	if !c.skip && c.letters == nil {
		n.New = func() operator.Operator { return operator.NewSource(src, stamp.strategy()) }
		n.Roles = operator.NewSourceRole(src)
		return out
	}
	d, ok := src.(interface{ lenient() Source[decoded[T]] })
	if !ok {
		n.plan = append(n.plan, func() error {
			return errors.New("SkipUndecodable and DeadLetters are for sources that decode records with a codec")
		})
		return out
	}
	return lenientStream(n, d.lenient(), stamp, c)
}

// lenientStream reads records and what did not decode, and parts the two in the
// next operator of the chain.
func lenientStream[T any](n *node, src Source[decoded[T]], stamp *stamping[T], c fromConfig) DataStream[T] {
	n.New = func() operator.Operator { return operator.NewSource(src, lenientStrategy(stamp.strategy())) }
	n.Roles = operator.NewSourceRole(src)
	var sides []operator.Side
	if c.letters != nil {
		sides = append(sides, *c.letters)
	}
	split, m := attach[decoded[T], T](outputOf[decoded[T]](n), "Decode", false, func() operator.Operator {
		return operator.NewProcess(func(call *operator.Call, v decoded[T], emit func(T)) error {
			if !v.Bad {
				emit(v.Value)
				return nil
			}
			call.Context().Metrics.DecodeErrors++
			if c.letters != nil {
				operator.EmitTo(call, *c.letters, v.Raw)
			}
			return nil
		}, sides...)
	})
	if c.letters != nil {
		m.tags[c.letters.Name] = true
	}
	m.pair = n
	m.Name = n.Name + "-decode"
	m.UID = m.Name
	split.stamp = stamp
	return split
}

// lenientStrategy stamps records; what did not decode has no time.
func lenientStrategy[T any](s watermark.Strategy[T]) watermark.Strategy[decoded[T]] {
	l := watermark.Strategy[decoded[T]]{OutOfOrderness: s.OutOfOrderness, IdleAfter: s.IdleAfter, MaxDrift: s.MaxDrift}
	if s.Timestamp != nil {
		l.Timestamp = func(v decoded[T]) int64 {
			if v.Bad {
				return NoTime
			}
			return s.Timestamp(v.Value)
		}
	}
	return l
}

// FromOption changes how From reads.
type FromOption func(*fromConfig)

type fromConfig struct {
	skip    bool
	letters *Tag[Record]
}

// SkipUndecodable leaves out records that do not decode; the operator's metrics
// count them.
func SkipUndecodable() FromOption { return func(c *fromConfig) { c.skip = true } }

// DeadLetters sends records that do not decode, raw, to a side output, which
// DataStream.Side reads; the operator's metrics count them too.
func DeadLetters(tag Tag[Record]) FromOption {
	return func(c *fromConfig) { c.letters = &tag }
}

// Strategy says how records get event times, and how far event time has come.
// It is made by BoundedOutOfOrderness, Monotonous, SourceTimes and NoWatermarks.
type Strategy[T any] struct {
	s    watermark.Strategy[T]
	none bool
	own  bool
	err  error
}

// BoundedOutOfOrderness takes event times from the records; each may come up to
// d after a record of a later time. Whatever comes later than that is late. f
// must depend on the record alone.
func BoundedOutOfOrderness[T any](d time.Duration, f func(v T) time.Time) Strategy[T] {
	s := Strategy[T]{s: watermark.Strategy[T]{OutOfOrderness: d}}
	switch {
	case f == nil:
		s.err = errors.New("timestamps: the function is nil")
	case d < 0:
		s.err = fmt.Errorf("timestamps: records cannot be out of order by %v", d)
	default:
		s.s.Timestamp = func(v T) int64 { return f(v).UnixMilli() }
	}
	return s
}

// Monotonous takes event times from the records, which never fall within one
// split of the source.
func Monotonous[T any](f func(v T) time.Time) Strategy[T] { return BoundedOutOfOrderness(0, f) }

// SourceTimes keeps the event times that the source gave (a shard: the arrival
// of the record), out of order by at most d.
func SourceTimes[T any](d time.Duration) Strategy[T] {
	return Strategy[T]{s: watermark.Strategy[T]{OutOfOrderness: max(0, d)}, own: true}
}

// NoWatermarks is for streams that need no event time.
func NoWatermarks[T any]() Strategy[T] { return Strategy[T]{none: true} }

// IdleAfter sets how long a split that is caught up holds event time back: 5 s
// without it, for ever when negative. A split whose data is late in coming
// never counts as idle.
func (s Strategy[T]) IdleAfter(d time.Duration) Strategy[T] {
	s.s.IdleAfter = d
	return s
}

// MaxDrift bounds how far a split is read ahead, in event time, of the one of
// the same subtask that is furthest behind; without bound when 0.
func (s Strategy[T]) MaxDrift(d time.Duration) Strategy[T] {
	s.s.MaxDrift = d
	return s
}

// WithTimestamps sets how records get event times. Called directly on the stream
// of a source, it makes the source keep a watermark for each of its splits, so
// that one that lags makes nothing late: call it there where you can. Further
// down, event time begins anew at that place, in the order in which the records
// come by.
func (s DataStream[T]) WithTimestamps(strategy Strategy[T]) DataStream[T] {
	if strategy.err != nil {
		s.env.fail(fmt.Errorf("operator %q: %w", s.from[0].Name, strategy.err))
		return s
	}
	if s.stamp != nil && !s.from[0].used && !s.stamp.set {
		s.stamp.set, s.stamp.chosen = true, strategy
		return s
	}
	out, n := attach[T, T](s, "Timestamps", false, func() operator.Operator { return operator.NewTimestamps(strategy.s) })
	n.stamps = func() int {
		switch {
		case strategy.none:
			return -1
		case strategy.own:
			return 0
		}
		return 1
	}
	return out
}

// stamping is the event time of a source, which may be set until its stream is
// read.
type stamping[T any] struct {
	n      *node
	timed  bool
	set    bool
	chosen Strategy[T]
}

func (s *stamping[T]) strategy() watermark.Strategy[T] { return s.chosen.s }

func (s *stamping[T]) stamps() int {
	switch {
	case s.chosen.none:
		return -1
	case s.chosen.s.Timestamp != nil, s.timed:
		return 1
	}
	return -1
}

// hasTimes asks a source whether its records come with event times.
func hasTimes(src any) bool {
	t, ok := src.(interface{ Timed() bool })
	return ok && t.Timed()
}
