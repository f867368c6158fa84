package join

import (
	"errors"

	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/operator"
)

// Outer says which sides' rows come out unmatched.
type Outer struct{ Left, Right bool }

// rowsAStep bounds the rows or keys that a step of work deals with before the
// task turns to its mailbox.
const rowsAStep = 2048

// errNoTime is for records that event time cannot place.
var errNoTime = errors.New("a record without event time reached the join: give its source a watermark strategy, or the stream timestamps")

// output collects results, and hands them on when a batch is full and at the
// latest before the operator returns to its caller.
type output[U any] struct {
	ctx *operator.Context
	out operator.Output[U]
	buf batch.Batch[U]
	err error // the first failure; what follows it is dropped
}

func (o *output[U]) emit(v U, time int64) {
	o.buf.Values = append(o.buf.Values, v)
	o.buf.Times = append(o.buf.Times, time)
	if len(o.buf.Values) >= batch.Rows {
		o.hand()
		o.ctx.Enter()
	}
}

func (o *output[U]) flush() error {
	if len(o.buf.Values) > 0 {
		o.hand()
	}
	return o.err
}

func (o *output[U]) hand() {
	if o.err == nil {
		o.ctx.Metrics.RecordsOut += uint64(len(o.buf.Values))
		o.err = o.out.Push(&o.buf)
	}
	o.buf.Values, o.buf.Times = o.buf.Values[:0], o.buf.Times[:0]
}

// late is where late records of one side go.
type late[T any] struct {
	tag string
	out operator.Output[T]
	buf batch.Batch[T]
}

func (l *late[T]) add(ctx *operator.Context, v T, time int64) {
	ctx.Metrics.LateDropped++
	if l.out.Attached() {
		l.buf.Append(v, time)
	}
}

func (l *late[T]) flush() error {
	if l.buf.Len() == 0 {
		return nil
	}
	defer l.buf.Reset()
	return l.out.Push(&l.buf)
}

// outputs finds the output of a tag among those of a join.
func outputs[U, L, R any](tag string, main *output[U], left *late[L], right *late[R]) any {
	switch {
	case tag == "":
		return &main.out
	case tag == left.tag:
		return &left.out
	case tag == right.tag:
		return &right.out
	}
	return nil
}
