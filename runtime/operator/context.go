package operator

import (
	"context"
	"log/slog"

	"github.com/millrace/millrace/internal/clock"
	"github.com/millrace/millrace/runtime/keygroup"
	"github.com/millrace/millrace/runtime/state"
)

// Context is what an operator knows of where it runs. It is made by the task;
// all of it is for the task's goroutine, save Mail, Wake, Held, Fail and FirstOutput,
// which any goroutine may call.
type Context struct {
	JobID       string
	JobName     string
	Epoch       uint64
	Lineage     string
	Name        string
	UID         string
	Subtask     int
	Parallelism int
	// KeyGroups is the range of key groups that this subtask owns.
	KeyGroups keygroup.Range
	// State holds the operator's keyed state.
	State *state.Store
	Clock clock.Clock
	Log   *slog.Logger
	// ShardAddress is the task manager's shard socket; empty without one.
	ShardAddress string
	// Attempt ends when the tasks of this attempt are cancelled or finished.
	Attempt context.Context
	// Mail runs f on the task's goroutine between batches; it never blocks.
	Mail func(f func() error)
	// Wake makes the task call Work again. It is idempotent and cheap.
	Wake func()
	// Park waits until room can be received from, or the attempt ends, which is
	// an error. Time in it is back-pressure; an operator that blocks elsewhere for
	// the job's hang timeout is taken for hung.
	Park func(room <-chan struct{}) error
	// Held tells the master that a transaction holds output since the last
	// barrier; the task sends it at most once a checkpoint.
	Held func()
	// Fail fails the task; any goroutine may call it.
	Fail func(error)
	// FirstOutput tells the master that a record has reached a sink; the
	// worker sends it once an epoch.
	FirstOutput func()
	// Batch says that only the result at the end of the input counts.
	Batch bool
	// Metrics are the operator's counters.
	Metrics *Metrics

	enter func(*Context)
}

// Lifetime is the TTL of state that holds what an operator's results are made of,
// of one that was asked for: none in a batch run, for that ends with the results
// of all records.
func (c *Context) Lifetime(ttl []state.TTL) []state.TTL {
	if c.Batch {
		return nil
	}
	return ttl
}

// Metrics are plain counters, written by the task's goroutine only and copied
// by it once a second.
type Metrics struct {
	RecordsIn    uint64
	RecordsOut   uint64
	LateDropped  uint64
	DecodeErrors uint64
	// User holds counters and gauges that user code registered by name.
	User map[string]*float64
}

// Enter marks that this operator's user code runs from now on, so that a panic
// or an error is named for it. An operator calls it before a batch's loop and
// again after each Push of its own output: a store, not a lock.
func (c *Context) Enter() {
	if c.enter != nil {
		c.enter(c)
	}
}

// OnEnter sets what Enter does; the task calls it when it makes the context.
func (c *Context) OnEnter(f func(*Context)) { c.enter = f }
