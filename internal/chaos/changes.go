//go:build linux

package chaos

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// rescale changes the parallelism of the running job. Should a fault that is not
// yet over come in between, it goes back to what it was, and is asked for again.
func (r *run) rescale(ctx context.Context, step Step) (string, func() error, error) {
	to := r.another(step)
	what := fmt.Sprintf("%d to %d", r.width, to)
	return what, func() error {
		end := time.Now().Add(r.cfg.Patience)
		for {
			if _, err := r.settledJob(ctx); err != nil {
				return err
			}
			_, err := r.cluster.command(ctx, "rescale", "--rest", r.cluster.rest(), r.job, "--parallelism", fmt.Sprint(to))
			if err == nil {
				r.width = to
				return nil
			}
			if time.Now().After(end) {
				return err
			}
			r.cfg.Log("    %v", err)
			if err := r.pause(ctx, 100*time.Millisecond); err != nil {
				return err
			}
		}
	}, nil
}

// requestRescale asks for another parallelism and does not wait for it: what is
// about to break may well refuse it.
func (r *run) requestRescale(ctx context.Context, to int) {
	if err := patch(ctx, r.cluster.rest(), "/jobs/"+r.job+"/rescaling", map[string]int{"parallelism": to}); err != nil {
		r.cfg.Log("    rescale to %d: %v", to, err)
		return
	}
	r.width = to
}

// upgrade stops the job with a savepoint and starts another version of its binary
// from it, at another parallelism.
func (r *run) upgrade(ctx context.Context, step Step) (string, func() error, error) {
	if step.Run != nil {
		r.cfg.Run = step.Run
	}
	if r.cfg.Tiered {
		r.tiered = r.rng.IntN(2) == 0
	}
	to := r.another(step)
	next := r.cfg.Binaries.Upgraded
	what := fmt.Sprintf("%d to %d, version 2", r.width, to)
	if r.binary == next {
		what = fmt.Sprintf("%d to %d", r.width, to)
	}
	return what, func() error {
		if _, err := r.settledJob(ctx); err != nil {
			return err
		}
		path, err := r.cluster.command(ctx, "stop", "--rest", r.cluster.rest(), r.job)
		if err != nil {
			return err
		}
		if path == "" {
			return errors.New("stop printed no savepoint")
		}
		r.binary, r.width = next, to
		return r.submit(ctx, path)
	}, nil
}

// another is a parallelism to change to.
func (r *run) another(step Step) int {
	if step.To > 0 {
		return step.To
	}
	return 1 + (r.width+r.rng.IntN(max(1, r.widest()-1)))%r.widest()
}

// widest is the highest parallelism at which one task manager can be away.
func (r *run) widest() int { return max(1, (r.cfg.TaskManagers-1)*r.cfg.Slots) }
