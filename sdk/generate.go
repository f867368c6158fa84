package sdk

import (
	"context"
	"fmt"
	"iter"
	"strconv"
)

// Generate is a source of n records, record i being f(i); with n < 0 it never
// ends. It is read as a number of splits (4; see GenerateSplits), of which
// split s holds s, s+4, s+8 and so on. f must depend on i alone, for after a
// failure it is asked again, and it is called by several goroutines at once.
func Generate[T any](n int64, f func(i int64) T, opts ...GenerateOption) Source[T] {
	c := generateConfig{splits: 4}
	for _, o := range opts {
		o(&c)
	}
	return &generator[T]{n: n, f: f, splits: c.splits, name: "from-generator"}
}

// GenerateOption changes Generate.
type GenerateOption func(*generateConfig)

type generateConfig struct{ splits int64 }

// GenerateSplits sets the number of splits, which bounds how many subtasks
// can generate at once. It must not change while a job's state is kept.
func GenerateSplits(n int) GenerateOption {
	return func(c *generateConfig) { c.splits = int64(n) }
}

// Slice is a source of given values, in order, read by one subtask.
func Slice[T any](values ...T) Source[T] {
	return &generator[T]{n: int64(len(values)), f: func(i int64) T { return values[i] }, splits: 1, name: "from-slice"}
}

type generator[T any] struct {
	n      int64
	f      func(int64) T
	splits int64
	name   string
}

func (g *generator[T]) Name() string { return g.name }

func (g *generator[T]) Bounded() bool { return g.n >= 0 }

func (g *generator[T]) Check() error {
	if g.splits < 1 {
		return fmt.Errorf("Generate: %d splits: at least 1 is needed", g.splits)
	}
	return nil
}

func (g *generator[T]) Splits(context.Context, SourceEnv, []Split) ([]Split, error) {
	splits := make([]Split, g.splits)
	for i := range splits {
		splits[i].ID = strconv.Itoa(i)
	}
	return splits, nil
}

func (g *generator[T]) Open(_ context.Context, _ SourceEnv, split Split, position []byte) (Reader[T], error) {
	first, err := strconv.ParseInt(split.ID, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("generator: split %q is not one of its own: %w", split.ID, err)
	}
	r := &generatorReader[T]{generator: g, first: first, end: -1}
	if g.n >= 0 {
		r.end = max(0, (g.n-first+g.splits-1)/g.splits)
	}
	if len(position) > 0 {
		if r.done, err = offsetOf(position); err != nil {
			return nil, fmt.Errorf("generator: split %s: %w", split.ID, err)
		}
	}
	return r, nil
}

// generatorReader has made done records of its split; end is -1 without one.
type generatorReader[T any] struct {
	*generator[T]
	first, done, end int64
}

func (r *generatorReader[T]) Poll(b *Batch[T], max int) (ReadStatus, error) {
	for range max {
		if r.end >= 0 && r.done >= r.end {
			return ReadEnded, nil
		}
		b.Append(r.f(r.first+r.done*r.splits), NoTime)
		r.done++
	}
	return ReadMore, nil
}

func (r *generatorReader[T]) Position() []byte { return positionOf(r.done) }

func (r *generatorReader[T]) StopAfter(position []byte) {
	r.end = 0
	if at, err := offsetOf(position); err == nil {
		r.end = at
	}
}

func (r *generatorReader[T]) Lag() (int64, int64) {
	if r.end < 0 {
		return -1, -1
	}
	return -1, max(0, r.end-r.done)
}

func (r *generatorReader[T]) Close() error { return nil }

// Iterate is a source that draws its records from a Go iterator, by one
// subtask. start is called at the beginning and again after each restore; the
// position is the number of records drawn, and those are skipped, so the
// iterator must yield the same records again. It is drawn on the goroutine of
// the task: one that blocks holds up the task's checkpoints.
func Iterate[T any](start func() iter.Seq[T]) Source[T] { return iterator[T]{start} }

type iterator[T any] struct{ start func() iter.Seq[T] }

func (iterator[T]) Name() string { return "from-iterator" }

func (iterator[T]) Bounded() bool { return true }

func (iterator[T]) Splits(context.Context, SourceEnv, []Split) ([]Split, error) {
	return []Split{{ID: "0"}}, nil
}

func (it iterator[T]) Open(ctx context.Context, _ SourceEnv, _ Split, position []byte) (Reader[T], error) {
	var skip int64
	if len(position) > 0 {
		var err error
		if skip, err = offsetOf(position); err != nil {
			return nil, fmt.Errorf("iterator: %w", err)
		}
	}
	next, stop := iter.Pull(it.start())
	r := &iteratorReader[T]{next: next, stop: stop, end: -1}
	for r.drawn < skip {
		if _, ok := next(); !ok {
			stop()
			return nil, fmt.Errorf("iterator: it ended after %d records, and %d were drawn before the checkpoint", r.drawn, skip)
		}
		r.drawn++
		if r.drawn%4096 == 0 && ctx.Err() != nil {
			stop()
			return nil, ctx.Err()
		}
	}
	return r, nil
}

type iteratorReader[T any] struct {
	next       func() (T, bool)
	stop       func()
	drawn, end int64
}

func (r *iteratorReader[T]) Poll(b *Batch[T], max int) (ReadStatus, error) {
	for range max {
		if r.end >= 0 && r.drawn >= r.end {
			return ReadEnded, nil
		}
		v, ok := r.next()
		if !ok {
			return ReadEnded, nil
		}
		b.Append(v, NoTime)
		r.drawn++
	}
	return ReadMore, nil
}

func (r *iteratorReader[T]) Position() []byte { return positionOf(r.drawn) }

func (r *iteratorReader[T]) StopAfter(position []byte) {
	r.end = 0
	if at, err := offsetOf(position); err == nil {
		r.end = at
	}
}

func (r *iteratorReader[T]) Lag() (int64, int64) { return -1, -1 }

func (r *iteratorReader[T]) Close() error { r.stop(); return nil }
