package join

import (
	"time"

	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/operator"
	"github.com/millrace/millrace/runtime/state"
	"github.com/millrace/millrace/runtime/timer"
)

// KeyedConfig describes a Keyed join.
type KeyedConfig[K comparable, L, R, U any] struct {
	Left  func(L) K
	Right func(R) K
	// Pair makes a result; one of its arguments is nil for an unmatched row.
	Pair  func(l *L, r *R) U
	Outer Outer
	// One says that a key has one right row at most: a left row that meets it is not
	// kept, and a further right row takes the place of the one before.
	One bool
	// TTL is how long a row is kept in processing time, in milliseconds; 0 keeps it
	// for ever.
	TTL int64
}

// NewKeyed returns the operator of one subtask that joins each row with all kept
// rows of its key from the other side, whichever comes first. The event time of a
// result is that of the later row.
//
// With a TTL a row is kept for that long after it came. An unmatched row of an
// outer side comes out when it is dropped or, as all that are left, at the end of
// event time; its result has its own event time, or that right behind the
// operator's watermark if that is later, so it is late to nobody.
func NewKeyed[K comparable, L, R, U any](c KeyedConfig[K, L, R, U]) operator.Operator {
	j := &keyed[K, L, R, U]{}
	j.ttl, j.outer = c.TTL, c.Outer
	j.watermark, j.reached = batch.NoTime, batch.NoTime
	j.left = keyedSide[K, L, R, U]{calls: &j.keyedCalls, key: c.Left, pair: c.Pair, other: &j.right.own, outer: c.Outer.Left, otherOuter: c.Outer.Right, passing: c.One}
	j.right = keyedSide[K, R, L, U]{calls: &j.keyedCalls, key: c.Right, other: &j.left.own, outer: c.Outer.Right, otherOuter: c.Outer.Left, one: c.One}
	j.right.pair = func(r *R, l *L) U { return c.Pair(l, r) }
	j.expire = func(now int64, hash uint64, key K) {
		left, some := j.left.expire(now, hash, key)
		if right, more := j.right.expire(now, hash, key); more {
			if some {
				right = min(left, right)
			}
			left, some = right, true
		}
		if some {
			j.timers.Register(left, hash, key)
		}
	}
	return j
}

// keyedCalls is what both sides share.
type keyedCalls[K comparable, U any] struct {
	output[U]
	outer              Outer
	ttl, now           int64
	timers             *timer.Timers[K]
	expire             func(now int64, hash uint64, key K)
	watermark, reached int64
	ending             ending
	alarmAt            int64
	stopAlarm          func() bool
}

// ending is how far the unmatched rows have come out at the end of time.
type ending struct {
	left, right         unmatched
	leftDone, rightDone bool
}

type keyed[K comparable, L, R, U any] struct {
	keyedCalls[K, U]
	left  keyedSide[K, L, R, U]
	right keyedSide[K, R, L, U]
}

type keyedSide[K comparable, A, B, U any] struct {
	calls             *keyedCalls[K, U]
	key               func(A) K
	pair              func(*A, *B) U
	own               rows[K, A]
	other             *rows[K, B]
	outer, otherOuter bool
	// one: a key has one row here; passing: what meets one there is not kept.
	one, passing bool
}

func (j *keyed[K, L, R, U]) Input(i int) any {
	return operator.Either[L, R](i, &j.left, &j.right)
}

func (j *keyed[K, L, R, U]) Output(tag string) any {
	if tag != "" {
		return nil
	}
	return &j.out
}

func (j *keyed[K, L, R, U]) Open(ctx *operator.Context) (err error) {
	j.ctx = ctx
	if j.left.own, err = newRows[K, L](ctx.State, "left"); err != nil {
		return err
	}
	if j.right.own, err = newRows[K, R](ctx.State, "right"); err != nil {
		return err
	}
	if j.ttl > 0 {
		j.timers, err = timer.New[K](ctx.State, "ttl")
	}
	return err
}

// Restore implements operator.Restorer.
func (j *keyed[K, L, R, U]) Restore([]*operator.Entry) error {
	if j.timers != nil {
		j.timers.Rebuild()
		j.setAlarm()
	}
	return nil
}

func (j *keyed[K, L, R, U]) Close() error {
	if j.stopAlarm != nil {
		j.stopAlarm()
	}
	return nil
}

