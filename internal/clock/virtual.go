package clock

import (
	"sync"
	"time"
)

// Virtual is a clock that stands still until Advance moves it. It is safe for
// concurrent use; callbacks run on the goroutine that calls Advance, in order
// of their times.
type Virtual struct {
	mu struct {
		sync.Mutex
		now   time.Time
		calls []*virtualCall
	}
}

type virtualCall struct {
	at   time.Time
	f    func()
	done bool
}

// NewVirtual returns a clock that shows start.
func NewVirtual(start time.Time) *Virtual {
	v := &Virtual{}
	v.mu.now = start
	return v
}

// Now implements Clock.
func (v *Virtual) Now() time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.mu.now
}

// AfterFunc implements Clock.
func (v *Virtual) AfterFunc(d time.Duration, f func()) func() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	c := &virtualCall{at: v.mu.now.Add(d), f: f}
	v.mu.calls = append(v.mu.calls, c)
	return func() bool {
		v.mu.Lock()
		defer v.mu.Unlock()
		was := c.done
		c.done = true
		return !was
	}
}

// Advance moves the clock by d and runs what falls due, each callback at its
// own time, including what the callbacks themselves schedule.
func (v *Virtual) Advance(d time.Duration) {
	v.mu.Lock()
	end := v.mu.now.Add(d)
	for {
		next := v.nextLocked(end)
		if next == nil {
			break
		}
		next.done = true
		v.mu.now = next.at
		v.mu.Unlock()
		next.f()
		v.mu.Lock()
	}
	v.mu.now = end
	v.mu.Unlock()
}

// nextLocked finds the earliest call due by end and drops the finished ones.
func (v *Virtual) nextLocked(end time.Time) *virtualCall {
	var next *virtualCall
	live := v.mu.calls[:0]
	for _, c := range v.mu.calls {
		if c.done {
			continue
		}
		live = append(live, c)
		if !c.at.After(end) && (next == nil || c.at.Before(next.at)) {
			next = c
		}
	}
	clear(v.mu.calls[len(live):])
	v.mu.calls = live
	return next
}
