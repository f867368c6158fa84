//go:build linux

package chaos

import (
	"context"
	"fmt"
	"time"
)

// faults makes one fault after the other, each at a random moment after the job
// has recovered from the last.
func (r *run) faults(ctx context.Context) error {
	if r.cfg.Entries > 0 && len(r.cfg.Plan) == 0 {
		return nil // a calm run
	}
	for n := range r.cfg.Faults {
		if r.cfg.Duration > 0 && time.Since(r.began) > r.cfg.Duration || r.cfg.Kills > 0 && r.kills >= r.cfg.Kills {
			return nil
		}
		var step Step
		if len(r.cfg.Plan) > 0 {
			step = r.cfg.Plan[n]
		} else {
			step.Kind = r.cfg.draw(r.rng)
		}
		if err := r.pause(ctx, time.Duration(r.rng.Int64N(int64(r.cfg.Settle)))); err != nil {
			return err
		}
		if err := r.fault(ctx, n, step); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// fault makes one and waits until commits come again.
func (r *run) fault(ctx context.Context, n int, step Step) error {
	k := step.Kind
	recipe, err := recipeOf(k)
	if err != nil {
		return err
	}
	if !recipe.able(&r.cfg) {
		return fmt.Errorf("fault %d: this run cannot make %q: it takes the proxy, the store or a binary that the run does not have", n, k)
	}
	m := r.report.of(k)
	m.Count++
	epoch := r.mark()
	at, kills := time.Now(), r.kills
	r.brokenAt = time.Time{}
	defer func() { m.Kills += r.kills - kills }()
	what, heal, err := recipe.make(r, ctx, step)
	r.history = append(r.history, fmt.Sprintf("%s %3d %s: %s", at.UTC().Format("15:04:05.000"), n, k, what))
	if err != nil {
		return fmt.Errorf("fault %d, %s: %w", n, k, err)
	}
	if heal != nil {
		if err := heal(); err != nil {
			return fmt.Errorf("fault %d, %s: heal: %w", n, k, err)
		}
	}
	healed := time.Now()
	if !r.brokenAt.IsZero() {
		at = r.brokenAt // armed is not yet broken, and the last kill of several counts
	}
	// Sometimes the next one comes before the job has recovered.
	if len(r.cfg.Plan) == 0 && r.rng.IntN(5) == 0 && n+1 < r.cfg.Faults {
		return nil
	}
	after, err := r.settledJob(ctx)
	if err != nil {
		return fmt.Errorf("fault %d, %s: %w", n, k, err)
	}
	recovered, again, err := r.recovered(ctx, at, epoch)
	if resumed, ok := r.resumed(healed); ok {
		m.Resumed = append(m.Resumed, resumed)
	}
	if err != nil {
		return fmt.Errorf("fault %d, %s: %w", n, k, err)
	}
	if again {
		m.Recovered = append(m.Recovered, recovered)
		if found, ok := r.detected(ctx, at); ok {
			m.Detected = append(m.Detected, found)
		}
	}
	r.cfg.Log("%3d %-30s %-40s first commit after %v, %v", n, k, what, recovered.Round(time.Millisecond), after)
	return nil
}

// settledJob waits until the job manager answers and all tasks run.
func (r *run) settledJob(ctx context.Context) (d jobDetails, err error) {
	err = eventually(ctx, r.cfg.Patience, "all tasks run", func() (bool, string) {
		var err error
		if d, err = r.cluster.job(ctx, r.job); err != nil {
			return false, err.Error()
		}
		return d.running() || d.ended(), d.String()
	})
	if err == nil && d.ended() {
		err = fmt.Errorf("liveness: the job is %v; %s", d, r.troubles(ctx))
	}
	return d, err
}

// mark begins to note commits anew.
func (r *run) mark() (epoch uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.since = r.mu.since[:0]
	return r.mu.last.epoch
}

// recovered waits for two commits from now on, and returns the time from a fault
// to the first commit after it of an attempt later than epoch; again says that
// there was one.
func (r *run) recovered(ctx context.Context, at time.Time, epoch uint64) (took time.Duration, again bool, err error) {
	if err := r.awaitCommits(ctx, 2); err != nil {
		return 0, false, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.mu.since {
		if c.epoch > epoch && c.at.After(at) {
			return c.at.Sub(at), true, nil
		}
	}
	return 0, false, nil
}

// resumed is the time from a moment to the first commit after it.
func (r *run) resumed(at time.Time) (time.Duration, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.mu.since {
		if c.at.After(at) {
			return c.at.Sub(at), true
		}
	}
	return 0, false
}

// detected is the time from a fault to the exception that it caused.
func (r *run) detected(ctx context.Context, at time.Time) (time.Duration, bool) {
	all, err := exceptions(ctx, r.cluster.rest(), r.job)
	if err != nil {
		return 0, false
	}
	found := time.Duration(-1)
	for _, x := range all {
		if d := time.UnixMilli(x.At).Sub(at); d >= 0 && (found < 0 || d < found) {
			found = d
		}
	}
	return found, found >= 0
}
