package window

import (
	"time"

	"github.com/millrace/millrace/runtime/operator"
)

// alarm has the clock call an operator back at the earliest time that matters
// to it, for windows in processing time.
type alarm struct {
	stop func() bool
	at   int64
}

// set moves the alarm to a time in Unix milliseconds; ring runs on the task's
// goroutine.
func (a *alarm) set(ctx *operator.Context, at int64, ring func() error) {
	if a.stop != nil && a.at == at {
		return
	}
	a.off()
	a.at = at
	wait := time.Duration(at-ctx.Clock.Now().UnixMilli()) * time.Millisecond
	a.stop = ctx.Clock.AfterFunc(max(wait, 0), func() { ctx.Mail(ring) })
}

// off forgets the alarm; one that has rung already may still be in the mail.
func (a *alarm) off() {
	if a.stop != nil {
		a.stop()
		a.stop = nil
	}
}

// onClock does what is due as of the clock, in steps with the task's mail in
// between: work takes the watermark that the clock has reached, again is mailed
// while there is more, and done sets the next alarm.
func onClock(ctx *operator.Context, watermark *int64, work func() (bool, int64, error), again func() error, done func()) error {
	// Records of this very millisecond may still come.
	*watermark = max(*watermark, ctx.Clock.Now().UnixMilli()-1)
	more, _, err := work()
	switch {
	case err != nil:
		return err
	case more:
		ctx.Mail(again)
	default:
		done()
	}
	return nil
}
