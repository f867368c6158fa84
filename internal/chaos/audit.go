//go:build linux

package chaos

import (
	"context"
	"fmt"
	"time"

	"github.com/millrace/millrace/internal/chaos/ledger"
	"github.com/millrace/millrace/internal/chaos/outlet"
)

// auditor is the goroutine that owns the checker: it takes the input as it is
// read and the commits as they come.
type auditor struct {
	checker *ledger.Checker
	inputs  chan told
	commits chan commit
	asks    chan func()
	failed  chan error // of one place
	held    []commit   // commits that are ahead of the reader of the input
	since   time.Time  // when the first of them came
}

// told is what the reader of the input has seen: records of a shard, or that a
// child begins behind its parents.
type told struct {
	shard   int
	parents []int
	records []ledger.Record
}

// commit is what became visible at once, and when.
type commit struct {
	at                time.Time
	epoch, checkpoint uint64
	rows              []ledger.Row
	inFlight          bool // the checkpoint holds records too
}

func newAuditor(c *ledger.Checker) *auditor {
	return &auditor{checker: c, inputs: make(chan told, 64), commits: make(chan commit, 1024), asks: make(chan func()), failed: make(chan error, 1)}
}

func (a *auditor) fail(err error) {
	select {
	case a.failed <- err:
	default:
	}
}

// readerLag is how long a commit may be ahead of the reader of the input.
const readerLag = 60 * time.Second

// run ends with ctx, or after the first failure.
func (a *auditor) run(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case t := <-a.inputs:
			if len(t.parents) > 0 {
				if err := a.checker.Child(t.shard, t.parents...); err != nil {
					a.fail(err)
					return
				}
			}
			for _, r := range t.records {
				if err := a.checker.Input(t.shard, r); err != nil {
					a.fail(err)
					return
				}
			}
		case c := <-a.commits:
			if len(a.held) == 0 {
				a.since = time.Now()
			}
			a.held = append(a.held, c)
		case f := <-a.asks:
			f()
		case <-tick.C:
			if len(a.held) > 0 && time.Since(a.since) > readerLag {
				a.fail(fmt.Errorf("made up, or double: checkpoint %d of epoch %d commits entries that the input does not hold", a.held[0].checkpoint, a.held[0].epoch))
				return
			}
		}
		for len(a.held) > 0 && a.checker.Knows(a.held[0].rows) {
			c := a.held[0]
			a.held = a.held[1:]
			a.since = time.Now()
			if err := a.checker.Commit(c.rows, c.inFlight); err != nil {
				a.fail(fmt.Errorf("checkpoint %d of epoch %d: %w", c.checkpoint, c.epoch, err))
				return
			}
		}
	}
}

// ask runs f with the checker, beside nothing else; false when the auditor is over.
func (a *auditor) ask(ctx context.Context, f func(c *ledger.Checker)) bool {
	done := make(chan struct{})
	select {
	case a.asks <- func() { f(a.checker); close(done) }:
		<-done
		return true
	case <-time.After(10 * time.Second):
		return false
	case <-ctx.Done():
		return false
	}
}

// caughtUp says whether so many entries have been read and all of them committed.
func (a *auditor) caughtUp(ctx context.Context, put uint64) (ok bool, state string) {
	told, waiting := uint64(0), 0
	ok = a.ask(ctx, func(c *ledger.Checker) { told, waiting = c.Told(), c.Waiting() })
	return ok && told >= put && waiting == 0, fmt.Sprintf("%d of %d are read, %d are not committed", told, put, waiting)
}

// settled says whether nothing waits any more.
func (a *auditor) settled(ctx context.Context) (ok bool, waiting int) {
	a.ask(ctx, func(c *ledger.Checker) { waiting, ok = c.Waiting(), len(a.held) == 0 })
	return ok && waiting == 0, waiting
}

// rowsOf decodes the parts of a batch.
func rowsOf(b outlet.Batch) ([]ledger.Row, error) {
	var rows []ledger.Row
	for _, part := range b.Parts {
		for len(part) > 0 {
			r, err := ledger.DecodeRow(part[:min(ledger.RowSize, len(part))])
			if err != nil {
				return nil, err
			}
			rows = append(rows, r)
			part = part[ledger.RowSize:]
		}
	}
	return rows, nil
}
