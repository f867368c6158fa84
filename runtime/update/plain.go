package update

import (
	"slices"

	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/operator"
)

// plain is what operators without state do for the contract.
type plain struct {
	ctx *operator.Context
}

func (p *plain) Open(ctx *operator.Context) error { p.ctx = ctx; return nil }
func (p *plain) Watermark(t int64) (int64, error) { return t, nil }
func (p *plain) Close() error                     { return nil }

// row is an operator that makes a batch of each batch, row by row.
type row[T, U any] struct {
	plain
	make func(b *batch.Batch[T], out *batch.Batch[U])
	out  operator.Output[U]
	buf  batch.Batch[U]
}

func (r *row[T, U]) Input(i int) any {
	if i != 0 {
		return nil
	}
	return operator.Stage[T](r)
}

func (r *row[T, U]) Output(tag string) any {
	if tag != "" {
		return nil
	}
	return &r.out
}

// Push implements operator.Stage.
func (r *row[T, U]) Push(b *batch.Batch[T]) error {
	r.ctx.Enter()
	r.ctx.Metrics.RecordsIn += uint64(len(b.Values))
	r.buf.Values, r.buf.Times, r.buf.Ops = r.buf.Values[:0], r.buf.Times[:0], r.buf.Ops[:0]
	r.make(b, &r.buf)
	if len(r.buf.Values) == 0 {
		return nil
	}
	r.ctx.Metrics.RecordsOut += uint64(len(r.buf.Values))
	return r.out.Push(&r.buf)
}

// NewMap returns an operator that makes f of each row, to be deleted or
// inserted as the row is.
func NewMap[T, U any](f func(T) U) operator.Operator {
	return &row[T, U]{make: func(b *batch.Batch[T], out *batch.Batch[U]) {
		out.Values = slices.Grow(out.Values, len(b.Values))[:len(b.Values)]
		for i := range b.Values {
			out.Values[i] = f(b.Values[i])
		}
		out.Times, out.Ops = append(out.Times, b.Times...), append(out.Ops, b.Ops...)
	}}
}

// NewFlatMap is NewMap for any number of rows of each.
func NewFlatMap[T, U any](f func(T, func(U))) operator.Operator {
	r := &row[T, U]{}
	var op batch.Op
	var time int64
	emit := func(v U) { r.buf.AppendOp(op, v, time) }
	r.make = func(b *batch.Batch[T], _ *batch.Batch[U]) {
		for i := range b.Values {
			op, time = b.OpOf(i), b.Times[i]
			f(b.Values[i], emit)
		}
	}
	return r
}

// NewFilter returns an operator that lets through the rows for which keep is
// true.
func NewFilter[T any](keep func(T) bool) operator.Operator {
	return &row[T, T]{make: func(b, out *batch.Batch[T]) {
		for i := range b.Values {
			if keep(b.Values[i]) {
				out.AppendOp(b.OpOf(i), b.Values[i], b.Times[i])
			}
		}
	}}
}

// NewChanges returns an operator that makes a record of each change.
func NewChanges[T, U any](f func(batch.Op, T) U) operator.Operator {
	return &row[T, U]{make: func(b *batch.Batch[T], out *batch.Batch[U]) {
		for i := range b.Values {
			out.Append(f(b.OpOf(i), b.Values[i]), b.Times[i])
		}
	}}
}
