package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

type runCmd struct {
	restFlags
	output
	Parallelism         int           `short:"p" placeholder:"N" help:"Parallelism of operators that set none (the job's default; with --from that in force when the savepoint was taken)."`
	From                string        `placeholder:"SAVEPOINT" help:"Savepoint to start from."`
	AllowUnmatchedState bool          `help:"Start though the savepoint holds state that no operator takes."`
	Settings            []string      `name:"setting" short:"D" sep:"none" placeholder:"KEY=VALUE" help:"Setting of the job, by Flink's name (docs/settings.md); may be given again."`
	Batch               bool          `help:"Show final results only, of input that ends, and wait for that end: as --batch of the job itself."`
	Detach              bool          `short:"d" help:"Do not wait until the job runs."`
	Timeout             time.Duration `default:"5m" help:"How long to wait until the job runs (${default})."`
	Command             []string      `arg:"" passthrough:"" name:"binary" help:"The job binary and the job's own arguments."`
}

func (*runCmd) Help() string {
	return `Everything after the binary belongs to the job.

Examples:
  millrace run ./flights
  millrace run -p 4 ./flights --out-of-orderness 2h
  millrace run -D execution.checkpointing.interval=5s -D state.backend.type=tiered ./flights
  millrace run --batch ./report --input archive/2026-*.csv
  millrace run --from savepoints/3f2c-1-17 ./flights`
}

func (r *runCmd) Run(ctx context.Context, c *console) error {
	settings, err := settingsOf(r.Settings)
	if err != nil {
		return err
	}
	api, err := r.open()
	if err != nil {
		return err
	}
	jar, err := api.upload(ctx, c, r.Command[0])
	if err != nil {
		return err
	}
	args := r.Command[1:]
	if len(args) > 0 && args[0] == "--" {
		args = args[1:] // the habit of a separator does no harm
	}
	if r.Batch {
		args = append([]string{"--batch"}, args...)
	}
	in := map[string]any{"programArgsList": args, "allowNonRestoredState": r.AllowUnmatchedState}
	if len(settings) > 0 {
		in["configuration"] = settings
	}
	if r.Parallelism > 0 {
		in["parallelism"] = r.Parallelism
	}
	if r.From != "" {
		in["savepointPath"] = r.From
	}
	var out submission
	body, err := api.post(ctx, "/jars/"+url.PathEscape(jar)+"/run", in, &out)
	if err != nil {
		return fmt.Errorf("run %s: %w%s", r.Command[0], err, misplaced(args))
	}
	if r.json() {
		c.raw(body)
	} else {
		out.print(c)
	}
	if r.Detach {
		return nil
	}
	if err := r.wait(ctx, c, api, out.JobID); err != nil || !r.Batch {
		return err
	}
	return r.waitForEnd(ctx, c, api, out.JobID)
}

// submission is the answer to a run.
type submission struct {
	JobID string `json:"jobid"`
	// Warnings are what the plan says of the job that is not wrong and yet may
	// not be meant, such as a join that keeps everything for ever.
	Warnings []string `json:"warnings"`
}

func (s *submission) print(c *console) {
	for _, w := range s.Warnings {
		fmt.Fprintln(c.err, "warning:", w)
	}
	fmt.Fprintf(c.out, "job %s submitted\n", s.JobID)
}

// waitForEnd returns once a job that runs has finished.
func (r *runCmd) waitForEnd(ctx context.Context, c *console, api *rest, id string) error {
	p := c.progress()
	defer p.done()
	return poll(ctx, math.MaxInt64, "the job's end", func() (bool, error) {
		var detail jobDetail
		if _, err := api.get(ctx, "/jobs/"+id, &detail); err != nil {
			return false, err
		}
		switch detail.State {
		case "FINISHED":
			p.done()
			if !r.json() {
				fmt.Fprintf(c.out, "%s: %s\n", detail.Name, detail.State)
			}
			return true, nil
		case "FAILED", "CANCELED":
			return false, fmt.Errorf("job %s %s: %s", id, detail.State, api.lastFailure(ctx, id))
		}
		p.say("%s ...", detail.State)
		return false, nil
	})
}

