package sdk

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace/millrace/runtime/codec"
	"github.com/millrace/millrace/runtime/operator"
)

// AsyncOption is an option of AsyncMap.
type AsyncOption func(*asyncOptions)

type asyncOptions struct {
	unordered           bool
	capacity            int
	timeout             time.Duration
	attempts            int
	backoff, maxBackoff time.Duration
	failed              any // func(*operator.Call, T, error)
	side                operator.Side
	tag                 string
	errs                []error
}

// AsyncUnordered lets results leave as they come, and not in the order of their
// records. A result still does not leave before a watermark that came before its
// record, nor after one that came behind it, so event time means what it did.
func AsyncUnordered() AsyncOption { return func(o *asyncOptions) { o.unordered = true } }

// AsyncCapacity bounds how many calls run at a time in each subtask: 100 without
// it. As many records may wait for a result, or with one for their turn; then the
// operator takes no more (and up to one batch is taken beyond it).
func AsyncCapacity(n int) AsyncOption {
	return func(o *asyncOptions) {
		if o.capacity = n; n < 1 {
			o.errs = append(o.errs, fmt.Errorf("AsyncCapacity(%d): it must be at least 1", n))
		}
	}
}

// AsyncTimeout bounds one attempt: one minute without it. The context of the call
// ends with it, and a call that does not heed that is left behind.
func AsyncTimeout(d time.Duration) AsyncOption {
	return func(o *asyncOptions) {
		if o.timeout = d; d <= 0 {
			o.errs = append(o.errs, fmt.Errorf("AsyncTimeout(%v): it must be more than nothing", d))
		}
	}
}

// AsyncRetry lets each record be tried so many times in all. Before the second
// attempt it waits for first, then for twice as long each time, at most for most.
// Without it a record is tried once.
func AsyncRetry(attempts int, first, most time.Duration) AsyncOption {
	return func(o *asyncOptions) {
		o.attempts, o.backoff, o.maxBackoff = attempts, first, max(first, most)
		if attempts < 1 || first < 0 {
			o.errs = append(o.errs, fmt.Errorf("AsyncRetry(%d, %v, %v): it takes at least one attempt, and no time less than nothing", attempts, first, most))
		}
	}
}

// AsyncFailed sends what f makes of a record whose last attempt has failed, and
// of its error, to a side output, which DataStream.Side reads. Without it such a
// record fails the job, which then restarts.
func AsyncFailed[T, S any](tag Tag[S], f func(v T, err error) S) AsyncOption {
	return func(o *asyncOptions) {
		if f == nil {
			o.errs = append(o.errs, errors.New("AsyncFailed: its function is nil"))
			return
		}
		o.side, o.tag = tag, tag.Name
		o.failed = func(c *operator.Call, v T, err error) { operator.EmitTo(c, tag, f(v, err)) }
	}
}

// AsyncMap emits f of each record, and makes many calls of f at a time: for
// what waits for others, such as a look-up over a network. Each call runs on a
// goroutine of its own, so f must be safe for concurrent use; it should end when its
// context does, which is at the timeout and when the job stops.
//
//	rich := visits.AsyncMap("look-up", func(ctx context.Context, v Visit) (Rich, error) {
//		return client.Enrich(ctx, v)
//	}, sdk.AsyncUnordered(), sdk.AsyncTimeout(time.Second), sdk.AsyncRetry(3, 100*time.Millisecond, time.Second))
//
// Results have the event time of their records. They leave in the order of those
// records, unless AsyncUnordered. A call that fails, panics or takes too long is made
// again if AsyncRetry says so; then the record has failed, see AsyncFailed.
//
// Checkpoints do not wait for calls: records whose results have not left are in
// them. After a restore, calls are made again for these, so f may be called more
// than once for a record, while each result leaves once. The name finds them again,
// and a rescale spreads them anew; records of one key stay in order only where
// the parallelism stays.
//
// In sdktest it needs Run: a harness has no other goroutines.
func (s DataStream[T]) AsyncMap[U any](name string, f func(ctx context.Context, v T) (U, error), opts ...AsyncOption) DataStream[U] {
	o := asyncOptions{capacity: 100, timeout: time.Minute, attempts: 1}
	for _, opt := range opts {
		opt(&o)
	}
	cfg := operator.AsyncConfig[T]{
		Ordered: !o.unordered, Capacity: o.capacity, Timeout: o.timeout,
		Attempts: o.attempts, Backoff: o.backoff, MaxBackoff: o.maxBackoff,
	}
	var sides []operator.Side
	if o.side != nil {
		sides = append(sides, o.side)
		failed, ok := o.failed.(func(*operator.Call, T, error))
		if !ok {
			var zero T
			o.errs = append(o.errs, fmt.Errorf("AsyncFailed: its function takes other records: it must be a func(%T, error)", zero))
		}
		cfg.Failed = failed
	}
	out, n := attach[T, U](s, "Async Map", f == nil, func() operator.Operator { return operator.NewAsync(f, cfg, sides...) })
	n.rename(name)
	if o.side != nil {
		n.tags[o.tag] = true
	}
	n.plan = append(n.plan, func() error {
		if _, err := codec.Derive[T](); err != nil {
			return fmt.Errorf("its records are in checkpoints while calls run: %w", err)
		}
		return errors.Join(o.errs...)
	})
	return out
}
