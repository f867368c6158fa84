package operator

import "github.com/millrace/millrace/runtime/batch"

// Call is what user code may ask about the record in its hands. It is valid
// during one call of a process function.
type Call struct {
	ctx       *Context
	time      int64
	watermark int64
	sides     sides
	// ended says that the clock has run out: a timer in processing time that is
	// set now would never be called.
	ended bool
}

// Time is the event time of the record, or of the timer that fires.
func (c *Call) Time() int64 { return c.time }

// Watermark is the event time that the operator has reached.
func (c *Call) Watermark() int64 { return c.watermark }

// Ended says that a batch run calls its last timers in processing time.
func (c *Call) Ended() bool { return c.ended }

// Context is where the operator runs.
func (c *Call) Context() *Context { return c.ctx }

// EmitTo emits to a side output, at the time of the record. A tag that the
// operator did not declare has no reader; what is emitted to it is dropped.
func EmitTo[S any](c *Call, tag Tag[S], v S) {
	for _, s := range c.sides {
		if s, ok := s.(*side[S]); ok && s.name == tag.Name {
			if s.out.Attached() {
				s.emitAt(v, c.time)
			}
			return
		}
	}
}

// calls is what process operators have in common, however many inputs they have.
type calls[U any] struct {
	emitter[U]
	call Call
	to   func(U) // emitter.sink, made once
}

func (p *calls[U]) init(declared []Side) {
	p.call.sides = newSides(declared, func() *Context { return p.ctx })
	p.call.watermark = batch.NoTime
}

func (p *calls[U]) Output(tag string) any {
	if tag == "" {
		return &p.out
	}
	return p.call.sides.output(tag)
}

func (p *calls[U]) Open(ctx *Context) error {
	p.ctx, p.call.ctx, p.to = ctx, ctx, p.sink()
	p.call.sides.open()
	return nil
}

func (p *calls[U]) Watermark(t int64) (int64, error) {
	p.call.watermark = t
	return t, nil
}

func (p *calls[U]) Close() error { return nil }

// port is one input of a process operator.
type port[T, U any] struct {
	*calls[U]
	each func(*Call, T, func(U)) error
}

// Push implements Stage.
func (p *port[T, U]) Push(b *batch.Batch[T]) error {
	p.ctx.Enter()
	p.ctx.Metrics.RecordsIn += uint64(len(b.Values))
	f, to := p.each, p.to
	for i := range b.Values {
		p.time, p.call.time = b.Times[i], b.Times[i]
		if err := f(&p.call, b.Values[i], to); err != nil {
			return err
		}
	}
	if err := p.flush(); err != nil {
		return err
	}
	return p.call.sides.flush()
}

// NewProcess returns an operator that calls f for each record. f emits to the
// main output through its last argument and to side outputs with EmitTo; its
// error fails the task. It must keep neither the Call nor the argument.
func NewProcess[T, U any](f func(c *Call, v T, emit func(U)) error, declared ...Side) Operator {
	p := &process[T, U]{}
	p.in = port[T, U]{&p.calls, f}
	p.init(declared)
	return p
}

type process[T, U any] struct {
	calls[U]
	in port[T, U]
}

func (p *process[T, U]) Input(i int) any { return sole[T](i, &p.in) }
