package watermark

import "github.com/millrace/millrace/runtime/batch"

// Combiner is event time at a task: the least watermark of its active input
// channels, over all its inputs. Idle channels are left out; while all are
// idle time stands still.
type Combiner struct {
	times   []int64
	idle    []bool
	active  int
	current int64
}

// NewCombiner returns a Combiner over channels that are all active and have
// seen no watermark.
func NewCombiner(channels int) *Combiner {
	c := &Combiner{times: make([]int64, channels), idle: make([]bool, channels), active: channels, current: batch.NoTime}
	for i := range c.times {
		c.times[i] = batch.NoTime
	}
	return c
}

// Current is the watermark of the task, batch.NoTime at first.
func (c *Combiner) Current() int64 { return c.current }

// Idle says whether all channels are idle.
func (c *Combiner) Idle() bool { return c.active == 0 }

// SetWatermark tells of a watermark on a channel and says whether Current
// rose. One that is not above the channel's last changes nothing.
func (c *Combiner) SetWatermark(channel int, t int64) bool {
	was := c.times[channel]
	if t <= was {
		return false
	}
	c.times[channel] = t
	if c.idle[channel] || was > c.current {
		// It was not the one that holds time back.
		return false
	}
	return c.advance()
}

// SetIdle leaves a channel out, or takes it back in, and says whether Current
// rose. A channel that comes back behind the others holds time where it is
// until it has caught up: Current does not fall.
func (c *Combiner) SetIdle(channel int, idle bool) bool {
	if c.idle[channel] == idle {
		return false
	}
	c.idle[channel] = idle
	if idle {
		c.active--
	} else {
		c.active++
	}
	return c.advance()
}

func (c *Combiner) advance() bool {
	if c.active == 0 {
		return false
	}
	least := int64(batch.EndOfTime)
	for i, t := range c.times {
		if !c.idle[i] {
			least = min(least, t)
		}
	}
	if least <= c.current {
		return false
	}
	c.current = least
	return true
}
