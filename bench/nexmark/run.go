package nexmark

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/bench/rig"
	"github.com/millrace/millrace/internal/latency"
)

// lead is how long before its first event a throttled job is submitted: time
// enough for its tasks to run.
const lead = 3 * time.Second

// Run measures one query on a cluster of its own, of which nothing is left when
// it returns, ctx having ended or not. The configuration must be valid.
func (c Config) Run(ctx context.Context) (*Result, error) {
	if c.Share == 0 {
		return c.once(ctx)
	}
	fast := c
	fast.Hash, fast.Profile = false, ""
	most, err := fast.once(ctx)
	if err != nil {
		return nil, err
	}
	c.Throttle = max(1, int64(c.Share*most.EventsPerSecond))
	r, err := c.once(ctx)
	if err != nil {
		return nil, err
	}
	r.MostPerSecond = most.EventsPerSecond
	return r, nil
}

// once is one run.
func (c Config) once(ctx context.Context) (_ *Result, err error) {
	folder, err := os.MkdirTemp("", "millrace-nexmark-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	c.say("starting the cluster")
	flags := c.taskManagerFlags()
	nodes, err := rig.StartNodes(c.Executable, filepath.Join(folder, "cluster"), flags...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, nodes.Stop()) }()
	for range c.Workers - 1 {
		if err := nodes.Add(flags...); err != nil {
			return nil, err
		}
	}
	r := &run{Config: c, api: rig.REST{Base: nodes.REST}, nodes: nodes,
		latencies: filepath.Join(folder, "latencies"), results: filepath.Join(folder, "results")}
	return r.measure(ctx)
}

func (c *Config) say(format string, args ...any) {
	if c.Progress != nil {
		c.Progress(c.Query + ": " + fmt.Sprintf(format, args...))
	}
}

// run is one run under way.
type run struct {
	Config
	api   rig.REST
	nodes *rig.Nodes
	job   string
	// Folders into which the job's sinks write.
	latencies, results string
}

// reading is the clock and the CPU time so far at one moment.
type reading struct {
	at  time.Time
	cpu time.Duration
}

func (r *run) read() (reading, error) {
	u, err := rig.UsageOf(r.nodes.PIDs()...)
	return reading{time.Now(), u.CPU}, err
}

func (r *run) measure(ctx context.Context) (*Result, error) {
	contentType, body, err := rig.Form(r.Executable)
	if err != nil {
		return nil, err
	}
	jar, err := r.api.Upload(ctx, contentType, body)
	if err != nil {
		return nil, err
	}
	begin, err := r.submit(ctx, jar)
	if err != nil {
		return nil, err
	}
	start := begin.at.Add(lead)
	if begin, err = r.started(ctx, begin); err != nil {
		return nil, err
	}
	if r.Throttle > 0 {
		// Until then tasks run and do nothing.
		if err := rig.Pause(ctx, time.Until(start)); err != nil {
			return nil, err
		}
		if begin, err = r.read(); err != nil {
			return nil, err
		}
	}
	w := watch{run: r, began: begin.at}
	last, err := w.untilEnd(ctx)
	if err != nil {
		return nil, err
	}
	end, err := r.read()
	if err != nil {
		return nil, err
	}
	// REST tells when the job ended, to the millisecond; it was seen a little later.
	wall := min(end.at.Sub(begin.at), time.UnixMilli(last.EndTime+1).Sub(begin.at))
	out := r.result()
	out.took(max(wall, 0), end.cpu-begin.cpu, last.Restarts)
	out.PeakMemory, out.Collector = w.peak, w.collector
	if out.Checkpoints, err = r.checkpoints(ctx); err != nil {
		return nil, err
	}
	return out, r.collect(out)
}

// submit runs the job and reads the clocks just before.
func (r *run) submit(ctx context.Context, jar string) (reading, error) {
	begin, err := r.read()
	if err != nil {
		return begin, err
	}
	in := map[string]any{"programArgsList": r.args(begin.at.Add(lead)), "parallelism": r.Parallelism, "configuration": r.settings()}
	var out struct{ JobID string }
	err = r.api.Post(ctx, "/jars/"+jar+"/run", in, &out)
	r.job = out.JobID
	return begin, err
}

