package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// until looks at the cluster and shows it until done says so. It is an error
// if that takes longer than limit, or if the cluster or the job ends.
func (d *demo) until(ctx context.Context, what string, limit time.Duration, done func() (bool, error)) error {
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := d.look(ctx); err != nil {
			return d.because(ctx, err)
		}
		if ok, err := done(); ok || err != nil {
			return d.because(ctx, err)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s took longer than %v; %s%s", what, limit, strings.TrimSpace(d.board.line()), d.lastWords())
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-d.ended:
			return d.fault()
		case <-tick.C:
		}
	}
}

// because prefers the cluster's end to what followed from it.
func (d *demo) because(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	select {
	case <-d.ended:
		return d.fault()
	default:
		return err
	}
}

// look reads the streams and REST and shows what they say.
func (d *demo) look(ctx context.Context) error {
	// What was sent is read last: it is never less than what came out.
	for _, t := range []*tail{d.delays, d.late, d.flights} {
		if _, err := t.read(ctx); err != nil {
			return err
		}
	}
	now := time.Now()
	if !d.killed.IsZero() && d.rowsNew.IsZero() && d.delays.records > d.rowsThen {
		d.rowsNew = now
	}
	if d.job != "" {
		if err := d.ask(ctx); err != nil {
			return err
		}
	}
	b := &d.board
	b.elapsed, b.total, b.sent = now.Sub(d.began), d.ledger.total, d.flights.records
	b.counted, b.late, b.results = d.ledger.counted, d.ledger.late, len(d.ledger.rows)
	b.newest, b.recovery = d.ledger.newest(10), d.took()
	d.show(*b, now)
	return nil
}

// ask gets the job's state from REST.
func (d *demo) ask(ctx context.Context) error {
	var recovered recoveries
	for path, out := range map[string]any{"": &d.board.job, "/checkpoints": &d.board.cp, "/recovery": &recovered} {
		if err := d.api.get(ctx, "/jobs/"+d.job+path, out); err != nil {
			return err
		}
	}
	if n := len(recovered.All); n > 0 {
		d.recovery = recovered.All[n-1]
		if d.killed.IsZero() {
			return fmt.Errorf("the job failed before anything was killed: %s", d.recovery.Cause)
		}
	}
	switch d.board.job.State {
	case "FAILED", "CANCELED":
		why := ""
		if c := d.board.job.Cause; c != nil {
			why = ": " + c.Trace
		}
		return fmt.Errorf("job %s is %s%s", d.job, d.board.job.State, why)
	}
	return nil
}
