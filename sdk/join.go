package sdk

import (
	"errors"
	"fmt"
	"time"

	"github.com/millrace/millrace/runtime/join"
	"github.com/millrace/millrace/runtime/operator"
)

// Join is two keyed streams whose records meet by key, of which Inner, Left, Right
// and Full make a stream of results:
//
//	bids.KeyBy(auctionOf).Join(auctions.KeyBy(id)).Between(-time.Hour, 0).
//		Inner("bids-of-auctions", func(b Bid, a Auction) Sale { return Sale{a.ID, b.Price} })
//
// As it is, each record meets all records of its key on the other side, earlier
// and later ones, so all of both sides are kept for ever: the plan warns of it.
// Between and Retain bound it in event time, TTL in processing time, and Window
// makes it a join within windows.
//
// Results come as soon as both records are there, at the event time of the later
// one. Results with no record on one side (Left, Right, Full) come once it is
// certain that there will be none, and are never taken back:
//   - with Between or Retain, when event time has passed the last moment at which a
//     match could come; the result has the record's own event time, and event time
//     behind the join waits for it;
//   - with TTL, when the record is dropped; the result has the record's event time,
//     or the operator's, if that has passed it;
//   - in all cases, at the end of the input.
//
// A key with many records costs no more for each, in updates and in checkpoints,
// than one with few, save for the results.
type Join[K comparable, L, R any] struct {
	in                  Connected[K, L, R]
	bounded, one        bool
	lower, upper        int64 // milliseconds, included
	ttl                 time.Duration
	lateLeft, lateRight string
	wrong               []error
}

// Join puts another stream with keys of the same type beside this one, which is the
// left side of the join. Both may be the same stream.
func (k KeyedStream[K, T]) Join[R any](other KeyedStream[K, R]) Join[K, T, R] {
	return Join[K, T, R]{in: k.Connect(other)}
}

// Between bounds the join in event time: records meet where right - left is between
// lower and upper, both included: Between(-time.Hour, 0) are the right records of
// the hour up to the left one. Times are in milliseconds; to leave a bound out,
// move it by one. Records are dropped when event time has passed all that they
// could meet, up to half the distance of the bounds later.
//
// A record that comes at or behind the watermark is late: it goes to the outputs
// given with Late, or is counted.
func (j Join[K, L, R]) Between(lower, upper time.Duration) Join[K, L, R] {
	j.bounded, j.lower, j.upper = true, lower.Milliseconds(), upper.Milliseconds()
	return j
}

// Retain bounds the join in event time by how long a record of either side is kept
// for later ones of the other: it is Between(-right, left).
func (j Join[K, L, R]) Retain(left, right time.Duration) Join[K, L, R] {
	if left < 0 || right < 0 {
		j.wrong = append(j.wrong, fmt.Errorf("it retains rows for %v and %v: neither can be negative", left, right))
	}
	return j.Between(-right, left)
}

// TTL drops a record of either side when it has been kept for d by the clock.
// It is for joins without bounds in event time.
func (j Join[K, L, R]) TTL(d time.Duration) Join[K, L, R] {
	if d < time.Millisecond {
		j.wrong = append(j.wrong, fmt.Errorf("a TTL of %v: it must be at least 1ms", d))
	}
	j.ttl = d
	return j
}

// ToOne says that the right side has one record a key at most: the auction of a
// bid, the seller of an auction. A left record that meets it need not be kept then,
// and those that came before it wait for it and go. Should there be a further right
// record of a key, it takes the place of the one before for the left records to
// come. What is kept is one record a key, and what waits.
//
// It is for joins without bounds in event time.
func (j Join[K, L, R]) ToOne() Join[K, L, R] {
	j.one = true
	return j
}

// Late sends late records to side outputs, which DataStream.Side reads from the
// stream of results. Only joins in event time have late records.
func (j Join[K, L, R]) Late(left Tag[L], right Tag[R]) Join[K, L, R] {
	j.lateLeft, j.lateRight = left.Name, right.Name
	if left.Name == "" || left.Name == right.Name {
		j.wrong = append(j.wrong, errors.New("the tags of its late records need names that differ"))
	}
	return j
}

