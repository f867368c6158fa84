//go:build linux

package chaos

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/internal/failpoint"
)

func (r *run) killAtPoint(ctx context.Context, s Step) (string, func() error, error) {
	return r.atPoint(ctx, s, "kill")
}

func (r *run) stopAtPoint(ctx context.Context, s Step) (string, func() error, error) {
	return r.atPoint(ctx, s, "stop")
}

func (r *run) failAtPoint(ctx context.Context, s Step) (string, func() error, error) {
	return r.atPoint(ctx, s, "error")
}

// points are those that this run can meet.
func (c *Config) points() []string {
	if len(c.Points) > 0 {
		return c.Points
	}
	return slices.DeleteFunc(failpoint.All(), func(name string) bool {
		switch {
		case strings.HasPrefix(name, "rescale."):
			return !c.Binaries.Rescale
		case strings.HasSuffix(name, "-shard"):
			return !c.Stream // commits at a shard
		default:
			return false
		}
	})
}

// atPoint arms a point and waits until it has fired. Those of a checkpoint and of
// a commit are met by themselves; one of a restore is met by nobody until
// something fails, one of a rescale until there is one.
func (r *run) atPoint(ctx context.Context, step Step, kind string) (string, func() error, error) {
	names := r.cfg.points()
	name := names[r.rng.IntN(len(names))]
	rare := strings.HasPrefix(name, "restore.") || strings.HasPrefix(name, "rescale.")
	hit := 1 + r.rng.IntN(4)
	if rare {
		hit = 1 + r.rng.IntN(2)
	}
	spec := fmt.Sprintf("%s=%s@%d", name, kind, hit)
	if step.Points != "" {
		name, spec, rare = step.Points, step.Points, false
	}
	if err := r.cluster.arm(spec); err != nil {
		return spec, nil, err
	}
	return spec, func() error {
		met, err := false, error(nil)
		if !rare {
			met, err = r.awaitFired(ctx, time.Second)
		}
		// An error leaves no trace by which it could be told that it came.
		for try := 0; !met && err == nil && try < 3 && (rare || kind != "error"); try++ {
			if err = r.provoke(ctx, name); err == nil {
				met, err = r.awaitFired(ctx, time.Second)
			}
		}
		if err != nil {
			return err
		}
		if kind == "stop" && met {
			err = r.pause(ctx, r.between(stopFor/2, stopFor*3/2))
		}
		// It may fire until it is disarmed.
		if at, fired := r.cluster.disarm(); fired {
			r.brokenAt = at
			r.report.Fired[name]++
			if kind == "kill" {
				r.kills++
			}
		}
		r.goOn()
		if err != nil {
			return err
		}
		return r.awaitProcesses(ctx)
	}, nil
}

// awaitFired waits for the armed point to have killed or stopped a process.
func (r *run) awaitFired(ctx context.Context, most time.Duration) (bool, error) {
	for end := time.Now().Add(most); ; {
		if r.cluster.fired() {
			return true, nil
		}
		if time.Now().After(end) {
			return false, nil
		}
		if err := r.pause(ctx, 5*time.Millisecond); err != nil {
			return false, err
		}
	}
}

// provoke makes the job take the steps that a point is among.
func (r *run) provoke(ctx context.Context, name string) error {
	if strings.HasPrefix(name, "rescale.") {
		r.requestRescale(ctx, r.another(Step{}))
		return nil
	}
	pid, err := r.worker(ctx, r.taskManager())
	if err != nil {
		return err
	}
	r.brokenAt = time.Now()
	r.killPID(pid)
	return nil
}
