//go:build linux

package chaos

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"time"
)

// stopFor is longer than it takes to give up a process that does not answer.
const stopFor = 3500 * time.Millisecond

// taskManager draws one.
func (r *run) taskManager() *process { return r.cluster.tms[r.rng.IntN(len(r.cluster.tms))] }

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
	if err != nil {
		d, jobErr := r.cluster.job(ctx, r.job)
		err = fmt.Errorf("%w; job %v, %v; %s", err, d, jobErr, r.troubles(ctx))
	}
	return pid, err
}

// killPID ends a process that the run did not start itself, and counts it where it
// had not ended by itself meanwhile.
func (r *run) killPID(pid int) {
	if !alive(pid) || syscall.Kill(pid, syscall.SIGKILL) != nil {
		return
	}
	r.kills++
	for end := time.Now().Add(time.Second); alive(pid) && time.Now().Before(end); {
		time.Sleep(time.Millisecond) // else it might be found and counted again
	}
}

func (r *run) kill(p *process) {
	if p.kill() {
		r.kills++
	}
}

func (r *run) killWorker(ctx context.Context, _ Step) (string, func() error, error) {
	tm := r.taskManager()
	pid, err := r.worker(ctx, tm)
	if err != nil {
		return "", nil, err
	}
	r.killPID(pid)
	return fmt.Sprintf("%d of %s", pid, tm.name), nil, nil
}

func (r *run) killTaskManager(ctx context.Context, _ Step) (string, func() error, error) {
	tm := r.taskManager()
	r.kill(tm)
	return tm.name, func() error { return tm.awaitReady(ctx) }, nil
}

func (r *run) killJobManager(ctx context.Context, _ Step) (string, func() error, error) {
	r.kill(r.cluster.jm)
	return "", func() error { return r.cluster.jm.awaitReady(ctx) }, nil
}

// killSeveral kills processes while the job recovers from the last kill, and
// sometimes while it is rescaled too.
func (r *run) killSeveral(ctx context.Context, _ Step) (string, func() error, error) {
	var names []string
	if r.cfg.Binaries.Rescale && r.rng.IntN(4) == 0 {
		to := r.another(Step{})
		names = append(names, fmt.Sprintf("rescale to %d", to))
		r.requestRescale(ctx, to)
	}
	for n := 2 + r.rng.IntN(4); n > 0; n-- {
		names = append(names, r.killAny())
		r.brokenAt = time.Now()
		if n > 1 {
			if err := r.pause(ctx, r.between(0, 400*time.Millisecond)); err != nil {
				return "", nil, err
			}
		}
	}
	return strings.Join(names, ", "), func() error { return r.awaitProcesses(ctx) }, nil
}

// killAll kills every process, as a machine does that stops.
func (r *run) killAll(ctx context.Context, _ Step) (string, func() error, error) {
	before := r.kills
	var workers []int
	for _, tm := range r.cluster.tms {
		workers = append(workers, tm.workers()...)
	}
	for _, pid := range workers {
		r.killPID(pid)
	}
	for _, p := range r.cluster.all() {
		r.kill(p)
	}
	return fmt.Sprintf("%d processes", r.kills-before), func() error { return r.awaitProcesses(ctx) }, nil
}

// killAny kills a process of any kind that there is, and says which.
func (r *run) killAny() string {
	at := r.rng.IntN(8)
	if at == 0 {
		r.kill(r.cluster.jm)
		return "jm"
	}
	i := r.rng.IntN(len(r.cluster.tms))
	tm := r.cluster.tms[i]
	if workers := tm.workers(); at >= 4 && len(workers) > 0 {
		pid := workers[r.rng.IntN(len(workers))]
		r.killPID(pid)
		return fmt.Sprint(pid)
	}
	r.kill(tm)
	return fmt.Sprintf("tm%d", i+1)
}

// awaitProcesses waits until every process of the run is ready.
func (r *run) awaitProcesses(ctx context.Context) error {
	for _, p := range r.cluster.all() {
		if err := p.awaitReady(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) stopWorker(ctx context.Context, _ Step) (string, func() error, error) {
	tm := r.taskManager()
	pid, err := r.worker(ctx, tm)
	if err != nil {
		return "", nil, err
	}
	return r.stop(ctx, fmt.Sprintf("%d of %s", pid, tm.name), pid)
}

func (r *run) stopTaskManager(ctx context.Context, _ Step) (string, func() error, error) {
	tm := r.taskManager()
	return r.stop(ctx, tm.name, tm.pid())
}

func (r *run) stopHost(ctx context.Context, _ Step) (string, func() error, error) {
	tm := r.taskManager()
	return r.stop(ctx, tm.name, append(tm.workers(), tm.pid())...)
}

func (r *run) stopJobManager(ctx context.Context, _ Step) (string, func() error, error) {
	return r.stop(ctx, "", r.cluster.jm.pid())
}

// replaceJobManager has another job manager take over while the one that leads
// stands still. When it goes on it believes to lead: it must find out, and end.
func (r *run) replaceJobManager(ctx context.Context, _ Step) (string, func() error, error) {
	old := r.cluster.jm
	old.retire()
	old.signal(syscall.SIGSTOP)
	next := r.cluster.manager(1 - old.seat)
	r.cluster.jm = next
	r.start(next)
	return fmt.Sprintf("seat %d by %d", old.seat+1, next.seat+1), func() error {
		if err := next.awaitReady(ctx); err != nil {
			return err
		}
		if err := r.pause(ctx, r.between(0, stopFor)); err != nil {
			return err
		}
		old.signal(syscall.SIGCONT)
		return eventually(ctx, r.cfg.Patience, "a job manager that was replaced steps down", func() (bool, string) {
			return old.pid() == 0, fmt.Sprintf("it wrote last: %s", old.out)
		})
	}, nil
}

// stop stops processes for longer than it takes to give them up, and then lets
// them go on.
func (r *run) stop(ctx context.Context, what string, pids ...int) (string, func() error, error) {
	long := r.between(stopFor/2, stopFor*3/2)
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
func (r *run) starve(ctx context.Context, _ Step) (string, func() error, error) {
	long := r.between(time.Second, 3*time.Second)
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