// misplaced is a hint, after an error, at an argument of the job that looks like
// a flag of run.
func misplaced(args []string) string {
	for _, a := range args {
		switch name, _, _ := strings.Cut(a, "="); name {
		case "--from", "--allow-unmatched-state", "--detach", "--timeout", "--setting", "-p", "-D", "-d":
			return fmt.Sprintf("\n  %s after the binary belongs to the job: a flag of `millrace run` comes before it", name)
		}
	}
	return ""
}

// settingsOf reads KEY=VALUE.
func settingsOf(given []string) (map[string]string, error) {
	settings := map[string]string{}
	for _, text := range given {
		key, value, ok := strings.Cut(text, "=")
		if key = strings.TrimSpace(key); !ok || key == "" {
			return nil, usageError{fmt.Errorf("-D %s: write -D KEY=VALUE", text)}
		}
		if before, twice := settings[key]; twice && before != value {
			return nil, usageError{fmt.Errorf("-D %s is given twice, as %q and %q", key, before, value)}
		}
		settings[key] = value
	}
	return settings, nil
}

// wait returns once the job runs.
func (r *runCmd) wait(ctx context.Context, c *console, api *rest, id string) error {
	p := c.progress()
	defer p.done()
	var detail jobDetail
	err := poll(ctx, r.Timeout, "the job's start (it goes on: millrace describe "+id+")", func() (bool, error) {
		if _, err := api.get(ctx, "/jobs/"+id, &detail); err != nil {
			return false, err
		}
		switch detail.State {
		case "RUNNING", "FINISHED":
			if detail.allRunning() || detail.State == "FINISHED" {
				p.done()
				if !r.json() && !(r.Batch && detail.State == "FINISHED") {
					fmt.Fprintf(c.out, "%s: %s\n", detail.Name, detail.State)
				}
				return true, nil
			}
		case "FAILED", "CANCELED":
			return false, fmt.Errorf("job %s %s: %s", id, detail.State, api.lastFailure(ctx, id))
		}
		if w := detail.Waiting; w != "" {
			p.say("%s: %s", detail.State, w)
		} else {
			p.say("%s ...", detail.State)
		}
		return false, nil
	})
	if !errors.Is(err, errTimeout) {
		return err
	}
	reason := detail.Waiting
	if detail.State == "RESTARTING" {
		last, _, _ := strings.Cut(api.lastFailure(ctx, id), "\n")
		reason += "; it failed last with " + last
	}
	return fmt.Errorf("%w\n  %s: %s", err, detail.State, reason)
}

// upload sends a binary and returns its id.
func (r *rest) upload(ctx context.Context, c *console, file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s is not a file: build the job first (go build -o flights ./examples/flights)", file)
	}
	var sent atomic.Int64
	pr, pw := io.Pipe()
	form := multipart.NewWriter(pw)
	go func() {
		part, err := form.CreateFormFile("jarfile", filepath.Base(file))
		if err == nil {
			_, err = io.Copy(part, &counter{f, &sent})
		}
		pw.CloseWithError(errors.Join(err, form.Close()))
	}()
	stop := make(chan struct{})
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		p := c.progress()
		defer p.done()
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				p.say("uploading %s: %s of %s", file, bytesOf(sent.Load()), bytesOf(info.Size()))
			}
		}
	}()
	body, err := r.do(ctx, http.MethodPost, "/jars/upload", pr, form.FormDataContentType())
	pr.CloseWithError(io.ErrClosedPipe) // ends the writer where the server stopped reading
	close(stop)
	<-shown
	if err != nil {
		return "", fmt.Errorf("upload %s: %w", file, err)
	}
	return uploadedID(body)
}

type counter struct {
	r io.Reader
	n *atomic.Int64
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n.Add(int64(n))
	return n, err
}

