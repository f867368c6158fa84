package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/bench/rig"
)

// early is how many flights are in the stream before a job is submitted: the
// first week and a bit.
const early = 2000

// round measures everything but throughput once, on a cluster of its own.
func round(ctx context.Context, cfg config, flights []flight, r *rig.Report) error {
	ctx, cancel := context.WithTimeout(ctx, cfg.idle+2*time.Minute)
	defer cancel()
	return on(cfg, r, func(c *rig.Cluster) error {
		if cfg.idle > 0 {
			if err := rig.Pause(ctx, cfg.idle); err != nil {
				return err
			}
			rss, err := c.Resident()
			if err != nil {
				return err
			}
			r.Add("idle", "MB", float64(rss)/1e6)
		}
		k := openKinesis(c.Kinesis)
		if err := create(ctx, k, "flights", 4); err != nil {
			return fmt.Errorf("create stream: %w", err)
		}
		if err := put(ctx, k, "flights", flights[:early]); err != nil {
			return fmt.Errorf("put records: %w", err)
		}
		jar, err := firstRun(ctx, cfg, c, k, r)
		if err != nil {
			return err
		}
		return secondRun(ctx, cfg, c, k, jar, flights, r)
	})
}

// on calls f with a new cluster, and ends it.
func on(cfg config, r *rig.Report, f func(*rig.Cluster) error) (err error) {
	folder, err := os.MkdirTemp("", "millrace-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	if err := probe(folder, r); err != nil {
		return err
	}
	level := "warn"
	if cfg.verbose {
		level = "debug"
	}
	c, err := rig.Start(cfg.millrace, folder, level)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, c.Stop())
		if err != nil || cfg.verbose {
			fmt.Fprintf(os.Stderr, "millrace up logged:\n%s", c.Log.String())
		}
	}()
	r.Took("ready", c.Ready)
	return f(c)
}

// probe measures the disk, which everything durable waits for.
func probe(folder string, r *rig.Report) error {
	f, err := os.Create(filepath.Join(folder, "probe"))
	if err != nil {
		return err
	}
	defer f.Close()
	for range 20 {
		if _, err := f.Write(make([]byte, 4096)); err != nil {
			return err
		}
		began := time.Now()
		if err := f.Sync(); err != nil {
			return err
		}
		r.Took("fsync of 4 KiB, for comparison", time.Since(began))
	}
	return nil
}

// firstRun uploads the binary and runs it until its first output is seen.
func firstRun(ctx context.Context, cfg config, c *rig.Cluster, k *kinesis.Client, r *rig.Report) (jar string, err error) {
	api := rig.REST{Base: c.REST}
	contentType, body, err := rig.Form(cfg.job)
	if err != nil {
		return "", err
	}
	began := time.Now()
	if jar, err = api.Upload(ctx, contentType, body); err != nil {
		return "", err
	}
	job, err := api.Run(ctx, jar, "--output", "first", "--late", "first-late")
	if err != nil {
		return "", err
	}
	results := &reader{client: k, stream: "first"}
	seen, err := results.until(ctx, func([]byte) bool { return true })
	if err != nil {
		return "", err
	}
	r.Took("upload + run to first output read", seen.Sub(began))
	return jar, api.Cancel(ctx, job)
}

// secondRun runs the uploaded binary and kills its worker on the way.
func secondRun(ctx context.Context, cfg config, c *rig.Cluster, k *kinesis.Client, jar string, flights []flight, r *rig.Report) error {
	api := rig.REST{Base: c.REST}
	began := time.Now()
	job, err := api.Run(ctx, jar, "--output", "second", "--late", "second-late")
	if err != nil {
		return err
	}
	results := &reader{client: k, stream: "second"}
	seen, err := results.until(ctx, func([]byte) bool { return true })
	if err != nil {
		return err
	}
	r.Took("run to first output read", seen.Sub(began))

	sender := &sender{client: k, flights: flights, rate: cfg.rate}
	sender.sent.Store(early)
	g, gctx := errgroup.WithContext(ctx)
	sending, stop := context.WithCancel(gctx)
	g.Go(func() error { return sender.run(sending) })
	g.Go(func() error {
		defer stop()
		return crash(gctx, api, job, sender, results, r)
	})
	if err := g.Wait(); err != nil {
		return err
	}
	return api.Cancel(ctx, job)
}

// crash kills a job's worker and reports how the job comes back.
func crash(ctx context.Context, api rig.REST, job string, s *sender, results *reader, r *rig.Report) error {
	// Event time moves with the steady input now.
	at := s.latest()
	if _, err := results.until(ctx, func(b []byte) bool { return newAfter(b, at.Add(48*time.Hour)) }); err != nil {
		return err
	}
	pid, err := api.Worker(ctx, job)
	if err != nil {
		return err
	}
	killed := time.Now()
	at = s.latest()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill worker %d: %w", pid, err)
	}
	seen, err := results.until(ctx, func(b []byte) bool { return newAfter(b, at) })
	if err != nil {
		return err
	}
	rec, err := api.Recovered(ctx, job, killed)
	if err != nil {
		return err
	}
	for _, step := range []struct {
		name string
		at   int64
	}{
		{"kill to failure noticed", rec.Failed}, {"kill to all tasks running", rec.Restarted},
		{"kill to first record at the sink operator", rec.FirstOutput}, {"kill to first commit of new records", rec.Visible},
	} {
		r.Took(step.name, time.UnixMilli(step.at).Sub(killed.Truncate(time.Millisecond)))
	}
	r.Took("kill to first new record read", seen.Sub(killed))
	return nil
}

// sender sends flights at a steady rate.
type sender struct {
	client  *kinesis.Client
	flights []flight
	rate    int
	// sent counts flights given to the stream, those under way included.
	sent atomic.Int64
}

// latest is the latest departure among the flights sent.
func (s *sender) latest() time.Time {
	var at time.Time
	for _, f := range s.flights[:s.sent.Load()] {
		if f.scheduled.After(at) {
			at = f.scheduled
		}
	}
	return at
}

// run sends a piece each 25 ms until ctx ends.
func (s *sender) run(ctx context.Context) error {
	piece := max(1, s.rate/40)
	tick := time.NewTicker(time.Second * time.Duration(piece) / time.Duration(s.rate))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		from := int(s.sent.Load())
		to := min(from+piece, len(s.flights))
		if from == to {
			return errors.New("all flights are sent and the job has not recovered: lower --rate")
		}
		s.sent.Store(int64(to))
		if err := put(ctx, s.client, "flights", s.flights[from:to]); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("put records: %w", err)
		}
	}
}
