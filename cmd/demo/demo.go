package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"
)

// demo is one showing. One goroutine runs it from step to step; in between it
// looks at the cluster ten times a second.
type demo struct {
	config
	*screen
	*cluster
	api     rest
	ledger  *ledger
	flights *tail
	delays  *tail
	late    *tail

	job      string // id, once submitted
	board    board
	began    time.Time
	killed   time.Time // the moment before SIGKILL
	rowsThen int       // results read by then
	rowsNew  time.Time // when the next one was read
	recovery recovery
}

// demonstrate runs the whole demo and cleans up.
func demonstrate(ctx context.Context, cfg config, s *screen) (err error) {
	f, err := os.Open(cfg.input)
	if err != nil {
		return err
	}
	defer f.Close()
	l, err := readLedger(f)
	if err != nil {
		return fmt.Errorf("%s: %w", cfg.input, err)
	}
	folder, err := os.MkdirTemp("", "millrace-demo-")
	if err != nil {
		return err
	}
	d := &demo{config: cfg, screen: s, ledger: l, began: time.Now()}
	defer func() {
		if d.cluster != nil {
			err = errors.Join(err, d.stop())
		}
		if err != nil && ctx.Err() == nil {
			err = fmt.Errorf("%w\nkept for a look: %s", err, folder)
			return
		}
		err = errors.Join(err, os.RemoveAll(folder))
		if err == nil {
			s.say("exactly once: %d of %d", l.counted+l.late, l.total)
		}
	}()
	for _, step := range []func(context.Context) error{
		func(ctx context.Context) error { return d.up(ctx, folder) }, d.feed, d.drain, d.addUp,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// up starts the cluster.
func (d *demo) up(ctx context.Context, folder string) error {
	restAt, err := d.address("rest", d.config.rest)
	if err != nil {
		return err
	}
	kinesisAt, err := d.address("kinesis", d.config.kinesis)
	if err != nil {
		return err
	}
	began := time.Now()
	d.cluster, err = startCluster(ctx, d.millrace, folder, restAt, kinesisAt)
	if err != nil {
		return err
	}
	d.api = rest{base: d.cluster.rest}
	client := openKinesis(d.cluster.kinesis)
	d.flights = &tail{client: client, stream: "flights", take: func([]byte) {}}
	d.delays = &tail{client: client, stream: "delays", take: d.ledger.result}
	d.late = &tail{client: client, stream: "late", take: d.ledger.lateLine}
	d.say("millrace up is ready after %v: REST %s, Kinesis API %s", time.Since(began).Round(time.Millisecond), d.cluster.rest, d.cluster.kinesis)
	d.say("Both are open while the demo runs. From another terminal, for example:")
	d.say("  curl %s/jobs/overview", d.cluster.rest)
	d.say("  %s stream tail delays --follow --kinesis %s\n", d.millrace, d.cluster.kinesis)
	return nil
}

func (d *demo) address(name, want string) (string, error) {
	got, err := freeAddress(want)
	if err != nil {
		return "", fmt.Errorf("--%s %s: %w", name, want, err)
	}
	if got != want {
		d.say("%s is in use: the %s port is another one this time", want, name)
	}
	return got, nil
}

// feed sends the flights, runs the job on them and kills its worker half-way.
func (d *demo) feed(ctx context.Context) error {
	d.say("$ %s stream create flights --shards 4", d.millrace)
	created := d.start(ctx, "stream", "create", "flights", "--shards", "4")
	if err := d.until(ctx, "creating a stream", 10*time.Second, created.done); err != nil {
		return err
	}
	rate := rates[d.pace]
	d.say("$ %s stream put flights --file %s --key origin --rate %d", d.millrace, d.input, rate)
	put := d.start(ctx, "stream", "put", "flights", "--file", d.input, "--key", "origin", "--rate", fmt.Sprint(rate))
	// The first twentieth is there before the job is.
	early := func() (bool, error) { return d.flights.records >= d.ledger.total/20, put.fault() }
	if err := d.until(ctx, "sending flights", 10*time.Second, early); err != nil {
		return err
	}
	d.say("POST /jars/upload of %s, POST /jars/{id}/run", d.config.job)
	var err error
	if d.job, err = d.api.submit(ctx, d.config.job); err != nil {
		return fmt.Errorf("submit %s: %w", d.config.job, err)
	}
	d.say("job %s submitted\n", d.job)
	half := func() (bool, error) { return d.ledger.counted >= d.ledger.total*2/5, put.fault() }
	if err := d.until(ctx, "counting the first flights", 30*time.Second, half); err != nil {
		return err
	}
	if err := d.kill(ctx); err != nil {
		return err
	}
	if err := d.until(ctx, "the job's recovery", 30*time.Second, d.recovered(put)); err != nil {
		return err
	}
	d.shout("*** RECOVERED by itself: %s", d.took())
	return d.until(ctx, "sending flights", time.Minute, put.done)
}

// kill ends the job's worker without a warning.
func (d *demo) kill(ctx context.Context) error {
	pid, err := d.api.worker(ctx, d.job)
	if err != nil {
		return err
	}
	d.shout("*** KILL -9 %d: the worker that runs all tasks of the job, after %d flights were counted", pid, d.ledger.counted)
	d.killed = time.Now()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill worker %d: %w", pid, err)
	}
	// What readers could see by now is no sign of recovery.
	if _, err := d.delays.read(ctx); err != nil {
		return err
	}
	d.rowsThen = d.delays.records
	return nil
}

// recovered says whether what REST measures of the recovery is complete: the
// job runs, and new results are visible. Where a slow machine had sent the last
// flight before the kill, there may be none until the drain: then it must run.
func (d *demo) recovered(put *command) func() (bool, error) {
	return func() (bool, error) {
		if d.recovery.Visible > 0 && !d.rowsNew.IsZero() {
			return true, nil
		}
		sent, err := put.done()
		ran := d.recovery.Restarted > 0 && time.Since(time.UnixMilli(d.recovery.Restarted)) > 3*time.Second
		return sent && ran, err
	}
}

// took tells the recovery as far as it has come, in time since SIGKILL.
func (d *demo) took() string {
	if d.killed.IsZero() {
		return "nothing has failed yet"
	}
	if d.recovery.Failed == 0 {
		return "a worker was killed ..."
	}
	return d.recovery.since(d.killed.UnixMilli())
}

// drain stops the job at the end of its input.
func (d *demo) drain(ctx context.Context) error {
	d.say("all %d flights are sent", d.ledger.total)
	d.say("$ %s stop --drain %s", d.millrace, d.job)
	stop := d.start(ctx, "stop", "--drain", d.job)
	if err := d.until(ctx, "draining the job", time.Minute, stop.done); err != nil {
		return err
	}
	finished := func() (bool, error) { return d.board.job.State == "FINISHED", nil }
	if err := d.until(ctx, "the job's end", 10*time.Second, finished); err != nil {
		return err
	}
	d.say("%s\n", stop.output)
	return nil
}

// addUp reads the streams to their end and compares them with the input.
func (d *demo) addUp(ctx context.Context) error {
	for _, t := range []*tail{d.flights, d.delays, d.late} {
		for more := true; more; {
			var err error
			if more, err = t.read(ctx); err != nil {
				return err
			}
		}
	}
	l := d.ledger
	if d.flights.records != l.total {
		return fmt.Errorf("stream flights holds %d records, %s has %d lines", d.flights.records, d.input, l.total)
	}
	if wrong := l.check(); len(wrong) > 0 {
		return fmt.Errorf("NOT exactly once:\n  %s", strings.Join(wrong[:min(20, len(wrong))], "\n  "))
	}
	d.say("sent     %6d  flights to 4 shards", d.flights.records)
	d.say("delays   %6d  flights in %d results, each (origin, day) once", l.counted, len(l.rows))
	d.say("late     %6d  flights that landed too late to count, as the lines that were sent", l.late)
	d.say("recovery: %s;", d.took())
	if !d.rowsNew.IsZero() {
		d.say("          a reader of stream delays, asking ten times a second, got new results after %d ms", d.rowsNew.Sub(d.killed).Milliseconds())
	}
	d.say("the whole demo took %.1f s; its REST API was %s and now ends, its files are removed\n", time.Since(d.began).Seconds(), d.cluster.rest)
	d.say(`Try next, on a cluster that stays:
  bin/millrace up &
  bin/millrace stream create flights --shards 4
  bin/millrace stream put flights --file examples/flights/flights.csv --key origin
  bin/millrace run bin/flights
  bin/millrace describe flights
  bin/millrace stream tail delays -n 10
  curl http://127.0.0.1:8081/jobs/overview
  bin/millrace stop --drain flights
The job is examples/flights/delays.go; by hand, without a cluster: go run ./examples/flights
`)
	return nil
}