// Inner emits f of each pair of records that meet.
func (j Join[K, L, R]) Inner[U any](name string, f func(l L, r R) U) DataStream[U] {
	return j.attach(name, join.Outer{}, innerPair(f))
}

// Left is Inner, and f with nil of each left record that meets none. f must not keep
// the pointer.
func (j Join[K, L, R]) Left[U any](name string, f func(l L, r *R) U) DataStream[U] {
	return j.attach(name, join.Outer{Left: true}, leftPair(f))
}

// Right is Inner, and f with nil of each right record that meets none. f must not
// keep the pointer.
func (j Join[K, L, R]) Right[U any](name string, f func(l *L, r R) U) DataStream[U] {
	return j.attach(name, join.Outer{Right: true}, rightPair(f))
}

// Full is Inner, and f with nil of each record of either side that meets none. f
// must not keep the pointers.
func (j Join[K, L, R]) Full[U any](name string, f func(l *L, r *R) U) DataStream[U] {
	return j.attach(name, join.Outer{Left: true, Right: true}, f)
}

func innerPair[L, R, U any](f func(L, R) U) func(*L, *R) U {
	if f == nil {
		return nil
	}
	return func(l *L, r *R) U { return f(*l, *r) }
}

func leftPair[L, R, U any](f func(L, *R) U) func(*L, *R) U {
	if f == nil {
		return nil
	}
	return func(l *L, r *R) U { return f(*l, r) }
}

func rightPair[L, R, U any](f func(*L, R) U) func(*L, *R) U {
	if f == nil {
		return nil
	}
	return func(l *L, r *R) U { return f(l, *r) }
}

func (j Join[K, L, R]) attach[U any](name string, outer join.Outer, pair func(*L, *R) U) DataStream[U] {
	if !j.bounded {
		return j.attachKeyed(name, outer, pair)
	}
	c := join.IntervalConfig[K, L, R, U]{
		Left: j.in.left.key, Right: j.in.right.key, Pair: pair, Outer: outer,
		Lower: j.lower, Upper: j.upper, LateLeft: j.lateLeft, LateRight: j.lateRight,
	}
	out, n := j.in.attach[U]("Interval Join", name, func() operator.Operator { return join.NewInterval(c) })
	n.eventTime = true
	n.joins(c.Check, j.wrong, j.lateLeft, j.lateRight)
	if j.ttl != 0 || j.one {
		n.plan = append(n.plan, func() error {
			return errors.New("it is bounded in event time, and has a TTL or is ToOne: records would be missed that are within its bounds; leave out the TTL and ToOne")
		})
	}
	return out
}

func (j Join[K, L, R]) attachKeyed[U any](name string, outer join.Outer, pair func(*L, *R) U) DataStream[U] {
	c := join.KeyedConfig[K, L, R, U]{Left: j.in.left.key, Right: j.in.right.key, Pair: pair, Outer: outer, One: j.one, TTL: j.ttl.Milliseconds()}
	out, n := j.in.attach[U]("Join", name, func() operator.Operator { return join.NewKeyed(c) })
	n.joins(func() error {
		switch {
		case pair == nil:
			return errors.New("its function is nil")
		case j.lateLeft != "":
			return errors.New("nothing is late in a join without bounds in event time: leave out Late, or bound it with Between")
		case j.ttl == 0 && j.one:
			n.warn("it keeps the right records, and left ones that have met none, for ever: give it a TTL, or bound it")
		case j.ttl == 0:
			n.warn("it keeps the records of both sides for ever: bound the join with Between, Retain or Window, or give it a TTL")
		}
		return nil
	}, j.wrong)
	return out
}

// joins is the plan of an operator that joins.
func (n *node) joins(check func() error, wrong []error, late ...string) {
	for _, tag := range late {
		if tag != "" {
			n.tags[tag] = true
		}
	}
	n.plan = append(n.plan, func() error {
		if err := errors.Join(append(wrong, check())...); err != nil {
			return err
		}
		return n.declareState()
	})
}
