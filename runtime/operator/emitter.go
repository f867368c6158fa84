package operator

import (
	"github.com/millrace/millrace/runtime/batch"
)

// plain is what an operator without state, resources or a view of time of its
// own does for the contract.
type plain struct {
	ctx *Context
}

func (p *plain) Open(ctx *Context) error          { p.ctx = ctx; return nil }
func (p *plain) Watermark(t int64) (int64, error) { return t, nil }
func (p *plain) Close() error                     { return nil }

// emitter collects the records of one output into a batch of its own and
// hands it on when it is full, and at the latest before the operator returns
// to its caller: nothing stays behind between two calls of the contract.
//
// The batch is reused without clearing it, so one operator may keep at most one
// batch of the user's values alive: clearing would cost more than most maps.
type emitter[U any] struct {
	ctx *Context
	out Output[U]
	buf batch.Batch[U]
	// time is the event time of the record that is being processed.
	time int64
	// err is the first failure of a Push in the middle of user code, which
	// has no way to hear of it; everything after it is dropped.
	err error
}

// sink returns what user code calls, which emits at the time of the record in
// hand. It is one closure and not a method value of emitAt: that would be three
// calls a record instead of one.
func (e *emitter[U]) sink() func(U) {
	return func(v U) {
		e.buf.Values = append(e.buf.Values, v)
		e.buf.Times = append(e.buf.Times, e.time)
		if len(e.buf.Values) >= batch.Rows {
			e.full()
		}
	}
}

func (e *emitter[U]) emitAt(v U, time int64) {
	e.buf.Values = append(e.buf.Values, v)
	e.buf.Times = append(e.buf.Times, time)
	if len(e.buf.Values) >= batch.Rows {
		e.full()
	}
}

// full hands over in the middle of user code.
func (e *emitter[U]) full() {
	e.handOver()
	e.ctx.Enter()
}

// flush hands over what is left and returns the first failure.
func (e *emitter[U]) flush() error {
	if len(e.buf.Values) > 0 {
		e.handOver()
	}
	return e.err
}

func (e *emitter[U]) handOver() {
	if e.err == nil {
		e.ctx.Metrics.RecordsOut += uint64(len(e.buf.Values))
		e.err = e.out.Push(&e.buf)
	}
	e.buf.Values = e.buf.Values[:0]
	e.buf.Times = e.buf.Times[:0]
}

// only returns the one output of an operator that has no tags.
func only[U any](tag string, out *Output[U]) any {
	if tag != "" {
		return nil
	}
	return out
}

// sole returns the one input of an operator.
func sole[T any](i int, in Stage[T]) any {
	if i != 0 {
		return nil
	}
	return in
}
