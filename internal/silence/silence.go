// Package silence measures how long something has given no sign of life, by
// what the watcher itself saw.
//
// A watcher that was stopped (SIGSTOP, a suspended machine, no CPU to spare) has
// seen nothing meanwhile and must not conclude that the other one hangs: between
// two looks at most Most counts. A Watch belongs to one goroutine; it starts none
// and reads no clock.
package silence

import "time"

// Watch is one watched thing. Its zero value has seen nothing yet.
type Watch struct {
	// Most is what may count between two looks: about twice the time that the
	// watcher means to leave between them.
	Most time.Duration

	last  time.Time
	sign  uint64
	quiet time.Duration
}

// Look says how long sign has not changed, as of now. A sign of 0 is an excuse:
// what is excused is never silent.
func (w *Watch) Look(now time.Time, sign uint64) time.Duration {
	passed := min(now.Sub(w.last), w.Most)
	fresh := w.last.IsZero() || sign == 0 || sign != w.sign
	w.last, w.sign = now, sign
	if fresh {
		w.quiet = 0
	} else {
		w.quiet += max(passed, 0)
	}
	return w.quiet
}
