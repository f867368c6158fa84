package sdk

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/millrace/millrace/internal/clock"
	"github.com/millrace/millrace/runtime/keygroup"
	"github.com/millrace/millrace/runtime/operator"
	"github.com/millrace/millrace/runtime/state"
	"github.com/millrace/millrace/runtime/timer"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// KeyedStream is a stream partitioned by key: all records of a key come to the
// same subtask, in the order in which each sender emitted them. Operators on it
// keep state for each key, so they have a name, which finds the state again when
// the job is restored, rescaled or upgraded.
//
// Keys are booleans, numbers, strings, and structs and arrays of these.
//
// Methods that make an operator have a type parameter, if only that of their
// name: Go compiles methods without one for every stream there is, used or not.
type KeyedStream[K comparable, T any] struct {
	s   DataStream[T]
	key func(T) K
}

// KeyBy partitions the stream by f of each record. f must depend on the record
// alone.
func (s DataStream[T]) KeyBy[K comparable](f func(v T) K) KeyedStream[K, T] {
	return KeyedStream[K, T]{s: s, key: f}
}

// attachKeyed adds an operator that keeps state for each key.
func attachKeyed[K comparable, T, U any](k KeyedStream[K, T], kind, name string, build func() operator.Operator) (DataStream[U], *node) {
	n := k.s.env.add(kind)
	n.keyed = true
	if name != "" {
		n.rename(name)
	}
	n.New = build
	k.into(n, 0)
	return outputOf[U](n), n
}

// into connects the stream to an input of a node.
func (k KeyedStream[K, T]) into(n *node, port int) {
	if k.key == nil {
		n.plan = append(n.plan, func() error { return errors.New("the key function of its input is nil") })
		return
	}
	hash, err := keygroup.HasherOf[K]()
	connect[T](n, port, k.s.from, pb.Ship_SHIP_HASH, hashing(k.key, hash))
	n.plan = append(n.plan, func() error { return err })
}

// hashing fills the hash column of a batch.
func hashing[K comparable, T any](key func(T) K, hash func(*K) uint64) func(*Batch[T]) {
	return func(b *Batch[T]) {
		b.Hashes = b.Hashes[:0]
		var k K // on the heap, so it is one a batch
		for i := range b.Values {
			k = key(b.Values[i])
			b.Hashes = append(b.Hashes, hash(&k))
		}
	}
}

// Reduce folds all records of a key to one, and emits it anew with each record:
// f of the reduction so far and the record. The first record of a key is its own
// reduction.
//
// With a TTL a key is forgotten when no record of it has come for so long; the
// next one is then its own reduction.
func (k KeyedStream[K, T]) Reduce[Name ~string](name Name, f func(sofar, v T) T, opts ...StateOption) DataStream[T] {
	ttl, wrong := lifetimes(opts)
	out, n := attachKeyed[K, T, T](k, "Reduce", string(name), func() operator.Operator { return operator.NewReduce(k.key, f, ttl...) })
	n.plan = append(n.plan, func() error {
		if f == nil {
			return errors.New("its function is nil")
		}
		return cmp.Or(wrong, n.declareState())
	})
	return out
}

// Aggregate folds all records of a key into an accumulator, and emits result of
// it with each record. result must not keep memory that the accumulator holds.
//
// With a TTL a key is forgotten when no record of it has come for so long; the
// next one begins with a new accumulator.
func (k KeyedStream[K, T]) Aggregate[A, R any](name string, agg Aggregate[T, A], result func(key K, acc A) R, opts ...StateOption) DataStream[R] {
	ttl, wrong := lifetimes(opts)
	build := func() operator.Operator {
		return operator.NewKeyedProcess(k.key, func(ctx *operator.Context, cur *state.Current[K]) (operator.KeyedFunction[K, T, R], error) {
			table, err := state.NewTable[K, A](ctx.State, "aggregate", ctx.Lifetime(ttl)...)
			ctx.State.Describe("aggregate", "value")
			return operator.KeyedFunction[K, T, R]{Process: func(_ *operator.Call, v T, emit func(R)) error {
				acc, fresh := table.Renew(cur.Hash(), cur.Key())
				if fresh {
					*acc = agg.New()
				}
				agg.Add(acc, v)
				emit(result(cur.Key(), *acc))
				return nil
			}}, err
		})
	}
	out, n := attachKeyed[K, T, R](k, "Aggregate", name, build)
	n.plan = append(n.plan, func() error {
		if agg.New == nil || agg.Add == nil || result == nil {
			return errors.New("an aggregate needs New, Add and a result function")
		}
		return cmp.Or(wrong, n.declareState())
	})
	return out
}

