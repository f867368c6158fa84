package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/millrace/millrace/bench/rig"
)

const million = 1_000_000

// checkpoints compares the throughput with and without them, in turns, and
// looks at what they take. Half of a round's measure is CPU time, which other
// load on the machine disturbs less than it does the clock. Few accounts are the
// common case, a state that is small beside what goes through it; of a million
// that are updated at random nearly every page changes between two checkpoints.
func checkpoints(ctx context.Context, cfg config, b *bed, r *rig.Report) error {
	for _, keys := range []int{10_000, million} {
		name := strconv.Itoa(keys) + " accounts"
		for range cfg.rounds {
			with, err := speed(ctx, cfg, b, r, keys, "1s")
			if err != nil {
				return err
			}
			without, err := speed(ctx, cfg, b, r, keys, "0")
			if err != nil {
				return err
			}
			r.Add(name+": updates, a checkpoint a second", "M/s", with.wall/million)
			r.Add(name+": updates without checkpoints", "M/s", without.wall/million)
			r.Add(name+": cost of checkpoints, by the clock", "%", 100*(1-with.wall/without.wall))
			r.Add(name+": cost of checkpoints, by CPU time of the worker", "%", 100*(1-with.cpu/without.cpu))
		}
	}
	return nil
}

// rates are records a second, of time and of CPU time.
type rates struct{ wall, cpu float64 }

func speed(ctx context.Context, cfg config, b *bed, r *rig.Report, keys int, interval string) (rates, error) {
	const span = 12 * time.Second
	name := strconv.Itoa(keys) + " accounts: "
	job, err := b.submit(ctx, cfg, "--keys", strconv.Itoa(keys), "--checkpoint-interval", interval)
	if err != nil {
		return rates{}, err
	}
	for n := int64(0); n < 3*int64(keys); { // the table is full, its pages warm
		if n, err = b.written(ctx, job); err != nil {
			return rates{}, err
		}
		if err := rig.Pause(ctx, 100*time.Millisecond); err != nil {
			return rates{}, err
		}
	}
	pid, err := b.api.Worker(ctx, job)
	if err != nil {
		return rates{}, err
	}
	from, err := b.written(ctx, job)
	if err != nil {
		return rates{}, err
	}
	cpu, err := rig.CPUTime(pid)
	if err != nil {
		return rates{}, err
	}
	began := time.Now()
	seen, written, err := b.watch(ctx, job, span)
	if err != nil {
		return rates{}, err
	}
	to, err := b.written(ctx, job)
	if err != nil {
		return rates{}, err
	}
	took := time.Since(began)
	after, err := rig.CPUTime(pid)
	if err != nil {
		return rates{}, err
	}
	for _, c := range seen {
		if c.Status != "COMPLETED" {
			return rates{}, fmt.Errorf("checkpoint %d of job %s is %s: %s", c.ID, job, c.Status, c.Failure)
		}
		r.Add(name+"checkpoint at full speed, trigger to complete", "ms", float64(c.DurationMS))
		r.Add(name+"its bytes written", "MB", float64(c.Written)/1e6)
		r.Add(name+"the state's bytes", "MB", float64(c.State)/1e6)
	}
	if interval != "0" {
		left, err := b.objects(job)
		if err != nil {
			return rates{}, err
		}
		bytes := int64(0)
		for _, n := range left {
			bytes += n
		}
		r.Add(name+"objects of the job in the bucket", "", float64(len(left)))
		r.Add(name+"bytes of these objects", "MB", float64(bytes)/1e6)
		r.Add(name+"objects written, a checkpoint", "", float64(written)/float64(max(len(seen), 1)))
	}
	n := float64(to - from)
	return rates{n / took.Seconds(), n / (after - cpu).Seconds()}, b.api.Cancel(ctx, job)
}

// backpressure looks at checkpoints behind a slow sink.
func backpressure(ctx context.Context, cfg config, b *bed, r *rig.Report) error {
	for _, c := range []struct {
		name string
		args []string
	}{
		// About a tenth of what the job gives without the sink's wait.
		{"every update to a sink that takes 2 × 100,000/s", []string{"--keys", "100000", "--every", "1", "--sink-rate", "100000"}},
		{"every update to a sink that takes 2 × 1,000/s", []string{"--keys", "100000", "--every", "1", "--sink-rate", "1000"}},
		{"windows of 50,000 keys to a sink that takes 2 × 5,000/s", []string{"--keys", "50000", "--window", "1s", "--per-second", "100000", "--sink-rate", "5000"}},
	} {
		job, err := b.submit(ctx, cfg, c.args...)
		if err != nil {
			return err
		}
		if err := rig.Pause(ctx, 5*time.Second); err != nil {
			return err
		}
		seen, _, err := b.watch(ctx, job, time.Duration(cfg.rounds)*6*time.Second)
		if err != nil {
			return err
		}
		for _, k := range seen {
			if k.Status != "COMPLETED" {
				r.Add("checkpoints that failed: "+c.name, "", 1)
				continue
			}
			r.Add("checkpoint, "+c.name, "ms", float64(k.DurationMS))
		}
		if err := b.api.Cancel(ctx, job); err != nil {
			return err
		}
	}
	return nil
}
