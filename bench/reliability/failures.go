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

// recovery kills workers.
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
		for range cfg.kills {
			// Somewhere between two checkpoints.
			if err := rig.Pause(ctx, 2*time.Second+time.Duration(time.Now().UnixNano()%1000)*time.Millisecond); err != nil {
				return err
			}
			if err := kill(ctx, b, job, fmt.Sprintf("%d MB of state: ", mb), r); err != nil {
				return err
			}
		}
		if err := b.api.Cancel(ctx, job); err != nil {
			return err
		}
	}
	return nil
}

func kill(ctx context.Context, b *bed, job, prefix string, r *rig.Report) error {
	pid, err := b.api.Worker(ctx, job)
	if err != nil {
		return err
	}
	killed := time.Now()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill worker %d: %w", pid, err)
	}
	for {
		var all struct {
			Recoveries []rig.Recovery `json:"recoveries"`
		}
		if err := b.api.Do(ctx, http.MethodGet, "/jobs/"+job+"/recovery", "", nil, &all); err != nil {
			return err
		}
		for _, rec := range all.Recoveries {
			if rec.Failed < killed.UnixMilli() || rec.FirstOutput == 0 {
				continue
			}
			at := func(ms int64) time.Duration { return time.UnixMilli(ms).Sub(killed.Truncate(time.Millisecond)) }
			r.Took(prefix+"kill to failure noticed", at(rec.Failed))
			r.Took(prefix+"kill to all tasks running", at(rec.Restarted))
			r.Took(prefix+"kill to first result at the sink", at(rec.FirstOutput))
			return nil
		}
		if time.Since(killed) > time.Minute {
			return fmt.Errorf("job %s has not recovered within a minute: %+v", job, all.Recoveries)
		}
		if err := rig.Pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
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
			} `json:"rescales"`
		}
		if err := b.api.Do(ctx, http.MethodGet, "/jobs/"+job+"/recovery", "", nil, &all); err != nil {
			return 0, err
		}
		if n := len(all.Rescales); n > 0 && all.Rescales[n-1].Began >= began.UnixMilli() {
			return time.Duration(all.Rescales[n-1].PauseMS) * time.Millisecond, nil
		}
		if time.Since(began) > time.Minute {
			return 0, fmt.Errorf("job %s was not rescaled to %d within a minute", job, parallelism)
		}
		if err := rig.Pause(ctx, 20*time.Millisecond); err != nil {
			return 0, err
		}
	}
}
