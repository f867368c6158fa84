package update

import (
	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/operator"
	"github.com/millrace/millrace/runtime/state"
)

// CounterUnmatched counts deletes of rows that are not in the state: a stream
// that takes back what it has not said, or rows that expired meanwhile.
const CounterUnmatched = "unmatchedRetractions"

// folder is what keyed operators differ in. It emits through the changes that it
// was opened with.
type folder[K comparable, T, R any] interface {
	// open declares state, which expires with a TTL. Where there is none, fold asks
	// it by Get and Upsert: a call less for each key.
	open(ctx *operator.Context, out *changes[R], ttl []state.TTL) error
	// fold takes the rows of one key, i and then those that next names after
	// it, and emits what that changes. In event time rows expire for, they are of
	// one time.
	fold(hash uint64, key K, b *batch.Batch[T], i int32, next []int32)
	// final emits all rows of keys whose hash is at least from, forgets those
	// keys, and says where to go on.
	final(from uint64) (next uint64, done bool)
}

// scout is a folder that wants to see a batch before its keys are folded, to have
// memory bring what it will read.
type scout[K comparable, T any] interface {
	look(b *batch.Batch[T], g *groups[K])
}

// keyed is an operator on a keyed edge that takes batches key by key.
type keyed[K comparable, T, R any] struct {
	ctx    *operator.Context
	key    func(T) K
	folder folder[K, T, R]
	scout  scout[K, T] // nil for none
	ttl    []state.TTL
	// aging says that keys expire in event time.
	aging  bool
	groups groups[K]
	out    changes[R]
	// part is the rows of a batch that are looked at together.
	part batch.Batch[T]
	// reached is the output's watermark, behind which a batch run's final rows
	// are still to come.
	reached int64
	ending  bool
	from    uint64
}

func newKeyed[K comparable, T, R any](key func(T) K, f folder[K, T, R], ttl []state.TTL) operator.Operator {
	s, _ := f.(scout[K, T])
	return &keyed[K, T, R]{key: key, folder: f, scout: s, ttl: ttl, reached: batch.NoTime}
}

// Input implements operator.Operator.
func (o *keyed[K, T, R]) Input(i int) any {
	if i != 0 {
		return nil
	}
	return operator.Stage[T](o)
}

// Output implements operator.Operator.
func (o *keyed[K, T, R]) Output(tag string) any {
	if tag != "" {
		return nil
	}
	return &o.out.to
}

// Open implements operator.Operator.
func (o *keyed[K, T, R]) Open(ctx *operator.Context) error {
	o.ctx, o.out.ctx = ctx, ctx
	if ctx.Metrics.User == nil {
		ctx.Metrics.User = map[string]*float64{}
	}
	ctx.Metrics.User[CounterUnmatched] = &o.out.unmatched
	err := o.folder.open(ctx, &o.out, ctx.Lifetime(o.ttl))
	o.aging = ctx.State.Aging()
	return err
}

// Push implements operator.Stage.
func (o *keyed[K, T, R]) Push(b *batch.Batch[T]) error {
	o.ctx.Enter()
	o.ctx.Metrics.RecordsIn += uint64(len(b.Values))
	if len(b.Values) <= batch.Rows {
		return o.push(b)
	}
	for from := 0; from < len(b.Values); from += batch.Rows {
		to := min(from+batch.Rows, len(b.Values))
		o.part = batch.Batch[T]{Values: b.Values[from:to], Times: b.Times[from:to], Hashes: b.Hashes[from:to]}
		if len(b.Ops) > 0 {
			o.part.Ops = b.Ops[from:to]
		}
		if err := o.push(&o.part); err != nil {
			return err
		}
	}
	o.part = batch.Batch[T]{}
	return nil
}

func (o *keyed[K, T, R]) push(b *batch.Batch[T]) error {
	g, key := &o.groups, o.key
	g.begin()
	for i := range b.Values {
		g.add(b.Hashes[i], key(b.Values[i]))
	}
	if o.scout != nil {
		o.scout.look(b, g)
	}
	for j, hash := range g.hashes {
		if j%state.Stride == 0 {
			o.ctx.State.Ahead(g.hashes, j)
		}
		first := g.first[j]
		if o.aging {
			if err := o.foldByTime(hash, g.keys[j], b, first); err != nil {
				return err
			}
			continue
		}
		o.out.time = b.Times[g.last[j]]
		o.folder.fold(hash, g.keys[j], b, first, g.next)
		if err := o.out.full(); err != nil {
			return err
		}
	}
	return o.out.flush()
}

// foldByTime folds the rows of one key that come from i on, those of one time at
// once: the key may expire between two of them, and what is forgotten must not
// depend on how rows were batched.
func (o *keyed[K, T, R]) foldByTime(hash uint64, key K, b *batch.Batch[T], i int32) error {
	for next := o.groups.next; i >= 0; {
		at, last := max(b.Times[i], o.reached), i
		for next[last] >= 0 && max(b.Times[next[last]], o.reached) == at {
			last = next[last]
		}
		rest := next[last]
		next[last] = -1
		o.ctx.State.SetEventTime(at)
		o.out.time = b.Times[last]
		o.folder.fold(hash, key, b, i, next)
		if err := o.out.full(); err != nil {
			return err
		}
		i = rest
	}
	return nil
}

// Watermark implements operator.Operator.
func (o *keyed[K, T, R]) Watermark(t int64) (int64, error) {
	if t == batch.EndOfTime && o.ctx.Batch && o.reached != t {
		o.ending = true
		return o.reached, nil
	}
	o.reached = t
	o.ctx.State.Passed(t)
	return t, nil
}

// keysAStep bounds the keys whose final rows go out before the task turns to
// its mailbox.
const keysAStep = 1024

// Work implements operator.Worker: a batch run's final rows.
func (o *keyed[K, T, R]) Work() (more bool, watermark int64, err error) {
	if !o.ending {
		return false, o.reached, nil
	}
	o.ctx.Enter()
	o.out.time = batch.NoTime
	next, done := o.folder.final(o.from)
	if err := o.out.flush(); err != nil {
		return false, o.reached, err
	}
	o.from = next
	if done {
		o.ending, o.reached = false, batch.EndOfTime
	}
	return !done, o.reached, nil
}

// Close implements operator.Operator.
func (o *keyed[K, T, R]) Close() error { return nil }

// finish emits the keys of a table with f, and deletes them.
func finish[K comparable, V any](t *state.Table[K, V], from uint64, f func(key K, v *V)) (next uint64, done bool) {
	type emitted struct {
		hash uint64
		key  K
	}
	var gone []emitted
	next, done = t.Scan(from, keysAStep, func(hash uint64, key *K, v *V) bool {
		f(*key, v)
		gone = append(gone, emitted{hash, *key})
		return true
	})
	for _, e := range gone {
		t.Delete(e.hash, e.key)
	}
	return next, done
}
