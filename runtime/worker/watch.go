package worker

import (
	"fmt"
	"strings"
	"time"

	"github.com/millrace/millrace/internal/silence"
	"github.com/millrace/millrace/runtime/task"
)

// hangTimeout is the default of JobConfig.hang_timeout_ms.
const hangTimeout = time.Minute

// slowFactor is how many times the hang timeout a task may take for one batch
// while its stack shows that it moves: 512 records at a tenth of a second each
// are slow, and no hang.
const slowFactor = 10

// watched is a task with what was seen of it.
type watched struct {
	*running
	silence silence.Watch
	// stack is where its goroutine was at a look during the present silence, and
	// next how long that is to last until another look: a look stops the process
	// for a moment.
	stack string
	next  time.Duration
}

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
	all := make([]*watched, len(a.tasks))
	for i, t := range a.tasks {
		all[i] = &watched{running: t, silence: silence.Watch{Most: 2 * every}}
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
		for _, w := range all {
			if a.hung(w, now, limit) {
				return
			}
		}
	}
}

// hung looks at a task and reports it if it hangs: for the limit in one call,
// and at the same place as half of that before; or for slowFactor times as long
// wherever it was. It cannot be made to go on: where it does not end when the
// master cancels it, its worker is killed.
func (a *attempt) hung(w *watched, now time.Time, limit time.Duration) bool {
	pulse := w.Pulse()
	quiet := w.silence.Look(now, pulse)
	if quiet == 0 {
		w.stack, w.next = "", limit/2
	}
	if quiet < w.next {
		return false
	}
	f := w.Hung()
	if w.Pulse() != pulse {
		return false // it went on while its stack was looked for
	}
	_, place, _ := strings.Cut(f.Stack, "\n") // without its state and since when
	stuck := quiet >= limit && place == w.stack || quiet >= slowFactor*limit
	w.stack, w.next = place, quiet+limit/2
	if !stuck {
		return false
	}
	e := task.ErrorOf(f, "")
	e.Message = fmt.Sprintf("operator %s, subtask %d of %s has been in one call for %v: it hangs, or takes longer than task.hang-timeout allows",
		f.Operator, f.Subtask, w.vertex.Name, quiet.Round(time.Millisecond))
	a.fail(w.vertex.ID, w.subtask, e)
	return true
}
