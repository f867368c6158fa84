package join

import (
	"errors"
	"fmt"
	"time"

	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/keygroup"
	"github.com/millrace/millrace/runtime/operator"
	"github.com/millrace/millrace/runtime/state"
)

// TemporalConfig describes a Temporal join.
type TemporalConfig[K comparable, L, R, U any] struct {
	Left  func(L) K
	Right func(R) K
	// Pair makes a result; r is nil for a row that no version was valid for, if
	// Outer.
	Pair  func(l *L, r *R) U
	Outer bool
	// Valid is how long a version is valid at most, in milliseconds; 0 for until
	// the next one of its key.
	Valid int64
	// LateLeft is the tag of late rows, LateRight that of versions that came when
	// a newer one was valid already; "" for none.
	LateLeft, LateRight string
}

// Check names what is wrong, for plan mode.
func (c *TemporalConfig[K, L, R, U]) Check() error {
	switch {
	case c.Pair == nil:
		return errors.New("its function is nil")
	case c.Valid < 0 || c.Valid > maxBound:
		return fmt.Errorf("a version would be valid for %d ms: it must be from 0 to %v", c.Valid, time.Duration(maxBound)*time.Millisecond)
	}
	return nil
}

// NewTemporal returns the operator of one subtask that joins each left row with
// the version of its key, a row of the right side, that was valid at its event
// time: the one with the latest event time not after it, and of two of the same
// time the one that came later.
//
// A left row waits until the watermark has reached its time, when all versions
// that might be valid are there, and comes out in the order of event times. Of each
// key those versions are kept that a row to come may need: the one valid at the
// watermark, and newer ones.
func NewTemporal[K comparable, L, R, U any](c TemporalConfig[K, L, R, U]) operator.Operator {
	j := &temporal[K, L, R, U]{cfg: c, watermark: batch.NoTime, reached: batch.NoTime}
	j.late.tag, j.useless.tag = c.LateLeft, c.LateRight
	j.left.j, j.right.j = j, j
	return j
}

type temporal[K comparable, L, R, U any] struct {
	output[U]
	cfg     TemporalConfig[K, L, R, U]
	left    temporalRows[K, L, R, U]
	right   temporalVersions[K, L, R, U]
	late    late[L]
	useless late[R]

	versions rows[K, R]
	// waiting are left rows, by key and a number that no two of a key share.
	waiting *state.Table[state.ListKey[K], Row[L]]
	number  uint64
	agenda  agenda[K]
	hash    func(*K) uint64
	row     Row[L] // that comes out

	watermark, reached int64
}

// temporalRows and temporalVersions are the inputs.
type temporalRows[K comparable, L, R, U any] struct{ j *temporal[K, L, R, U] }
type temporalVersions[K comparable, L, R, U any] struct{ j *temporal[K, L, R, U] }

func (j *temporal[K, L, R, U]) Input(i int) any {
	return operator.Either[L, R](i, &j.left, &j.right)
}

func (j *temporal[K, L, R, U]) Output(tag string) any {
	return outputs(tag, &j.output, &j.late, &j.useless)
}

func (j *temporal[K, L, R, U]) Open(ctx *operator.Context) (err error) {
	j.ctx = ctx
	if j.versions, err = newRows[K, R](ctx.State, "versions"); err != nil {
		return err
	}
	if j.hash, err = keygroup.HasherOf[K](); err != nil {
		return err
	}
	hash, err := restHash[K]()
	if err != nil {
		return err
	}
	j.waiting, err = state.NewTableHashed[state.ListKey[K], Row[L]](ctx.State, "waiting", hash)
	ctx.State.Describe("waiting", "list")
	return err
}

// Restore implements operator.Restorer: what is to do follows from the state.
func (j *temporal[K, L, R, U]) Restore([]*operator.Entry) error {
	for from, done := uint64(0), false; !done; {
		from, done = j.waiting.Scan(from, 1<<16, func(_ uint64, key *state.ListKey[K], row *Row[L]) bool {
			j.agenda.push(due[K]{at: row.Time, hash: j.hash(&key.Key), key: key.Key, number: key.Index})
			j.number = max(j.number, key.Index+1)
			return true
		})
	}
	for from, done := uint64(0), false; !done; {
		from, done = j.versions.heads.Scan(from, 1<<16, func(hash uint64, key *K, h *Head[R]) bool {
			j.plan(hash, *key, h.Row.Time, h.Next == h.First+1)
			for i := h.First + 1; i < h.Next; i++ {
				if row, ok := j.versions.rest.Get(placed(hash, i), state.ListKey[K]{Key: *key, Index: i}); ok {
					j.plan(hash, *key, row.Time, false)
				}
			}
			return true
		})
	}
	return nil
}

func (j *temporal[K, L, R, U]) Close() error { return nil }

