package task

import (
	"bytes"
	"fmt"
	goruntime "runtime"
	"strconv"
	"sync/atomic"
)

// pulse shows a watcher, on another goroutine, whether the task goes on: it
// changes with every turn of the loop and whenever an operator is given
// something. That costs a store a batch.
//
// A loop that parks, or waits for room or for its second goroutine, rests:
// what it waits for may be slow, but it is not this task that hangs. In between
// it is in one call of an operator, and there only the job's code can keep it.
type pulse struct {
	turn  uint64 // the task's
	begun bool   // the task's: between the start of the loop and its end
	shown atomic.Uint64
	// goroutine is the task's number, by which its stack is found.
	goroutine atomic.Uint64
}

func (p *pulse) begin() {
	p.goroutine.Store(goroutineID())
	p.begun = true
	p.beat()
}

func (p *pulse) end() {
	p.begun = false
	p.rest()
}

func (p *pulse) beat() {
	if p.begun {
		p.turn++
		p.shown.Store(p.turn)
	}
}

func (p *pulse) rest() { p.shown.Store(0) }

// Pulse changes while the task goes on. It is 0 while the task has not begun,
// has ended, has nothing to do, or waits for room. Any goroutine may call it.
func (t *Task) Pulse() uint64 { return t.pulse.shown.Load() }

// Hung describes a task that does not go on: the operator that was
// entered last, and where the task's goroutine is. Any goroutine may call it.
func (t *Task) Hung() *Failure {
	return &Failure{
		Operator: t.current.Load().Name, Subtask: t.cfg.Subtask, Stack: stackOf(t.pulse.goroutine.Load()),
		Err: errHung,
	}
}

// Bounds of the search for a stack, and of what is told of it.
const (
	firstDump = 1 << 20
	mostDump  = 64 << 20
	mostStack = 16 << 10
)

// goroutineID is the number by which a dump of all stacks names the goroutine
// that calls. The runtime tells it in no other way; nothing depends on it but the
// text of an error.
func goroutineID() uint64 {
	var buf [64]byte
	head := buf[:goruntime.Stack(buf[:], false)]
	fields := bytes.Fields(head)
	if len(fields) < 2 {
		return 0
	}
	id, _ := strconv.ParseUint(string(fields[1]), 10, 64)
	return id
}

// stackOf finds a goroutine in a dump of all, which stops the process for a
// moment: it is for a task that is given up.
func stackOf(id uint64) string {
	size := firstDump
	for {
		buf := make([]byte, size)
		n := goruntime.Stack(buf, true)
		if n == size && size < mostDump {
			size *= 2
			continue
		}
		return cutStack(buf[:n], id)
	}
}

// cutStack takes one goroutine out of a dump.
func cutStack(dump []byte, id uint64) string {
	head := fmt.Appendf(nil, "goroutine %d [", id)
	for one := range bytes.SplitSeq(dump, []byte("\n\n")) {
		if !bytes.HasPrefix(one, head) {
			continue
		}
		if len(one) > mostStack {
			return string(one[:mostStack]) + "\n..."
		}
		return string(bytes.TrimSpace(one))
	}
	return ""
}