type listCmd struct {
	restFlags
	output
	All bool `short:"a" help:"Also jobs that have ended."`
}

func (*listCmd) Help() string {
	return `Examples:
  millrace list
  millrace list --all -o json`
}

func (l *listCmd) Run(ctx context.Context, c *console) error {
	api, err := l.open()
	if err != nil {
		return err
	}
	jobs, body, err := api.jobs(ctx)
	if err != nil {
		return err
	}
	if l.json() {
		c.raw(body)
		return nil
	}
	slices.SortFunc(jobs, func(a, b jobSummary) int { return int(b.Start - a.Start) })
	var rows [][]string
	hidden := 0
	for _, j := range jobs {
		if ended(j.State) && !l.All {
			hidden++
			continue
		}
		rows = append(rows, []string{j.ID, j.Name, j.State, ago(j.Start), duration(j.Duration), fmt.Sprintf("%d/%d", j.Tasks["running"], j.Tasks["total"])})
	}
	c.table("JOB NAME STATE STARTED(UTC) DURATION TASKS", rows)
	if hidden > 0 {
		fmt.Fprintf(c.err, "%d more have ended (--all)\n", hidden)
	}
	return nil
}

type cancelCmd struct {
	restFlags
	Timeout time.Duration `default:"1m" help:"How long to wait for the end (${default})."`
	Job     string        `arg:"" help:"Id, unique prefix of one, or unique name."`
}

func (*cancelCmd) Help() string {
	return `What no checkpoint holds is given up. To keep it, use millrace stop.

Examples:
  millrace cancel flights
  millrace cancel 3f2c`
}

func (x *cancelCmd) Run(ctx context.Context, c *console) error {
	api, err := x.open()
	if err != nil {
		return err
	}
	job, err := api.find(ctx, x.Job)
	if err != nil {
		return err
	}
	if ended(job.State) {
		return fmt.Errorf("job %s has ended already: %s", job.ID, job.State)
	}
	if _, err := api.do(ctx, http.MethodPatch, "/jobs/"+job.ID+"?mode=cancel", nil, ""); err != nil {
		return err
	}
	p := c.progress()
	defer p.done()
	return poll(ctx, x.Timeout, "cancelling "+job.ID, func() (bool, error) {
		var d jobDetail
		if _, err := api.get(ctx, "/jobs/"+job.ID, &d); err != nil {
			return false, err
		}
		p.say("%s ...", d.State)
		if ended(d.State) {
			p.done()
			fmt.Fprintf(c.out, "%s: %s\n", job.ID, d.State)
		}
		return ended(d.State), nil
	})
}

type stopCmd struct {
	restFlags
	output
	Drain     bool          `help:"First read every shard to the tip that it has now, then let event time run out, so that all windows fire."`
	Directory string        `placeholder:"PATH" help:"Where in the bucket the savepoint goes."`
	Timeout   time.Duration `default:"5m" help:"How long to wait for the end (${default})."`
	Job       string        `arg:"" help:"Id, unique prefix of one, or unique name."`
}

func (*stopCmd) Help() string {
	return `Takes a savepoint, ends the job with it, and prints the savepoint's path.

Examples:
  millrace stop flights
  millrace stop --drain 3f2c
  millrace run --from $(millrace stop flights) ./flights-2`
}

func (s *stopCmd) Run(ctx context.Context, c *console) error {
	api, err := s.open()
	if err != nil {
		return err
	}
	job, err := api.find(ctx, s.Job)
	if err != nil {
		return err
	}
	in := map[string]any{"drain": s.Drain}
	if s.Directory != "" {
		in["targetDirectory"] = s.Directory
	}
	path, err := api.savepoint(ctx, c, s.output, job.ID, "/stop", in, s.Timeout)
	if err == nil {
		// Beside the path itself, which scripts take from stdout.
		fmt.Fprintf(c.err, "%s has stopped. To go on from here: millrace run --from %s <binary> [arguments]\n", job.Name, path)
	}
	return err
}