// args are the job's arguments. start is when a throttled source begins.
func (r *run) args(start time.Time) []string {
	args := []string{"--query", r.Query, "--events", strconv.FormatInt(r.Events, 10),
		"--seed", strconv.FormatUint(r.Seed, 10), "--rate", strconv.FormatInt(r.Rate, 10)}
	if r.OutOfOrder > 0 {
		args = append(args, "--out-of-order", strconv.FormatInt(r.OutOfOrder, 10))
	}
	if r.Slide > 0 {
		args = append(args, "--slide", r.Slide.String())
	}
	if r.Throttle > 0 {
		args = append(args, "--throttle", strconv.FormatInt(r.Throttle, 10), "--start", strconv.FormatInt(start.UnixMilli(), 10),
			"--latencies", r.latencies, "--warm-up", r.WarmUp.String())
	}
	if r.Hash {
		args = append(args, "--hash")
	}
	if r.Hash || r.Query == "q10" { // whose result is files
		args = append(args, "--output", r.results)
	}
	return append(args, r.Args...)
}

// job is what REST says of the job.
type job struct {
	State    string `json:"state"`
	EndTime  int64  `json:"end-time"`
	Restarts int    `json:"restarts"`
	Vertices []struct {
		Parallelism int            `json:"parallelism"`
		Tasks       map[string]int `json:"tasks"`
		Metrics     struct {
			Read    int64 `json:"read-records"`
			Written int64 `json:"write-records"`
		} `json:"metrics"`
	} `json:"vertices"`
}

func (j *job) running() bool {
	for _, v := range j.Vertices {
		if v.Tasks["RUNNING"] != v.Parallelism {
			return false
		}
	}
	return len(j.Vertices) > 0
}

// look asks for the job, of which a failure is an error.
func (r *run) look(ctx context.Context) (*job, error) {
	j := &job{}
	if err := r.api.Do(ctx, http.MethodGet, "/jobs/"+r.job, "", nil, j); err != nil {
		return nil, err
	}
	if j.State == "FAILED" || j.State == "CANCELED" || j.Restarts > 0 {
		return j, r.failure(ctx, j)
	}
	return j, nil
}

// failure is why a job failed, at last.
func (r *run) failure(ctx context.Context, j *job) error {
	var e struct {
		History struct {
			Entries []struct {
				Trace string `json:"stacktrace"`
				Task  string `json:"taskName"`
			} `json:"entries"`
		} `json:"exceptionHistory"`
	}
	if err := r.api.Do(ctx, http.MethodGet, "/jobs/"+r.job+"/exceptions", "", nil, &e); err != nil {
		return err
	}
	for _, x := range e.History.Entries {
		return fmt.Errorf("%s failed: %s: %s", r.Query, x.Task, strings.TrimSpace(x.Trace))
	}
	return fmt.Errorf("%s is %s, and REST does not say why", r.Query, j.State)
}

// started waits until all tasks run and reads the clocks then. A job that has
// ended before that was seen began when it was submitted.
func (r *run) started(ctx context.Context, submitted reading) (reading, error) {
	r.say("waiting for its tasks to run")
	for {
		j, err := r.look(ctx)
		switch {
		case err != nil:
			return reading{}, err
		case j.State == "FINISHED":
			return submitted, nil
		case j.running():
			return r.read()
		}
		if err := rig.Pause(ctx, 5*time.Millisecond); err != nil {
			return reading{}, err
		}
	}
}

// collect reads what the job's sinks wrote.
func (r *run) collect(out *Result) error {
	if r.Throttle > 0 {
		h, err := latency.ReadFolder(r.latencies)
		if err != nil {
			return err
		}
		out.Latency = latencyOf(h)
	}
	if r.Hash {
		line, err := readHash(r.results, r.Query)
		if err != nil {
			return err
		}
		out.Hash = line
	}
	return nil
}

// checkpoints asks for those of the job.
func (r *run) checkpoints(ctx context.Context) (Checkpoints, error) {
	type summary struct {
		P50 any `json:"p50"`
		Max any `json:"max"`
	}
	var all struct {
		Counts  struct{ Completed, Failed int64 }
		Summary struct {
			Size     summary `json:"checkpointed_size"`
			Duration summary `json:"end_to_end_duration"`
		}
	}
	if err := r.api.Do(ctx, http.MethodGet, "/jobs/"+r.job+"/checkpoints", "", nil, &all); err != nil {
		return Checkpoints{}, err
	}
	// Of none, figures are the text NaN.
	number := func(v any) float64 { f, _ := v.(float64); return f }
	return Checkpoints{Completed: all.Counts.Completed, Failed: all.Counts.Failed,
		P50: number(all.Summary.Duration.P50), Max: number(all.Summary.Duration.Max),
		BytesP50: number(all.Summary.Size.P50), BytesMax: number(all.Summary.Size.Max)}, nil
}
