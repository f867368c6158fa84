package join

import (
	"context"
	"time"

	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/operator"
)

// LookupConfig describes a Lookup join.
type LookupConfig[K comparable, L, R, U any] struct {
	Key func(L) K
	// Find finds the row of a key; ctx ends with the attempt.
	Find func(ctx context.Context, key K) (row R, ok bool, err error)
	// Pair makes a result; r is nil for a row without a match, if Outer.
	Pair  func(l *L, r *R) U
	Outer bool
	// Cache is how many keys a subtask remembers, with or without a row, and TTL
	// for how long, by the clock; 0 is none, and for ever.
	Cache int
	TTL   time.Duration
}

// NewLookup returns the operator of one subtask that joins each row with what Find
// finds for its key now. Of the keys that a subtask remembers it forgets one that
// was not asked for recently when another comes.
func NewLookup[K comparable, L, R, U any](c LookupConfig[K, L, R, U]) operator.Operator {
	j := &lookup[K, L, R, U]{cfg: c}
	if c.Cache > 0 {
		j.places = make(map[K]int, c.Cache)
	}
	return j
}

type lookup[K comparable, L, R, U any] struct {
	output[U]
	cfg LookupConfig[K, L, R, U]
	// places says where a key is in found, in which hand goes round to find one to
	// forget: of those not asked for since it last came by.
	places map[K]int
	found  []found[K, R]
	hand   int
	one    found[K, R] // without a cache
}

type found[K comparable, R any] struct {
	key   K
	row   R
	ok    bool
	used  bool
	until int64 // Unix milliseconds
}

func (j *lookup[K, L, R, U]) Input(i int) any {
	if i != 0 {
		return nil
	}
	return operator.Stage[L](j)
}

func (j *lookup[K, L, R, U]) Output(tag string) any {
	if tag != "" {
		return nil
	}
	return &j.out
}

func (j *lookup[K, L, R, U]) Open(ctx *operator.Context) error {
	j.ctx = ctx
	return nil
}

func (j *lookup[K, L, R, U]) Watermark(t int64) (int64, error) { return t, nil }

func (j *lookup[K, L, R, U]) Close() error { return nil }

// Push implements operator.Stage.
func (j *lookup[K, L, R, U]) Push(b *batch.Batch[L]) error {
	j.ctx.Enter()
	j.ctx.Metrics.RecordsIn += uint64(len(b.Values))
	now := int64(0)
	if j.cfg.TTL > 0 {
		now = j.ctx.Clock.Now().UnixMilli()
	}
	for i := range b.Values {
		f, err := j.find(j.cfg.Key(b.Values[i]), now)
		switch {
		case err != nil:
			return err
		case f.ok:
			j.emit(j.cfg.Pair(&b.Values[i], &f.row), b.Times[i])
		case j.cfg.Outer:
			j.emit(j.cfg.Pair(&b.Values[i], nil), b.Times[i])
		}
	}
	return j.flush()
}

func (j *lookup[K, L, R, U]) find(key K, now int64) (*found[K, R], error) {
	i, known := j.places[key]
	if known {
		if f := &j.found[i]; j.cfg.TTL == 0 || now < f.until {
			f.used = true
			return f, nil
		}
	}
	row, ok, err := j.cfg.Find(j.ctx.Attempt, key)
	if err != nil {
		return nil, err
	}
	f := &j.one
	if j.cfg.Cache > 0 {
		if !known {
			i = j.place(key)
		}
		f = &j.found[i]
	}
	*f = found[K, R]{key: key, row: row, ok: ok, used: known, until: now + j.cfg.TTL.Milliseconds()}
	return f, nil
}

// place makes room for a key.
func (j *lookup[K, L, R, U]) place(key K) int {
	if len(j.found) < j.cfg.Cache {
		j.found = append(j.found, found[K, R]{})
		j.places[key] = len(j.found) - 1
		return len(j.found) - 1
	}
	for j.found[j.hand].used {
		j.found[j.hand].used = false
		j.hand = (j.hand + 1) % len(j.found)
	}
	i := j.hand
	j.hand = (i + 1) % len(j.found)
	delete(j.places, j.found[i].key)
	j.places[key] = i
	return i
}
