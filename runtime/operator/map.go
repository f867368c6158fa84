package operator

import (
	"slices"

	"github.com/millrace/millrace/runtime/batch"
)

// NewMap returns an operator that emits f of each record, with its time.
func NewMap[T, U any](f func(T) U) Operator { return &mapper[T, U]{f: f} }

type mapper[T, U any] struct {
	plain
	f   func(T) U
	out Output[U]
	buf batch.Batch[U]
}

func (m *mapper[T, U]) Input(i int) any       { return sole[T](i, m) }
func (m *mapper[T, U]) Output(tag string) any { return only(tag, &m.out) }

// Push lends the input's times to the output for the call, rather than copy.
func (m *mapper[T, U]) Push(b *batch.Batch[T]) error {
	m.ctx.Enter()
	m.ctx.Metrics.RecordsIn += uint64(len(b.Values))
	in, f := b.Values, m.f
	vals := slices.Grow(m.buf.Values[:0], len(in))[:len(in)]
	for i := range in {
		vals[i] = f(in[i])
	}
	m.buf.Values, m.buf.Times = vals, b.Times
	m.ctx.Metrics.RecordsOut += uint64(len(vals))
	err := m.out.Push(&m.buf)
	m.buf.Times = nil
	return err
}

// NewTryMap is NewMap for a function that may fail; its error fails the task.
func NewTryMap[T, U any](f func(T) (U, error)) Operator { return &tryMapper[T, U]{f: f} }

type tryMapper[T, U any] struct {
	plain
	f   func(T) (U, error)
	out Output[U]
	buf batch.Batch[U]
}

func (m *tryMapper[T, U]) Input(i int) any       { return sole[T](i, m) }
func (m *tryMapper[T, U]) Output(tag string) any { return only(tag, &m.out) }

func (m *tryMapper[T, U]) Push(b *batch.Batch[T]) error {
	m.ctx.Enter()
	m.ctx.Metrics.RecordsIn += uint64(len(b.Values))
	vals, f := m.buf.Values[:0], m.f
	for i := range b.Values {
		v, err := f(b.Values[i])
		if err != nil {
			return err
		}
		vals = append(vals, v)
	}
	m.buf.Values, m.buf.Times = vals, b.Times
	m.ctx.Metrics.RecordsOut += uint64(len(vals))
	err := m.out.Push(&m.buf)
	m.buf.Times = nil
	return err
}

// NewFilter returns an operator that lets through the records for which keep
// is true.
func NewFilter[T any](keep func(T) bool) Operator { return &filter[T]{keep: keep} }

type filter[T any] struct {
	plain
	keep func(T) bool
	out  Output[T]
	buf  batch.Batch[T]
}

func (f *filter[T]) Input(i int) any       { return sole[T](i, f) }
func (f *filter[T]) Output(tag string) any { return only(tag, &f.out) }

// Push hands a batch on as it is until the first record that falls out, so a
// filter that keeps everything copies nothing.
func (f *filter[T]) Push(b *batch.Batch[T]) error {
	f.ctx.Enter()
	f.ctx.Metrics.RecordsIn += uint64(len(b.Values))
	keep, n := f.keep, 0
	for n < len(b.Values) && keep(b.Values[n]) {
		n++
	}
	if n == len(b.Values) {
		f.ctx.Metrics.RecordsOut += uint64(n)
		return f.out.Push(b)
	}
	vals := append(f.buf.Values[:0], b.Values[:n]...)
	times := append(f.buf.Times[:0], b.Times[:n]...)
	for i := n + 1; i < len(b.Values); i++ {
		if keep(b.Values[i]) {
			vals = append(vals, b.Values[i])
			times = append(times, b.Times[i])
		}
	}
	f.buf.Values, f.buf.Times = vals, times
	if len(vals) == 0 {
		return nil
	}
	f.ctx.Metrics.RecordsOut += uint64(len(vals))
	return f.out.Push(&f.buf)
}

// NewFilterMap returns an operator that emits f of those records for which f
// says so, with their times.
func NewFilterMap[T, U any](f func(T) (U, bool)) Operator { return &filterMapper[T, U]{f: f} }

type filterMapper[T, U any] struct {
	plain
	f   func(T) (U, bool)
	out Output[U]
	buf batch.Batch[U]
}

func (m *filterMapper[T, U]) Input(i int) any       { return sole[T](i, m) }
func (m *filterMapper[T, U]) Output(tag string) any { return only(tag, &m.out) }

// Push writes each result where it stays if it does: there is no branch to
// guess wrong, and no record is copied twice.
func (m *filterMapper[T, U]) Push(b *batch.Batch[T]) error {
	m.ctx.Enter()
	m.ctx.Metrics.RecordsIn += uint64(len(b.Values))
	in, f, n := b.Values, m.f, 0
	vals := slices.Grow(m.buf.Values[:0], len(in))[:len(in)]
	times := slices.Grow(m.buf.Times[:0], len(in))[:len(in)]
	var keep bool
	for i := range in {
		times[n] = b.Times[i]
		if vals[n], keep = f(in[i]); keep {
			n++
		}
	}
	m.buf.Values, m.buf.Times = vals[:n], times[:n]
	if n == 0 {
		return nil
	}
	m.ctx.Metrics.RecordsOut += uint64(n)
	return m.out.Push(&m.buf)
}

// NewFlatMap returns an operator that emits what f hands to its second
// argument, at the time of the record. f must not keep that argument.
func NewFlatMap[T, U any](f func(T, func(U))) Operator { return &flatMapper[T, U]{f: f} }

type flatMapper[T, U any] struct {
	emitter[U]
	f  func(T, func(U))
	to func(U) // emitter.sink, made once
}

func (m *flatMapper[T, U]) Input(i int) any       { return sole[T](i, m) }
func (m *flatMapper[T, U]) Output(tag string) any { return only(tag, &m.out) }

func (m *flatMapper[T, U]) Open(ctx *Context) error {
	m.ctx, m.to = ctx, m.sink()
	return nil
}

func (m *flatMapper[T, U]) Watermark(t int64) (int64, error) { return t, nil }
func (m *flatMapper[T, U]) Close() error                     { return nil }

func (m *flatMapper[T, U]) Push(b *batch.Batch[T]) error {
	m.ctx.Enter()
	m.ctx.Metrics.RecordsIn += uint64(len(b.Values))
	f, to := m.f, m.to
	for i := range b.Values {
		m.time = b.Times[i]
		f(b.Values[i], to)
	}
	return m.flush()
}
