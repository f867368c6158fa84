//go:build linux

package chaos

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/millrace/millrace/internal/failpoint"
)

// stopFor is longer than it takes to give up a process that does not answer.
const stopFor = 3500 * time.Millisecond

// faults makes one fault after the other, each at a random moment after the job
// has recovered from the last.
func (r *run) faults(ctx context.Context) error {
	if r.cfg.Entries > 0 && len(r.cfg.Plan) == 0 {
		return nil // a calm run
	}
	kinds := r.cfg.kinds()
	for n := range r.cfg.Faults {
		if r.cfg.Duration > 0 && time.Since(r.began) > r.cfg.Duration {
			return nil
		}
		step := Step{Kind: kinds[r.rng.IntN(len(kinds))]}
		if len(r.cfg.Plan) > 0 {
			step = r.cfg.Plan[n]
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
	m := r.report.of(k)
	m.Count++
	epoch := r.mark()
	at := time.Now()
	what, heal, err := r.make(ctx, step)
	r.history = append(r.history, fmt.Sprintf("%s %3d %s: %s", at.UTC().Format("15:04:05.000"), n, k, what))
	if err != nil {
		return fmt.Errorf("fault %d, %s: %w", n, k, err)
	}
	var once error
	if heal != nil {
		once = heal()
	}
	if fired := r.firedAt; !fired.IsZero() {
		at, r.firedAt = fired, time.Time{} // armed is not yet broken
	}
	if once != nil {
		return fmt.Errorf("fault %d, %s: heal: %w", n, k, once)
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
		if c.epoch > epoch {
			return c.at.Sub(at), true, nil
		}
	}
	return 0, false, nil
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

// make makes a fault. heal ends it where it lasts.
func (r *run) make(ctx context.Context, step Step) (what string, heal func() error, err error) {
	tm := r.cluster.tms[r.rng.IntN(len(r.cluster.tms))]
	switch step.Kind {
	case KillWorker:
		pid, err := r.worker(ctx, tm)
		if err == nil {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended by itself
		}
		return fmt.Sprintf("%d of %s", pid, tm.name), nil, err
	case KillTaskManager:
		tm.kill()
		return tm.name, func() error { return tm.awaitReady(ctx) }, nil
	case KillJobManager:
		r.cluster.jm.kill()
		return "", func() error { return r.cluster.jm.awaitReady(ctx) }, nil
	case StopWorker:
		pid, err := r.worker(ctx, tm)
		if err != nil {
			return "", nil, err
		}
		return r.stop(ctx, fmt.Sprintf("%d of %s", pid, tm.name), pid)
	case StopTaskManager:
		return r.stop(ctx, tm.name, tm.pid())
	case StopHost:
		return r.stop(ctx, tm.name, append(tm.workers(), tm.pid())...)
	case StopJobManager:
		return r.stop(ctx, "", r.cluster.jm.pid())
	case FailpointKill, FailpointStop, FailpointError:
		return r.failpoint(ctx, step)
	case BucketErrors, BucketSlow, BucketReplies, BucketAway:
		return r.breakObjects(ctx, step.Kind)
	case CutLinks:
		nodes := r.proxy.nodes
		name := nodes[r.rng.IntN(len(nodes))].name
		n := r.proxy.cutNode(name)
		long := time.Duration(r.rng.Int64N(int64(stopFor)))
		return fmt.Sprintf("%d of %s, refused for %v", n, name, long.Round(time.Millisecond)), r.healAfter(ctx, long), nil
	case OneWay:
		nodes := r.proxy.nodes
		a, b := r.rng.IntN(len(nodes)), r.rng.IntN(len(nodes)-1)
		if b >= a {
			b++
		}
		r.proxy.oneWay(nodes[a].name, nodes[b].name)
		long := time.Duration(r.rng.Int64N(int64(2 * stopFor)))
		return fmt.Sprintf("%s to %s for %v", nodes[a].name, nodes[b].name, long.Round(time.Millisecond)), r.healAfter(ctx, long), nil
	case Starve:
		return r.starve(ctx)
	case Rescale:
		return r.rescale(ctx, r.another(step))
	case Upgrade:
		if step.Run != nil {
			r.cfg.Run = step.Run
		}
		return r.upgrade(ctx, r.another(step))
	}
	return "", nil, fmt.Errorf("no such fault: %s", step.Kind)
}

// worker is a worker of a task manager, or of another where it has none.
func (r *run) worker(ctx context.Context, tm *process) (pid int, err error) {
	err = eventually(ctx, r.cfg.Patience, "a worker", func() (bool, string) {
		for _, p := range append([]*process{tm}, r.cluster.tms...) {
			if all := p.workers(); len(all) > 0 {
				pid = all[r.rng.IntN(len(all))]
				return true, ""
			}
		}
		return false, "none"
	})
	return pid, err
}

// stop stops processes for longer than it takes to give them up, and then lets
// them go on.
func (r *run) stop(ctx context.Context, what string, pids ...int) (string, func() error, error) {
	long := stopFor/2 + time.Duration(r.rng.Int64N(int64(stopFor)))
	for _, pid := range pids {
		if pid != 0 {
			_ = syscall.Kill(pid, syscall.SIGSTOP) // it may have ended by itself
		}
	}
	return fmt.Sprintf("%s for %v", what, long.Round(time.Millisecond)), func() error {
		err := r.pause(ctx, long)
		for _, pid := range pids {
			if pid != 0 {
				_ = syscall.Kill(pid, syscall.SIGCONT)
			}
		}
		return err
	}, nil
}

// failpoint arms a point and waits until it has fired, or is not met.
func (r *run) failpoint(ctx context.Context, step Step) (string, func() error, error) {
	names := r.cfg.Points
	if len(names) == 0 {
		names = failpoint.All()
	}
	kind := map[Kind]string{FailpointKill: "kill", FailpointStop: "stop", FailpointError: "error"}[step.Kind]
	name := names[r.rng.IntN(len(names))]
	spec := fmt.Sprintf("%s=%s@%d", name, kind, 1+r.rng.IntN(4))
	if step.Points != "" {
		name, spec = step.Points, step.Points
	}
	if err := r.cluster.arm(spec); err != nil {
		return spec, nil, err
	}
	heal := func() error {
		// A point of a restore is met by nobody until something restores.
		if err := r.pause(ctx, 500*time.Millisecond); err != nil {
			return err
		}
		if !r.cluster.fired() {
			if pid, err := r.worker(ctx, r.cluster.tms[0]); err == nil {
				r.firedAt = time.Now()
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		for range 20 {
			if r.cluster.fired() {
				break
			}
			if err := r.pause(ctx, 50*time.Millisecond); err != nil {
				return err
			}
		}
		if kind == "stop" {
			if err := r.pause(ctx, stopFor); err != nil {
				return err
			}
			r.goOn()
		}
		if at, fired := r.cluster.disarm(); fired {
			r.firedAt = at
			r.report.Fired[name]++
		}
		r.goOn()
		for _, p := range r.cluster.all() {
			if err := p.awaitReady(ctx); err != nil {
				return err
			}
		}
		return nil
	}
	return spec, heal, nil
}

// goOn lets every process go on that stands still.
func (r *run) goOn() {
	for _, p := range r.cluster.all() {
		for _, pid := range append(p.workers(), p.pid()) {
			if pid != 0 {
				_ = syscall.Kill(pid, syscall.SIGCONT)
			}
		}
	}
}

// starve takes the processor away for a while: goroutines of the run that do
// nothing but turn.
func (r *run) starve(ctx context.Context) (string, func() error, error) {
	long := time.Second + time.Duration(r.rng.Int64N(int64(2*time.Second)))
	return long.Round(time.Millisecond).String(), func() error {
		stop := make(chan struct{})
		done := make(chan struct{})
		const hogs = 8
		for range hogs {
			go func() {
				defer func() { done <- struct{}{} }()
				for {
					select {
					case <-stop:
						return
					default:
					}
				}
			}()
		}
		err := r.pause(ctx, long)
		close(stop)
		for range hogs {
			<-done
		}
		return err
	}, nil
}

// rescale changes the parallelism of the running job.
func (r *run) rescale(ctx context.Context, to int) (string, func() error, error) {
	what := fmt.Sprintf("%d to %d", r.width, to)
	return what, func() error {
		if _, err := r.settledJob(ctx); err != nil {
			return err
		}
		if _, err := r.cluster.command(ctx, "rescale", "--rest", r.cluster.rest(), r.job, "--parallelism", fmt.Sprint(to)); err != nil {
			return err
		}
		r.width = to
		return nil
	}, nil
}

// upgrade stops the job with a savepoint and starts another version of its binary
// from it, at another parallelism.
func (r *run) upgrade(ctx context.Context, to int) (string, func() error, error) {
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
	return 1 + r.rng.IntN(r.widest())
}

// widest is the highest parallelism at which one task manager can be away.
func (r *run) widest() int { return max(1, (r.cfg.TaskManagers-1)*r.cfg.Slots) }

func (r *run) healAfter(ctx context.Context, d time.Duration) func() error {
	return func() error {
		err := r.pause(ctx, d)
		r.proxy.heal()
		return err
	}
}

// breakObjects makes the bucket fail for a while.
func (r *run) breakObjects(ctx context.Context, k Kind) (string, func() error, error) {
	before := r.objects.hits()
	r.objects.set(k)
	long := time.Second + time.Duration(r.rng.Int64N(int64(4*time.Second)))
	return long.Round(time.Millisecond).String(), func() error {
		err := r.pause(ctx, long)
		r.objects.set("")
		r.cfg.Log("    %d requests were hit", r.objects.hits()-before)
		return err
	}, nil
}
