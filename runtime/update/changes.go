package update

import (
	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/operator"
)

// changes collects the rows that an operator emits. The batch is reused
// without clearing it, as operators do.
type changes[R any] struct {
	ctx *operator.Context
	to  operator.Output[R]
	buf batch.Batch[R]
	// time is the event time of what is emitted.
	time      int64
	unmatched float64
}

// silent says that no change is to be emitted, for only the result counts.
func (c *changes[R]) silent() bool { return c.ctx.Batch }

func (c *changes[R]) insert(v R) { c.buf.AppendOp(batch.Insert, v, c.time) }

func (c *changes[R]) delete(v R) { c.buf.AppendOp(batch.Delete, v, c.time) }

// full hands over a batch that is full. It is called between keys: an update's
// two rows stay together.
func (c *changes[R]) full() error {
	if len(c.buf.Values) < batch.Rows {
		return nil
	}
	err := c.flush()
	c.ctx.Enter()
	return err
}

func (c *changes[R]) flush() error {
	n := len(c.buf.Values)
	if n == 0 {
		return nil
	}
	c.ctx.Metrics.RecordsOut += uint64(n)
	err := c.to.Push(&c.buf)
	c.buf.Values, c.buf.Times, c.buf.Ops = c.buf.Values[:0], c.buf.Times[:0], c.buf.Ops[:0]
	return err
}