// Push implements operator.Stage.
func (s *keyedSide[K, A, B, U]) Push(b *batch.Batch[A]) error {
	c := s.calls
	c.ctx.Enter()
	c.ctx.Metrics.RecordsIn += uint64(len(b.Values))
	if c.timers != nil {
		c.now = c.ctx.Clock.Now().UnixMilli()
	}
	for i := range b.Values {
		if i%state.Stride == 0 {
			s.other.heads.Ahead(b.Hashes, i)
			s.own.heads.Ahead(b.Hashes, i)
		}
		v, t, hash := &b.Values[i], b.Times[i], b.Hashes[i]
		key := s.key(*v)
		if c.timers != nil {
			s.age(hash, key)
		}
		matched := false
		for row, at, end := s.other.first(hash, key); row != nil; row, at = s.other.after(hash, key, at, end) {
			matched = true
			if s.otherOuter && !row.Matched {
				row = s.other.match(hash, key, at)
			}
			c.emit(s.pair(v, &row.Value), max(t, row.Time))
		}
		if matched && s.passing {
			continue
		}
		row := Row[A]{Time: t, Mark: c.now, Matched: matched || !s.outer, Value: *v}
		if !s.one {
			s.own.append(hash, key, row)
			continue
		}
		if matched {
			s.other.clear(hash, key)
		}
		s.own.set(hash, key, row)
	}
	c.setAlarm()
	return c.flush()
}

// age drops what is over before a row comes to a key, and sets the key's timer if
// it will have its first row.
func (s *keyedSide[K, A, B, U]) age(hash uint64, key K) {
	c := s.calls
	own, _, _ := s.own.first(hash, key)
	mine := own == nil
	if own != nil && own.Mark+c.ttl <= c.now {
		c.expire(c.now, hash, key)
		own, _, _ = s.own.first(hash, key)
		mine = own == nil
	}
	other, _, _ := s.other.first(hash, key)
	if other != nil && other.Mark+c.ttl <= c.now {
		c.expire(c.now, hash, key)
		other, _, _ = s.other.first(hash, key)
	}
	if mine && other == nil {
		c.timers.Register(c.now+c.ttl, hash, key)
	}
}

// expire drops the rows of a key that are over, and returns when the next is.
func (s *keyedSide[K, A, B, U]) expire(now int64, hash uint64, key K) (next int64, some bool) {
	c := s.calls
	for {
		row, _, _ := s.own.first(hash, key)
		if row == nil {
			return 0, false
		}
		if row.Mark+c.ttl > now {
			return row.Mark + c.ttl, true
		}
		if s.outer && !row.Matched {
			c.emit(s.pair(&row.Value, nil), c.behind(row.Time))
		}
		s.own.removeFirst(hash, key)
	}
}

// behind is the time of a result that comes for a row of time t once the
// watermark may have passed it.
func (c *keyedCalls[K, U]) behind(t int64) int64 {
	if c.reached == batch.NoTime || c.reached == batch.EndOfTime {
		return t
	}
	return max(t, c.reached+1)
}

// Watermark implements operator.Operator.
func (j *keyed[K, L, R, U]) Watermark(t int64) (int64, error) {
	j.watermark = t
	if t < batch.EndOfTime {
		j.reached = t
		return t, nil
	}
	_, err := j.end()
	return j.reached, err
}

// Work implements operator.Worker.
func (j *keyed[K, L, R, U]) Work() (more bool, watermark int64, err error) {
	if j.timers != nil {
		j.alarmAt = 0
		j.ctx.Enter()
		now := j.ctx.Clock.Now().UnixMilli()
		more, err = j.timers.Advance(now, rowsAStep/2, func(_ int64, hash uint64, key K) error {
			j.expire(now, hash, key)
			return nil
		})
		if err != nil {
			return more, j.reached, err
		}
		j.setAlarm()
		if err := j.flush(); err != nil || more {
			return more, j.reached, err
		}
	}
	if j.watermark == batch.EndOfTime && j.reached < batch.EndOfTime {
		more, err = j.end()
	}
	return more, j.reached, err
}

// end lets the unmatched rows out, for no match can come any more.
func (j *keyed[K, L, R, U]) end() (more bool, err error) {
	j.ctx.Enter()
	budget := rowsAStep
	e := &j.ending
	if e.leftDone = e.leftDone || !j.outer.Left; !e.leftDone {
		e.leftDone = j.left.own.takeUnmatched(&e.left, &budget, func(v *L, t int64) { j.emit(j.left.pair(v, nil), j.behind(t)) })
	}
	if e.rightDone = e.rightDone || !j.outer.Right; !e.rightDone && e.leftDone {
		e.rightDone = j.right.own.takeUnmatched(&e.right, &budget, func(v *R, t int64) { j.emit(j.right.pair(v, nil), j.behind(t)) })
	}
	if err := j.flush(); err != nil {
		return false, err
	}
	if e.leftDone && e.rightDone {
		j.reached = batch.EndOfTime
	}
	return j.reached < batch.EndOfTime, nil
}

// setAlarm makes the clock wake the task when the first row is over.
func (c *keyedCalls[K, U]) setAlarm() {
	if c.timers == nil {
		return
	}
	at, ok := c.timers.Next()
	if !ok || at == c.alarmAt {
		return
	}
	if c.stopAlarm != nil {
		c.stopAlarm()
	}
	c.alarmAt = at
	wait := time.Duration(at-c.ctx.Clock.Now().UnixMilli()) * time.Millisecond
	c.stopAlarm = c.ctx.Clock.AfterFunc(max(wait, 0), c.ctx.Wake)
}
