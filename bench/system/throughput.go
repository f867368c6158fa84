package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// throughput has the job count many flights that are there already.
func throughput(ctx context.Context, cfg config, flights []flight, r *report) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	return on(cfg, r, func(c *cluster) error {
		api, k := rest{c.rest}, openKinesis(c.kinesis)
		if err := create(ctx, k, "flights", 4); err != nil {
			return fmt.Errorf("create stream: %w", err)
		}
		began := time.Now()
		if err := put(ctx, k, "flights", repeated(flights, cfg.records)); err != nil {
			return fmt.Errorf("put records: %w", err)
		}
		r.add("PutRecords of 500, one call at a time", "records/s", perSecond(cfg.records, time.Since(began)))
		contentType, body, err := form(cfg.job)
		if err != nil {
			return err
		}
		jar, err := api.upload(ctx, contentType, body)
		if err != nil {
			return err
		}
		before, err := cpuTime(c.cmd.Process.Pid)
		if err != nil {
			return err
		}
		began = time.Now()
		job, err := api.run(ctx, jar)
		if err != nil {
			return err
		}
		worker, err := drain(ctx, api, job)
		if err != nil {
			return err
		}
		took := time.Since(began)
		after, err := cpuTime(c.cmd.Process.Pid)
		if err != nil {
			return err
		}
		r.add("flights counted, run to the end of stop --drain", "records/s", perSecond(cfg.records, took))
		r.add("the same per second of the worker's CPU time", "records/s", perSecond(cfg.records, worker))
		r.add("the same per second of CPU time of worker and up", "records/s", perSecond(cfg.records, worker+after-before))
		return nil
	})
}

func perSecond(n int, d time.Duration) float64 { return float64(n) / d.Seconds() }

// drain stops a job with --drain and returns the CPU time that its worker had
// used when last seen.
func drain(ctx context.Context, api rest, job string) (time.Duration, error) {
	if err := api.wait(ctx, job, "RUNNING"); err != nil {
		return 0, err
	}
	pid, err := api.worker(ctx, job)
	if err != nil {
		return 0, err
	}
	body, err := json.Marshal(map[string]any{"drain": true})
	if err != nil {
		return 0, err
	}
	if err := api.do(ctx, http.MethodPost, "/jobs/"+job+"/stop", "application/json", body, nil); err != nil {
		return 0, err
	}
	ended := make(chan error, 1)
	go func() { ended <- api.wait(ctx, job, "FINISHED") }()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	var used time.Duration
	for {
		if now, err := cpuTime(pid); err == nil {
			used = now // an error is its end
		}
		select {
		case err := <-ended:
			return used, err
		case <-look.C:
		}
	}
}
