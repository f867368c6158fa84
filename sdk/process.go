package sdk

import (
	"time"

	"github.com/millrace/millrace/runtime/operator"
)

// Fn is the function of one subtask of Process. It may keep variables of its
// own, which are not part of checkpoints (KeyedStream.Process has state). Its
// error, or a panic, fails the job, which then restarts.
type Fn[T, U any] func(c *Context[U], v T) error

// Process gives full control over each record: any number of emitted records,
// side outputs, the record's event time, errors, and resources of a subtask.
//
// build makes the function of a subtask. It runs once per subtask when the job
// starts, and once more when the job is planned, so it only declares: side
// outputs with Op.Side, counters with Op.Counter, and what must be opened and
// closed with Op.OnOpen and Op.OnClose.
func (s DataStream[T]) Process[U any](build func(op *Op) Fn[T, U]) DataStream[U] {
	var sides []operator.Side
	out, n := attach[T, U](s, "Process", build == nil, func() operator.Operator {
		p := &processing[T, U]{build: build}
		p.Operator = operator.NewProcess(p.process, sides...)
		return p
	})
	if build != nil {
		n.plan = append(n.plan, func() error {
			op := &Op{}
			build(op)
			sides = op.declare(n)
			return nil
		})
	}
	return out
}

// processing is a process operator that asks for its function when it opens.
type processing[T, U any] struct {
	operator.Operator
	build func(*Op) Fn[T, U]
	op    Op
	f     Fn[T, U]
	c     Context[U]
}

func (p *processing[T, U]) process(call *operator.Call, v T, emit func(U)) error {
	p.c.call, p.c.emit = call, emit
	return p.f(&p.c, v)
}

func (p *processing[T, U]) Open(ctx *operator.Context) error {
	if err := p.Operator.Open(ctx); err != nil {
		return err
	}
	ctx.Enter()
	p.op.ctx = ctx
	p.f = p.build(&p.op)
	return p.op.open()
}

func (p *processing[T, U]) Close() error { return p.op.close(p.Operator.Close) }

// Context is what the function of a subtask may do with the record in its
// hands. It is valid during the call, on its goroutine.
type Context[U any] struct {
	call *operator.Call
	emit func(U)
}

// Emit emits a record, at the event time of the one in hand.
func (c *Context[U]) Emit(v U) { c.emit(v) }

// EmitTo emits to a side output, at the same time.
func (c *Context[U]) EmitTo[S any](out SideOutput[S], v S) {
	operator.EmitTo(c.call, out.tag, v)
}

// Time is the event time of the record or timer; the zero time for one that
// has none.
func (c *Context[U]) Time() time.Time { return timeOf(c.call.Time()) }

// Watermark is the event time that the operator has reached: no record at or
// before it is expected. Zero before the first.
func (c *Context[U]) Watermark() time.Time { return timeOf(c.call.Watermark()) }

func timeOf(ms int64) time.Time {
	if ms == NoTime {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// SideOutput is a side output that a subtask declared with Op.Side.
type SideOutput[S any] struct{ tag Tag[S] }

// Op is where a subtask's function declares what it needs. It is valid while
// the function is built.
type Op struct {
	ctx    *operator.Context // nil in plan mode
	tags   []string
	sides  []operator.Side
	opens  []func() error
	closes []func() error
}

// Side declares a side output, which DataStream.Side then reads.
func (o *Op) Side[S any](tag Tag[S]) SideOutput[S] {
	o.tags, o.sides = append(o.tags, tag.Name), append(o.sides, tag)
	return SideOutput[S]{tag}
}

// Counter declares a counter that the job's metrics show with the operator,
// under a name.
func (o *Op) Counter(name string) *Counter {
	c := &Counter{}
	if o.ctx != nil {
		if o.ctx.Metrics.User == nil {
			o.ctx.Metrics.User = map[string]*float64{}
		}
		o.ctx.Metrics.User[name] = &c.value
	}
	return c
}

// OnOpen runs f when the subtask starts, before its first record. It is not run
// in plan mode. Its error fails the job.
func (o *Op) OnOpen(f func() error) { o.opens = append(o.opens, f) }

// OnClose runs f when the subtask ends, also after a failure.
func (o *Op) OnClose(f func() error) { o.closes = append(o.closes, f) }

// Subtask is the number of this subtask, from 0. It is 0 in plan mode.
func (o *Op) Subtask() int {
	if o.ctx == nil {
		return 0
	}
	return o.ctx.Subtask
}

// Parallelism is the number of subtasks of the operator; 1 in plan mode.
func (o *Op) Parallelism() int {
	if o.ctx == nil {
		return 1
	}
	return o.ctx.Parallelism
}

// declare takes over what building a function in plan mode declared.
func (o *Op) declare(n *node) []operator.Side {
	for _, tag := range o.tags {
		n.tags[tag] = true
	}
	return o.sides
}

func (o *Op) open() error {
	for _, f := range o.opens {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// close runs what OnClose asked for, last first, then the operator's own.
func (o *Op) close(own func() error) (err error) {
	for i := len(o.closes) - 1; i >= 0; i-- {
		if e := o.closes[i](); err == nil {
			err = e
		}
	}
	if e := own(); err == nil {
		err = e
	}
	return err
}

// Counter is a number that goes up. It belongs to its subtask's goroutine.
type Counter struct{ value float64 }

// Add adds n.
func (c *Counter) Add(n float64) { c.value += n }
