package operator

import (
	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/state"
)

// KeyedFunction is the user code of one subtask of a keyed process operator.
// Only Process must be set.
type KeyedFunction[K comparable, T, U any] struct {
	// Process is called for each record, its key being the current one.
	Process func(c *Call, v T, emit func(U)) error
	KeyedTimers[K, U]
}

// NewKeyedProcess returns an operator on a keyed edge. Each subtask calls open
// once to declare state and timers, which work on cur, the current key; what it
// returns is then called for each record and each timer.
func NewKeyedProcess[K comparable, T, U any](
	key func(T) K,
	open func(ctx *Context, cur *state.Current[K]) (KeyedFunction[K, T, U], error),
	declared ...Side,
) Operator {
	p := &keyedProcess[K, T, U]{open: open}
	p.in = keyedPort[K, T, U]{calls: &p.keyedCalls, key: key}
	p.init(declared)
	return p
}

type keyedProcess[K comparable, T, U any] struct {
	keyedCalls[K, U]
	open func(*Context, *state.Current[K]) (KeyedFunction[K, T, U], error)
	in   keyedPort[K, T, U]
}

func (p *keyedProcess[K, T, U]) Input(i int) any { return sole[T](i, &p.in) }

func (p *keyedProcess[K, T, U]) Open(ctx *Context) error {
	p.begin(ctx)
	f, err := p.open(ctx, &p.cur)
	p.in.each, p.timers = f.Process, f.KeyedTimers
	return err
}

// keyedPort is one input of a keyed process operator.
type keyedPort[K comparable, T, U any] struct {
	calls *keyedCalls[K, U]
	key   func(T) K
	each  func(*Call, T, func(U)) error
}

// Push implements Stage.
func (in *keyedPort[K, T, U]) Push(b *batch.Batch[T]) error {
	p := in.calls
	p.ctx.Enter()
	p.ctx.Metrics.RecordsIn += uint64(len(b.Values))
	f, key, to := in.each, in.key, p.to
	aging := p.ctx.State.Aging()
	for i := range b.Values {
		if i%state.Stride == 0 {
			p.ctx.State.Ahead(b.Hashes, i)
		}
		p.cur.Set(b.Hashes[i], key(b.Values[i]))
		p.time, p.call.time = b.Times[i], b.Times[i]
		if aging {
			p.ctx.State.SetEventTime(max(p.time, p.reached))
		}
		if err := f(&p.call, b.Values[i], to); err != nil {
			return err
		}
	}
	p.setAlarm()
	return p.finish()
}

// ReduceState is the name of the state of NewReduce.
const ReduceState = "reduce"

// NewReduce returns an operator on a keyed edge that emits, for each record,
// the reduction of all records of its key so far. The first of a key is its
// own reduction. With a TTL each record is a use of its key.
func NewReduce[K comparable, T any](key func(T) K, f func(sofar, v T) T, ttl ...state.TTL) Operator {
	return &reducer[K, T]{key: key, f: f, ttl: ttl, reached: batch.NoTime}
}

type reducer[K comparable, T any] struct {
	plain
	key     func(T) K
	f       func(T, T) T
	ttl     []state.TTL
	table   *state.Table[K, T]
	reached int64 // the watermark
	out     Output[T]
	buf     batch.Batch[T]
}

func (r *reducer[K, T]) Input(i int) any       { return sole[T](i, r) }
func (r *reducer[K, T]) Output(tag string) any { return only(tag, &r.out) }

func (r *reducer[K, T]) Open(ctx *Context) error {
	r.ctx = ctx
	var err error
	r.ttl = ctx.Lifetime(r.ttl)
	r.table, err = state.NewTable[K, T](ctx.State, ReduceState, r.ttl...)
	ctx.State.Describe(ReduceState, "value")
	return err
}

func (r *reducer[K, T]) Watermark(t int64) (int64, error) {
	r.reached = t
	r.ctx.State.Passed(t)
	return t, nil
}

func (r *reducer[K, T]) Push(b *batch.Batch[T]) error {
	r.ctx.Enter()
	r.ctx.Metrics.RecordsIn += uint64(len(b.Values))
	vals := r.buf.Values[:0]
	for i := range b.Values {
		if i%state.Stride == 0 {
			r.table.Ahead(b.Hashes, i)
		}
		sofar, fresh := r.sofar(b, i)
		if fresh {
			r.table.Set(b.Hashes[i], sofar, b.Values[i])
		} else {
			r.table.Set(b.Hashes[i], sofar, r.f(*sofar, b.Values[i]))
		}
		vals = append(vals, *sofar)
	}
	r.buf.Values, r.buf.Times = vals, b.Times
	r.ctx.Metrics.RecordsOut += uint64(len(vals))
	err := r.out.Push(&r.buf)
	r.buf.Times = nil
	return err
}

// sofar is the reduction of a record's key.
func (r *reducer[K, T]) sofar(b *batch.Batch[T], i int) (v *T, fresh bool) {
	if len(r.ttl) == 0 {
		return r.table.Upsert(b.Hashes[i], r.key(b.Values[i]))
	}
	r.ctx.State.SetEventTime(max(b.Times[i], r.reached))
	return r.table.Renew(b.Hashes[i], r.key(b.Values[i]))
}
