// Package clock is the only door to wall time in code that must also run in
// virtual time: the system's clock, and one that tests move by hand.
package clock

import "time"

// Clock tells the time and calls back later.
type Clock interface {
	Now() time.Time
	// AfterFunc calls f once, on a goroutine of its own or on the one that
	// moves a virtual clock, when d has passed. Stop has the meaning of
	// time.Timer.Stop.
	AfterFunc(d time.Duration, f func()) (stop func() bool)
}

// System is the machine's clock.
var System Clock = system{}

type system struct{}

func (system) Now() time.Time { return time.Now() }

func (system) AfterFunc(d time.Duration, f func()) func() bool {
	return time.AfterFunc(d, f).Stop
}
