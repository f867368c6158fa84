package worker

import (
	"fmt"
	"time"

	"github.com/millrace/millrace/internal/silence"
	"github.com/millrace/millrace/runtime/task"
)

// hangTimeout is the default of JobConfig.hang_timeout_ms.
const hangTimeout = time.Minute

// watch finds tasks whose mailbox does not turn, until the attempt ends. It
// goes by the machine's time, whatever clock the job has: it is about code that
// runs, or does not.
func (a *attempt) watch() {
	limit := hangTimeout
	switch ms := a.deploy.GetGraph().GetConfig().GetHangTimeoutMs(); {
	case ms < 0:
		return
	case ms > 0:
		limit = time.Duration(ms) * time.Millisecond
	}
	every := min(max(limit/10, 10*time.Millisecond), 5*time.Second)
	watches := make([]silence.Watch, len(a.tasks))
	for i := range watches {
		watches[i].Most = 2 * every
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-a.ctx.Done():
			return
		}
		now := time.Now()
		for i, t := range a.tasks {
			pulse := t.Pulse()
			if quiet := watches[i].Look(now, pulse); quiet >= limit && a.hung(t, pulse, quiet) {
				return
			}
		}
	}
}

// hung reports a task that hangs, unless it went on while its stack was looked
// for. It cannot be made to go on: where it does not end when the master cancels
// it, its worker is killed.
func (a *attempt) hung(t *running, pulse uint64, quiet time.Duration) bool {
	f := t.Hung()
	if t.Pulse() != pulse {
		return false
	}
	e := task.ErrorOf(f, "")
	e.Message = fmt.Sprintf("operator %s, subtask %d of %s has been in one call for %v: it hangs, or takes longer than task.hang-timeout allows",
		f.Operator, f.Subtask, t.vertex.Name, quiet.Round(time.Millisecond))
	a.fail(t.vertex.ID, t.subtask, e)
	return true
}
