package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/millrace/millrace/bench/rig"
)

// throughput has the job count many flights that are there already.
func throughput(ctx context.Context, cfg config, flights []flight, r *rig.Report) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	return on(cfg, r, func(c *rig.Cluster) error {
		api, k := rig.REST{Base: c.REST}, openKinesis(c.Kinesis)
		if err := create(ctx, k, "flights", 4); err != nil {
			return fmt.Errorf("create stream: %w", err)
		}
		began := time.Now()
		if err := put(ctx, k, "flights", repeated(flights, cfg.records)); err != nil {
			return fmt.Errorf("put records: %w", err)
		}
		r.Add("PutRecords of 500, one call at a time", "records/s", perSecond(cfg.records, time.Since(began)))
		contentType, body, err := rig.Form(cfg.job)
		if err != nil {
			return err
		}
		jar, err := api.Upload(ctx, contentType, body)
		if err != nil {
			return err
		}
		before, err := rig.CPUTime(c.PID())
		if err != nil {
			return err
		}
		began = time.Now()
		job, err := api.Run(ctx, jar)
		if err != nil {
			return err
		}
		worker, err := drain(ctx, api, job)
		if err != nil {
			return err
		}
		took := time.Since(began)
		after, err := rig.CPUTime(c.PID())
		if err != nil {
			return err
		}
		r.Add("flights counted, run to the end of stop --drain", "records/s", perSecond(cfg.records, took))
		r.Add("the same per second of the worker's CPU time", "records/s", perSecond(cfg.records, worker))
		r.Add("the same per second of CPU time of worker and up", "records/s", perSecond(cfg.records, worker+after-before))
		return nil
	})
}

func perSecond(n int, d time.Duration) float64 { return float64(n) / d.Seconds() }

// drain stops a job with --drain and returns the CPU time that its worker had
// used when last seen.
func drain(ctx context.Context, api rig.REST, job string) (time.Duration, error) {
	if err := api.Wait(ctx, job, "RUNNING"); err != nil {
		return 0, err
	}
	pid, err := api.Worker(ctx, job)
	if err != nil {
		return 0, err
	}
	body, err := json.Marshal(map[string]any{"drain": true})
	if err != nil {
		return 0, err
	}
	if err := api.Do(ctx, http.MethodPost, "/jobs/"+job+"/stop", "application/json", body, nil); err != nil {
		return 0, err
	}
	ended := make(chan error, 1)
	go func() { ended <- api.Wait(ctx, job, "FINISHED") }()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	var used time.Duration
	for {
		if now, err := rig.CPUTime(pid); err == nil {
			used = now // an error is its end
		}
		select {
		case err := <-ended:
			return used, err
		case <-look.C:
		}
	}
}