// Push implements operator.Stage.
func (s *temporalRows[K, L, R, U]) Push(b *batch.Batch[L]) error {
	j := s.j
	j.ctx.Enter()
	j.ctx.Metrics.RecordsIn += uint64(len(b.Values))
	for i := range b.Values {
		if i%state.Stride == 0 {
			j.versions.heads.Ahead(b.Hashes, i)
		}
		v, t, hash := &b.Values[i], b.Times[i], b.Hashes[i]
		if t <= j.watermark {
			if t == batch.NoTime {
				return errNoTime
			}
			j.late.add(j.ctx, *v, t)
			continue
		}
		key, n := j.cfg.Left(*v), j.number
		j.number++
		j.waiting.Put(placed(hash, n), state.ListKey[K]{Key: key, Index: n}, Row[L]{Time: t, Value: *v})
		j.agenda.push(due[K]{at: t, hash: hash, key: key, number: n})
	}
	return j.late.flush()
}

// Push implements operator.Stage.
func (s *temporalVersions[K, L, R, U]) Push(b *batch.Batch[R]) error {
	j := s.j
	j.ctx.Enter()
	j.ctx.Metrics.RecordsIn += uint64(len(b.Values))
	for i := range b.Values {
		if i%state.Stride == 0 {
			j.versions.heads.Ahead(b.Hashes, i)
		}
		v, t, hash := &b.Values[i], b.Times[i], b.Hashes[i]
		if t == batch.NoTime {
			return errNoTime
		}
		key := j.cfg.Right(*v)
		if t <= j.watermark {
			if now := j.validAt(hash, key, j.watermark); now != nil && now.Time > t || j.cfg.Valid > 0 && t+j.cfg.Valid <= j.watermark {
				j.useless.add(j.ctx, *v, t)
				continue
			}
		}
		only := j.versions.append(hash, key, Row[R]{Time: t, Value: *v})
		if t <= j.watermark {
			j.clean(hash, key)
		}
		j.plan(hash, key, t, only)
	}
	return j.useless.flush()
}

// plan puts on the agenda when a version ends those before it, and when it ends by
// itself.
func (j *temporal[K, L, R, U]) plan(hash uint64, key K, t int64, only bool) {
	if t > j.watermark && !only {
		j.agenda.push(due[K]{at: t, hash: hash, key: key, number: cleaning})
	}
	if j.cfg.Valid > 0 {
		j.agenda.push(due[K]{at: t + j.cfg.Valid, hash: hash, key: key, number: cleaning})
	}
}

// validAt finds the version of a key that is valid at a time, or nil.
func (j *temporal[K, L, R, U]) validAt(hash uint64, key K, t int64) (valid *Row[R]) {
	place, best := uint64(0), int64(batch.NoTime)
	for row, i, end := j.versions.first(hash, key); row != nil; row, i = j.versions.after(hash, key, i, end) {
		if row.Time <= t && row.Time >= best {
			place, best = i, row.Time
		}
	}
	if best == batch.NoTime || j.cfg.Valid > 0 && t-best > j.cfg.Valid {
		return nil
	}
	return j.versions.at(hash, key, place)
}

// clean removes versions from the front that no row to come needs.
func (j *temporal[K, L, R, U]) clean(hash uint64, key K) {
	for {
		row, i, end := j.versions.first(hash, key)
		if row == nil || row.Time > j.watermark {
			return
		}
		first, over := row.Time, j.cfg.Valid > 0 && row.Time+j.cfg.Valid <= j.watermark
		for row, i = j.versions.after(hash, key, i, end); row != nil && !over; row, i = j.versions.after(hash, key, i, end) {
			over = row.Time >= first && row.Time <= j.watermark
		}
		if !over {
			return
		}
		j.versions.removeFirst(hash, key)
	}
}

// Watermark implements operator.Operator.
func (j *temporal[K, L, R, U]) Watermark(t int64) (int64, error) {
	j.watermark = t
	_, reached, err := j.Work()
	return reached, err
}

// Work implements operator.Worker: rows and versions whose time has come.
func (j *temporal[K, L, R, U]) Work() (more bool, watermark int64, err error) {
	j.ctx.Enter()
	for n := 0; len(j.agenda.dues) > 0 && j.agenda.dues[0].at <= j.watermark; n++ {
		if n == rowsAStep {
			j.reached = max(j.reached, j.agenda.dues[0].at-1)
			return true, j.reached, j.flush()
		}
		if n%state.Stride == 0 {
			j.ctx.State.Ease()
		}
		d := j.agenda.pop()
		if d.number == cleaning {
			if j.watermark < batch.EndOfTime { // a job that goes on after a drain goes on with its versions
				j.clean(d.hash, d.key)
			}
			continue
		}
		at := state.ListKey[K]{Key: d.key, Index: d.number}
		row, ok := j.waiting.Get(placed(d.hash, d.number), at)
		if !ok {
			continue
		}
		j.row = *row
		if version := j.validAt(d.hash, d.key, d.at); version != nil {
			j.emit(j.cfg.Pair(&j.row.Value, &version.Value), d.at)
		} else if j.cfg.Outer {
			j.emit(j.cfg.Pair(&j.row.Value, nil), d.at)
		}
		j.waiting.Delete(placed(d.hash, d.number), at)
	}
	if j.watermark != batch.NoTime {
		j.reached = max(j.reached, j.watermark)
	}
	return false, j.reached, j.flush()
}
