package sdktest

import (
	"context"
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
		staged    map[string][]T
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

// Recover implements sdk.Transactional.
func (c *Collected[T]) Recover(ctx context.Context, env sdk.SinkEnv, id uint64, handles []sdk.Handle) error {
	return c.Commit(ctx, env, id, handles)
}

// Commit implements sdk.Transactional.
func (c *Collected[T]) Commit(_ context.Context, _ sdk.SinkEnv, _ uint64, handles []sdk.Handle) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range handles {
		key := string(h.Value)
		c.mu.committed = append(c.mu.committed, c.mu.staged[key]...)
		// Handles come again after a failure; what is gone was committed.
		delete(c.mu.staged, key)
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
	done := w.open
	w.open = nil
	return func(context.Context) ([]byte, error) {
		if len(done) == 0 {
			return nil, nil
		}
		key := handleOf(w.env, id)
		w.c.mu.Lock()
		defer w.c.mu.Unlock()
		if w.c.mu.staged == nil {
			w.c.mu.staged = map[string][]T{}
		}
		if w.c.mu.staged[key] != nil {
			return nil, errors.New("a checkpoint was prepared twice")
		}
		w.c.mu.staged[key] = done
		return []byte(key), nil
	}, nil
}

// handleOf names what one subtask prepared for one checkpoint of one attempt.
func handleOf(env sdk.SinkEnv, id uint64) string {
	return fmt.Sprintf("%s/%d/%d/%d", env.UID, env.Epoch, id, env.Subtask)
}