// KeyedFn is the function of one subtask of KeyedStream.Process. Each is called
// for each record, OnTimer for event-time timers and OnProcessingTimer for
// processing-time timers; c.Key, the state and c.Time are then those of the
// record or the timer. An error, or a panic, fails the job, which then restarts.
type KeyedFn[K comparable, T, U any] struct {
	Each              func(c *KeyedContext[K, U], v T) error
	OnTimer           func(c *KeyedContext[K, U]) error
	OnProcessingTimer func(c *KeyedContext[K, U]) error
}

// Process gives full control over each record of a key, with state and timers.
//
// build makes the function of a subtask. It declares state once and returns
// functions that use it:
//
//	visits := s.KeyBy(user).Process("visits", func(op *sdk.KeyedOp[string]) sdk.KeyedFn[string, Visit, Report] {
//		count := op.Value[int64]("count")
//		return sdk.KeyedFn[string, Visit, Report]{
//			Each: func(c *sdk.KeyedContext[string, Report], v Visit) error {
//				count.Set(count.Get() + 1)
//				c.SetTimer(c.Time().Add(time.Hour))
//				return nil
//			},
//			OnTimer: func(c *sdk.KeyedContext[string, Report]) error {
//				c.Emit(Report{c.Key(), count.Get()})
//				count.Clear()
//				return nil
//			},
//		}
//	})
//
// build runs once per subtask when the job starts and once more when it is
// planned, so that state of a type that cannot be kept is refused, with the
// operator's name, before anything runs.
func (k KeyedStream[K, T]) Process[U any](name string, build func(op *KeyedOp[K]) KeyedFn[K, T, U]) DataStream[U] {
	var sides []operator.Side
	var uses timersUsed
	out, n := attachKeyed[K, T, U](k, "Keyed Process", name, func() operator.Operator {
		return newKeyedProcessing(k.key, build, uses, sides)
	})
	n.plan = append(n.plan, func() error {
		if build == nil {
			return errors.New("its function is nil")
		}
		op := planKeyedOp[K](n)
		f := build(op)
		sides = op.declare(n)
		uses = timersUsed{event: f.OnTimer != nil, processing: f.OnProcessingTimer != nil}
		n.eventTime = uses.event
		if f.Each == nil {
			return errors.New("its KeyedFn has no Each")
		}
		if err := op.declareState(n); err != nil {
			return err
		}
		if len(n.States) == 0 {
			n.warn("it declares no state: DataStream.Process does without KeyBy")
		}
		return nil
	})
	return out
}

// planKeyedOp is where a function is built in plan mode.
func planKeyedOp[K comparable](n *node) *KeyedOp[K] {
	op := &KeyedOp[K]{store: state.NewStore(keygroup.RangeOf(0, 1, n.groups())), cur: &state.Current[K]{}}
	op.store.UseClock(clock.System.Now)
	return op
}

// declareState takes the state that was declared in plan mode into the graph.
func (o *KeyedOp[K]) declareState(n *node) error {
	if len(o.errs) > 0 {
		return errors.Join(o.errs...)
	}
	return n.declareState()
}

type timersUsed struct{ event, processing bool }

// newKeyedProcessing makes a keyed process operator that opens and closes what its
// function declared.
func newKeyedProcessing[K comparable, T, U any](key func(T) K, build func(*KeyedOp[K]) KeyedFn[K, T, U], uses timersUsed, sides []operator.Side) operator.Operator {
	return operator.NewKeyedProcess(key, func(ctx *operator.Context, cur *state.Current[K]) (g operator.KeyedFunction[K, T, U], err error) {
		c := &KeyedContext[K, U]{cur: cur}
		op := &KeyedOp[K]{Op: Op{ctx: ctx}, store: ctx.State, cur: cur}
		f := build(op)
		g.Process = onRecord(c, f.Each)
		g.KeyedTimers, err = openKeyed(op, c, uses, f.OnTimer, f.OnProcessingTimer)
		return g, err
	}, sides...)
}

