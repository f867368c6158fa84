package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"github.com/millrace/millrace/bench/rig"
)

// faults kill a process, and start again what nothing else does: at once, as a
// service manager would. The job's worker dies with its task manager.
var faults = map[string]func(b *bed, worker int) error{
	"worker": func(_ *bed, worker int) error { return syscall.Kill(worker, syscall.SIGKILL) },
	"taskmanager": func(b *bed, _ int) error {
		return again(b.nodes.TaskManager)
	},
	"jobmanager": func(b *bed, _ int) error {
		return again(b.nodes.JobManager)
	},
}

func again(n *rig.Node) error {
	if err := n.Kill(); err != nil {
		return err
	}
	_, err := n.Start()
	return err
}

// patience is for one recovery.
const patience = 2 * time.Minute

// recovery kills processes, each in turn.
func recovery(ctx context.Context, cfg config, b *bed, r *rig.Report) error {
	for _, mb := range cfg.megabytes {
		keys := mb * million / accountBytes
		job, err := b.submit(ctx, cfg, "--keys", strconv.Itoa(keys), "--rate", "100000")
		if err != nil {
			return err
		}
		if err := b.filled(ctx, job, keys); err != nil {
			return err
		}
		for i := range cfg.kills * len(cfg.faults) {
			// Somewhere between two checkpoints, and after one at least.
			if err := rig.Pause(ctx, 2*time.Second+time.Duration(time.Now().UnixNano()%1000)*time.Millisecond); err != nil {
				return err
			}
			if err := b.completed(ctx, job); err != nil {
				return err
			}
			fault := cfg.faults[i%len(cfg.faults)]
			if err := kill(ctx, b, job, fault, fmt.Sprintf("%d MB, %s killed: ", mb, fault), r); err != nil {
				return err
			}
		}
		if err := b.api.Cancel(ctx, job); err != nil {
			return err
		}
	}
	return nil
}

// kill reads from the logs what follows a fault. Phases begin where the one
// before them ends, the first one and the sum with the signal.
func kill(ctx context.Context, b *bed, job, fault, prefix string, r *rig.Report) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	worker, err := b.api.Worker(ctx, job)
	if err != nil {
		return err
	}
	killed := time.Now().Truncate(time.Millisecond) // as the logs have it
	if err := faults[fault](b, worker); err != nil {
		return fmt.Errorf("kill %s: %w", fault, err)
	}
	logged := func(message string) func(rig.Event) bool {
		return func(e rig.Event) bool {
			return e.Message == message && (e.Value("job") == job || e.Value("job") == "")
		}
	}
	noticed := "attempt failed"
	if fault == "jobmanager" {
		noticed = "job manager leads"
	}
	at, started := killed, 0
	for _, phase := range []struct{ name, until string }{
		{"kill to failure noticed", noticed},
		{"then to attempt started", "attempt started"},
		{"then to worker there", "worker started"},
		{"then to state restored, all tasks running", "attempt running"},
		{"then to first result at the sink", "first output"},
	} {
		from := at
		if phase.until == "worker started" {
			if fault == "jobmanager" {
				continue // it has not gone
			}
			from = killed // while the attempt begins
		}
		e, err := b.nodes.Logged.Await(ctx, from, prefix+phase.name, logged(phase.until))
		if err != nil {
			return err
		}
		r.Took(prefix+phase.name, max(e.At.Sub(at), 0))
		at = e.At
		if pid, err := strconv.Atoi(e.Value("pid")); err == nil {
			started = pid
		}
	}
	r.Took(prefix+"kill to first result at the sink", at.Sub(killed))
	if started != 0 {
		// Other load on the machine disturbs this less than it does the clock.
		cpu, err := rig.CPUTime(started)
		if err != nil {
			return err
		}
		r.Took(prefix+"CPU time of the new worker by then", cpu)
	}
	return nil
}

// rescale changes the parallelism of a job with 1 GB of state, down and up.
func rescale(ctx context.Context, cfg config, b *bed, r *rig.Report) error {
	const mb = 1000
	keys := mb * million / accountBytes
	job, err := b.submit(ctx, cfg, "--keys", strconv.Itoa(keys), "--rate", "100000")
	if err != nil {
		return err
	}
	if err := b.filled(ctx, job, keys); err != nil {
		return err
	}
	for i := range 2 * cfg.rounds {
		if err := rig.Pause(ctx, 2*time.Second); err != nil {
			return err
		}
		to := 1 + i%2
		took, err := changeTo(ctx, b, job, to)
		if err != nil {
			return err
		}
		r.Took(fmt.Sprintf("%d MB of state: pause of a rescale to %d", mb, to), took)
	}
	return b.api.Cancel(ctx, job)
}

// changeTo rescales every vertex and returns for how long no task ran.
func changeTo(ctx context.Context, b *bed, job string, parallelism int) (time.Duration, error) {
	var needs map[string]struct {
		Parallelism struct {
			LowerBound int `json:"lowerBound"`
			UpperBound int `json:"upperBound"`
		} `json:"parallelism"`
	}
	path := "/jobs/" + job + "/resource-requirements"
	if err := b.api.Do(ctx, http.MethodGet, path, "", nil, &needs); err != nil {
		return 0, err
	}
	for id, n := range needs {
		n.Parallelism.LowerBound, n.Parallelism.UpperBound = parallelism, parallelism
		needs[id] = n
	}
	body, err := json.Marshal(needs)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := b.api.Do(ctx, http.MethodPut, path, "application/json", body, nil); err != nil {
		return 0, err
	}
	for {
		var all struct {
			Rescales []struct {
				Began   int64 `json:"began"`
				PauseMS int64 `json:"pause"`
				Failure *struct {
					Trace string `json:"stack-trace"`
				} `json:"failure-cause"`
			} `json:"rescales"`
		}
		if err := b.api.Do(ctx, http.MethodGet, "/jobs/"+job+"/recovery", "", nil, &all); err != nil {
			return 0, err
		}
		if n := len(all.Rescales); n > 0 && all.Rescales[n-1].Began >= began.UnixMilli() {
			last := all.Rescales[n-1]
			if last.Failure != nil {
				return 0, fmt.Errorf("job %s was not rescaled to %d: %s", job, parallelism, last.Failure.Trace)
			}
			return time.Duration(last.PauseMS) * time.Millisecond, nil
		}
		if time.Since(began) > time.Minute {
			return 0, fmt.Errorf("job %s was not rescaled to %d within a minute", job, parallelism)
		}
		if err := rig.Pause(ctx, 20*time.Millisecond); err != nil {
			return 0, err
		}
	}
}
