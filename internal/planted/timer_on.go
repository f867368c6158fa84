//go:build planted_timer

package planted

// TimerLostOnRescale: timers are not restored where key groups moved.
const TimerLostOnRescale = true
