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
		for tries := 1; ; tries++ {
			if _, err := r.settledJob(ctx); err != nil {
				return err
			}
			r.brokenAt = time.Now()
			_, err := r.cluster.command(ctx, "rescale", "--rest", r.cluster.rest(), r.job, "--parallelism", fmt.Sprint(to))
			if err == nil {
				r.width = to
				return nil
			}
			if time.Now().After(end) {
				return err
			}
			if tries == 1 {
				r.cfg.Log("    %v", err)
			}
			if err := r.pause(ctx, 200*time.Millisecond); err != nil {
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
	what, to := r.version(step)
	return what, func() error {
		if _, err := r.settledJob(ctx); err != nil {
			return err
		}
		r.brokenAt = time.Now()
		path, err := r.cluster.command(ctx, "stop", "--rest", r.cluster.rest(), r.job)
		if err != nil {
			return err
		}
		if path == "" {
			return errors.New("stop printed no savepoint")
		}
		r.binary, r.width = r.cfg.Binaries.Upgraded, to
		return r.submit(ctx, path)
	}, nil
}

// version prepares an upgrade.
func (r *run) version(step Step) (what string, to int) {
	if step.Run != nil {
		r.cfg.Run = step.Run
	}
	if r.cfg.Tiered {
		r.tiered = r.rng.IntN(2) == 0
	}
	to = r.another(step)
	what = fmt.Sprintf("%d to %d", r.width, to)
	if r.binary != r.cfg.Binaries.Upgraded {
		what += ", version 2"
	}
	return what, to
}

// upgradeAmongKills does the same as upgrade while processes are killed, and what
// somebody would do to whom the commands fail: look, and try again.
func (r *run) upgradeAmongKills(ctx context.Context, step Step) (string, func() error, error) {
	what, to := r.version(step)
	return what, func() error {
		if _, err := r.settledJob(ctx); err != nil {
			return err
		}
		moved := make(chan error, 1)
		go func() { moved <- r.move(ctx, to) }()
		for n := 1 + r.rng.IntN(4); n > 0; n-- {
			select {
			case err := <-moved:
				return err
			case <-time.After(r.between(0, 500*time.Millisecond)):
			}
			r.killAny()
			r.brokenAt = time.Now()
		}
		err := <-moved
		if err == nil {
			err = r.awaitProcesses(ctx)
		}
		return err
	}, nil
}

// move stops the job and starts the other version, whatever breaks meanwhile.
func (r *run) move(ctx context.Context, to int) error {
	old := r.job
	path := ""
	err := eventually(ctx, 2*r.cfg.Patience, "the job has stopped with a savepoint", func() (bool, string) {
		var err error
		if path, err = r.cluster.command(ctx, "stop", "--rest", r.cluster.rest(), old); err == nil && path != "" {
			return true, ""
		}
		// It may have stopped all the same.
		d, jobErr := r.cluster.job(ctx, old)
		if jobErr == nil && d.ended() {
			path, jobErr = r.cluster.terminalSavepoint(ctx, old)
			return jobErr == nil, fmt.Sprintf("%v, %v", d, jobErr)
		}
		return false, fmt.Sprintf("%v; %v, %v", err, d, jobErr)
	})
	if err != nil {
		return err
	}
	r.binary, r.width = r.cfg.Binaries.Upgraded, to
	return eventually(ctx, 2*r.cfg.Patience, "the job has started from "+path, func() (bool, string) {
		err := r.submit(ctx, path)
		if err == nil {
			return true, ""
		}
		// It may have started all the same; a second one would be a fork, with output
		// of its own. Only a job manager that answers knows.
		var jobs []string
		if findErr := eventually(ctx, r.cfg.Patience, "the job manager answers", func() (bool, string) {
			var askErr error
			jobs, askErr = r.cluster.alive(ctx)
			return askErr == nil, fmt.Sprint(askErr)
		}); findErr != nil {
			return false, findErr.Error()
		}
		if len(jobs) == 1 {
			r.job = jobs[0]
			return true, ""
		}
		return false, fmt.Sprintf("%v; jobs %v", err, jobs)
	})
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
