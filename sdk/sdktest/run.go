package sdktest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/millrace/millrace/local"
	"github.com/millrace/millrace/runtime/graph"
	"github.com/millrace/millrace/runtime/sink"
	"github.com/millrace/millrace/sdk"
)

// Run runs a whole job until its bounded sources have ended and its sinks have
// committed, with the flags in args, as the job would run by hand. It runs in
// virtual time (a testing/synctest bubble): an hour of processing time passes as
// soon as nothing else is to do. The job must not do I/O that waits for another
// process. A job that fails, restarts exhausted, fails the test.
func Run(t *testing.T, build func(env *sdk.Env) error, args ...string) {
	t.Helper()
	if err := run(t, build, args); err != nil {
		t.Fatalf("the job failed: %v", err)
	}
}

// RunError is Run for a job that is to fail: it returns why.
func RunError(t *testing.T, build func(env *sdk.Env) error, args ...string) error {
	t.Helper()
	err := run(t, build, args)
	if err == nil {
		t.Fatal("the job finished; it was to fail")
	}
	return err
}

func run(t *testing.T, build func(env *sdk.Env) error, args []string) (err error) {
	plan := func() (*graph.Graph, error) { return sdk.Plan(build, args, true) }
	g, err := plan()
	if err != nil {
		return err
	}
	synctest.Test(t, func(t *testing.T) {
		err = local.Run(context.Background(), local.Config{Graph: plan, Parallelism: int(g.Config.DefaultParallelism)})
	})
	return err
}

// Collected is a transactional sink that keeps in memory what was committed, in
// order of commits: what a reader of a stream would have seen. One serves one
// Run; make it outside of build, which runs several times.
type Collected[T any] struct {
	mu struct {
		sync.Mutex
		fences    map[string]uint64 // highest epoch by lineage and sink
		staged    map[transaction][]T
		done      map[transaction]bool
		committed []T
	}
}

// Collect returns an empty sink.
func Collect[T any]() *Collected[T] { return &Collected[T]{} }

// Values returns what was committed.
func (c *Collected[T]) Values() []T {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.mu.committed)
}

// Name implements the sink's name in the job graph.
func (c *Collected[T]) Name() string { return "collect" }

// Open implements sdk.Sink.
func (c *Collected[T]) Open(_ context.Context, env sdk.SinkEnv) (sdk.Writer[T], error) {
	return &collector[T]{c: c, env: env}, nil
}

// transaction is what one subtask prepared for one checkpoint of one attempt.
type transaction struct {
	Lineage, UID string
	Epoch        uint64
	Subtask      int
	Checkpoint   uint64
}

// Recover implements sdk.Transactional.
func (c *Collected[T]) Recover(_ context.Context, env sdk.SinkEnv, _ uint64, handles []sdk.Handle) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.commitLocked(env, handles); err != nil {
		return err
	}
	if c.mu.fences == nil {
		c.mu.fences = map[string]uint64{}
	}
	c.mu.fences[env.Lineage+"/"+env.UID] = env.Epoch
	for tx := range c.mu.staged {
		if tx.Lineage == env.Lineage && tx.UID == env.UID && tx.Epoch < env.Epoch {
			delete(c.mu.staged, tx)
		}
	}
	return nil
}

// Commit implements sdk.Transactional.
func (c *Collected[T]) Commit(_ context.Context, env sdk.SinkEnv, _ uint64, handles []sdk.Handle) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.commitLocked(env, handles)
}

func (c *Collected[T]) commitLocked(env sdk.SinkEnv, handles []sdk.Handle) error {
	if err := c.fencedLocked(env); err != nil {
		return err
	}
	for _, h := range handles {
		var tx transaction
		if err := json.Unmarshal(h.Value, &tx); err != nil {
			return sdk.Refused(fmt.Errorf("collect: the handle of subtask %d: %w", h.Subtask, err))
		}
		if c.mu.done[tx] {
			continue // handles come again after a failure
		}
		values, ok := c.mu.staged[tx]
		if !ok {
			return sdk.Refused(fmt.Errorf("collect: %+v was prepared by another sink: make it outside of build", tx))
		}
		if c.mu.done == nil {
			c.mu.done = map[transaction]bool{}
		}
		c.mu.done[tx] = true
		c.mu.committed = append(c.mu.committed, values...)
		delete(c.mu.staged, tx)
	}
	return nil
}

// fencedLocked refuses an epoch that is over.
func (c *Collected[T]) fencedLocked(env sdk.SinkEnv) error {
	if fence := c.mu.fences[env.Lineage+"/"+env.UID]; fence > env.Epoch {
		return sdk.Stale(fmt.Errorf("collect: epoch %d is over: epoch %d has taken over", env.Epoch, fence))
	}
	return nil
}

var _ sink.Transactional = (*Collected[int])(nil)

type collector[T any] struct {
	c    *Collected[T]
	env  sdk.SinkEnv
	open []T
}

func (w *collector[T]) Write(b *sdk.Batch[T]) error {
	w.open = append(w.open, b.Values...)
	return nil
}

func (w *collector[T]) Flush() error { return nil }

func (w *collector[T]) Close() error { return nil }

// Prepare implements sdk.Preparer.
func (w *collector[T]) Prepare(id uint64) (func(context.Context) ([]byte, error), error) {
	values := w.open
	w.open = nil
	return func(context.Context) ([]byte, error) {
		if len(values) == 0 {
			return nil, nil
		}
		tx := transaction{w.env.Lineage, w.env.UID, w.env.Epoch, w.env.Subtask, id}
		w.c.mu.Lock()
		defer w.c.mu.Unlock()
		if err := w.c.fencedLocked(w.env); err != nil {
			return nil, err
		}
		if w.c.mu.staged == nil {
			w.c.mu.staged = map[transaction][]T{}
		}
		if w.c.mu.staged[tx] != nil {
			return nil, errors.New("a checkpoint was prepared twice")
		}
		w.c.mu.staged[tx] = values
		return json.Marshal(tx)
	}, nil
}
