package dispatch

import (
	"time"

	"github.com/millrace/millrace/internal/clock"
)

// alarm rings once at the latest time that it was set to. It belongs to one
// goroutine, which also takes from ring (of capacity 1).
type alarm struct {
	clock  clock.Clock
	ring   chan struct{}
	at     time.Time // zero: not set
	cancel func() bool
}

func (a *alarm) set(at time.Time, ok bool) {
	if !ok {
		at = time.Time{}
	}
	if at.Equal(a.at) {
		return
	}
	a.stop()
	if at.IsZero() {
		return
	}
	a.at = at
	a.cancel = a.clock.AfterFunc(max(0, at.Sub(a.clock.Now())), func() { signal(a.ring) })
}

// rang notes that the ring was taken.
func (a *alarm) rang() { a.at, a.cancel = time.Time{}, nil }

func (a *alarm) stop() {
	if a.cancel != nil {
		a.cancel()
	}
	a.rang()
}
