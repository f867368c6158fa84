package generator

import (
	"sync"
	"time"
)

// tick is how often a throttled source looks for events that are due: all those
// of a tick come together.
const tick = time.Millisecond

// pacer wakes readers that wait for the clock, all those that are due with one
// timer. The zero value is ready.
type pacer struct {
	mu struct {
		sync.Mutex
		waiting []waiter
		timer   *time.Timer
		// rings is when the timer is going to ring, zero while it is not set.
		rings time.Time
	}
}

type waiter struct {
	due  time.Time
	wake func()
}

// wait calls wake once, at the first tick from due on. Any goroutine may call
// it.
func (p *pacer) wait(now, due time.Time, wake func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.waiting = append(p.mu.waiting, waiter{due, wake})
	p.setLocked(now, due)
}

// setLocked sees to it that the timer rings at the first tick from due on.
func (p *pacer) setLocked(now, due time.Time) {
	due = due.Truncate(tick).Add(tick)
	if !p.mu.rings.IsZero() && !due.Before(p.mu.rings) {
		return
	}
	p.mu.rings = due
	if p.mu.timer == nil {
		p.mu.timer = time.AfterFunc(due.Sub(now), p.ring)
		return
	}
	p.mu.timer.Reset(due.Sub(now))
}

func (p *pacer) ring() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.mu.rings = time.Time{}
	var next time.Time
	still := p.mu.waiting[:0]
	for _, w := range p.mu.waiting {
		switch {
		case !w.due.After(now):
			w.wake()
			continue
		case next.IsZero() || w.due.Before(next):
			next = w.due
		}
		still = append(still, w)
	}
	clear(p.mu.waiting[len(still):])
	p.mu.waiting = still
	if !next.IsZero() {
		p.setLocked(now, next)
	}
}