// onRecord makes the runtime's function for records of the user's.
func onRecord[K comparable, T, U any](c *KeyedContext[K, U], f func(*KeyedContext[K, U], T) error) func(*operator.Call, T, func(U)) error {
	return func(call *operator.Call, v T, emit func(U)) error {
		c.call, c.emit = call, emit
		return f(c, v)
	}
}

// openKeyed opens what the function of a keyed subtask has declared, and makes
// its timers.
func openKeyed[K comparable, U any](op *KeyedOp[K], c *KeyedContext[K, U], uses timersUsed, onTimer, onProcessingTimer func(*KeyedContext[K, U]) error) (g operator.KeyedTimers[K, U], err error) {
	if len(op.errs) > 0 {
		return g, errors.Join(op.errs...)
	}
	g.Close = func() error { return op.close(func() error { return nil }) }
	onTime := func(f func(*KeyedContext[K, U]) error) func(*operator.Call, func(U)) error {
		return func(call *operator.Call, emit func(U)) error {
			c.call, c.emit = call, emit
			return f(c)
		}
	}
	if uses.event {
		if c.timers, err = timer.New[K](op.store, "timers"); err != nil {
			return g, err
		}
		g.EventTimers, g.OnEventTime = c.timers, onTime(onTimer)
	}
	if uses.processing {
		if c.clockTimers, err = timer.New[K](op.store, "processing-timers"); err != nil {
			return g, err
		}
		g.ProcessingTimers, g.OnProcessingTime = c.clockTimers, onTime(onProcessingTimer)
	}
	if op.ctx == planning(op.ctx) {
		return g, nil
	}
	return g, op.open()
}

// KeyedContext is what a KeyedFn may do with the record or timer in its hands.
// It is valid during the call, on its goroutine.
type KeyedContext[K comparable, U any] struct {
	Context[U]
	cur                 *state.Current[K]
	timers, clockTimers *timer.Timers[K]
}

// Key is the key of the record or timer.
func (c *KeyedContext[K, U]) Key() K { return c.cur.Key() }

// SetTimer sets a timer for the key: OnTimer is called once event time reaches
// at. A key has at most one timer at a time: setting it again changes nothing.
// Timers are state: they survive failures and rescaling. It panics if the
// KeyedFn has no OnTimer.
func (c *KeyedContext[K, U]) SetTimer(at time.Time) {
	need(c.timers, "SetTimer", "OnTimer").Register(at.UnixMilli(), c.cur.Hash(), c.cur.Key())
}

// DeleteTimer takes a timer back; one that is not set is no error.
func (c *KeyedContext[K, U]) DeleteTimer(at time.Time) {
	need(c.timers, "DeleteTimer", "OnTimer").Delete(at.UnixMilli(), c.cur.Hash(), c.cur.Key())
}

// Now is the processing time: the clock of the machine, virtual in tests.
func (c *KeyedContext[K, U]) Now() time.Time { return c.call.Context().Clock.Now() }

// SetProcessingTimer is SetTimer for processing time and OnProcessingTimer.
// At the end of a batch run (Env.Batch) those that are set are called at once,
// and setting one then has no effect.
func (c *KeyedContext[K, U]) SetProcessingTimer(at time.Time) {
	timers := need(c.clockTimers, "SetProcessingTimer", "OnProcessingTimer")
	if !c.call.Ended() {
		timers.Register(at.UnixMilli(), c.cur.Hash(), c.cur.Key())
	}
}

// DeleteProcessingTimer takes such a timer back.
func (c *KeyedContext[K, U]) DeleteProcessingTimer(at time.Time) {
	need(c.clockTimers, "DeleteProcessingTimer", "OnProcessingTimer").Delete(at.UnixMilli(), c.cur.Hash(), c.cur.Key())
}

func need[K comparable](t *timer.Timers[K], method, field string) *timer.Timers[K] {
	if t == nil {
		panic(fmt.Sprintf("%s: the KeyedFn has no %s that would be called: set that field", method, field))
	}
	return t
}

// KeyedOp is where a KeyedFn declares its state, and what Op has. Names of
// state are unique in the operator and find the state again after a restore.
type KeyedOp[K comparable] struct {
	Op
	store *state.Store
	cur   *state.Current[K]
	errs  []error
}
