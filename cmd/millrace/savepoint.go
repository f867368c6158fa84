package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// savepoint triggers one, waits for it and prints where it is.
func (r *rest) savepoint(ctx context.Context, c *console, o output, job, path string, in any, limit time.Duration) (location string, err error) {
	location, body, err := r.takeSavepoint(ctx, c, job, path, in, limit)
	switch {
	case err != nil:
	case o.json():
		c.raw(body)
	default:
		fmt.Fprintln(c.out, location)
	}
	return location, err
}

// takeSavepoint triggers one, waits for it and returns where it is, with the
// API's own answer.
func (r *rest) takeSavepoint(ctx context.Context, c *console, job, path string, in any, limit time.Duration) (location string, body []byte, err error) {
	var trigger struct {
		ID string `json:"request-id"`
	}
	if _, err := r.post(ctx, "/jobs/"+job+path, in, &trigger); err != nil {
		return "", nil, err
	}
	p := c.progress()
	defer p.done()
	err = poll(ctx, limit, "the savepoint of "+job, func() (bool, error) {
		var status struct {
			Status struct {
				ID string `json:"id"`
			} `json:"status"`
			Operation struct {
				Location string `json:"location"`
				Failure  *struct {
					Class string `json:"class"`
					Trace string `json:"stack-trace"`
				} `json:"failure-cause"`
			} `json:"operation"`
		}
		if body, err = r.get(ctx, "/jobs/"+job+"/savepoints/"+trigger.ID, &status); err != nil {
			return false, err
		}
		if status.Status.ID != "COMPLETED" {
			p.say("savepoint of %s: %s", job, r.standing(ctx, job))
			return false, nil
		}
		p.done()
		if f := status.Operation.Failure; f != nil {
			return false, fmt.Errorf("savepoint of %s: %s", job, f.Trace)
		}
		location = status.Operation.Location
		return true, nil
	})
	return location, body, err
}

// standing is a job's state in words, for somebody who waits.
func (r *rest) standing(ctx context.Context, id string) string {
	var d jobDetail
	if _, err := r.get(ctx, "/jobs/"+id, &d); err != nil {
		return err.Error()
	}
	text := d.State
	if d.Waiting != "" {
		text += ", " + d.Waiting
	}
	if d.State == "RESTARTING" && d.Rescaling == nil {
		last, _, _ := strings.Cut(r.lastFailure(ctx, id), "\n")
		text += "; it failed last with " + last + " (to end it without a savepoint: millrace cancel " + id + ")"
	}
	return text
}

type savepointCmd struct {
	Create  savepointCreateCmd  `cmd:"" default:"withargs" help:"Take a savepoint of a running job."`
	List    savepointListCmd    `cmd:"" help:"List savepoints."`
	Inspect savepointInspectCmd `cmd:"" help:"Show what a savepoint holds, or its keyed state as rows."`
	Verify  savepointVerifyCmd  `cmd:"" help:"Read every byte of a savepoint and check it."`
	Dispose savepointDisposeCmd `cmd:"" help:"Delete a savepoint."`
}

type savepointCreateCmd struct {
	restFlags
	output
	Directory string        `placeholder:"PATH" help:"Where in the bucket it goes."`
	Timeout   time.Duration `default:"5m" help:"How long to wait (${default})."`
	Job       string        `arg:"" help:"Id, unique prefix of one, or unique name."`
}

func (*savepointCreateCmd) Help() string {
	return `Examples:
  millrace savepoint flights
  millrace run --from $(millrace savepoint flights) ./flights-2`
}

func (s *savepointCreateCmd) Run(ctx context.Context, c *console) error {
	api, err := s.open()
	if err != nil {
		return err
	}
	job, err := api.find(ctx, s.Job)
	if err != nil {
		return err
	}
	in := map[string]any{"cancel-job": false}
	if s.Directory != "" {
		in["target-directory"] = s.Directory
	}
	_, err = api.savepoint(ctx, c, s.output, job.ID, "/savepoints", in, s.Timeout)
	return err
}

type savepointListCmd struct {
	savepointFlags
	output
}

func (*savepointListCmd) Help() string {
	return `Examples:
  millrace savepoint list
  millrace savepoint list --bucket ./millrace-data/bucket    # no cluster needs to run`
}

// savepointEntry is one savepoint that the cluster knows.
type savepointEntry struct {
	Job       string `json:"job-id"`
	ID        uint64 `json:"checkpoint-id"`
	Path      string `json:"path"`
	Completed int64  `json:"completed"`
	Terminal  bool   `json:"terminal"`
	Drained   bool   `json:"drained"`
}

type savepointList struct {
	Savepoints []savepointEntry `json:"savepoints"`
}

func (s *savepointListCmd) Run(ctx context.Context, c *console) error {
	from, err := s.source(ctx)
	if err != nil {
		return err
	}
	defer from.close()
	all, err := from.list(ctx)
	if err != nil {
		return err
	}
	if s.json() {
		return c.json(all)
	}
	var rows [][]string
	for _, x := range all.Savepoints {
		rows = append(rows, []string{x.Path, x.Job, ago(x.Completed), fmt.Sprint(x.Drained)})
	}
	c.table("SAVEPOINT JOB COMPLETED(UTC) DRAINED", rows)
	return nil
}

type savepointDisposeCmd struct {
	restFlags
	Timeout time.Duration `default:"1m" help:"How long to wait (${default})."`
	Path    string        `arg:"" help:"What stop or savepoint create printed."`
}

func (s *savepointDisposeCmd) Run(ctx context.Context, c *console) error {
	api, err := s.open()
	if err != nil {
		return err
	}
	var trigger struct {
		ID string `json:"request-id"`
	}
	if _, err := api.post(ctx, "/savepoint-disposal", map[string]any{"savepoint-path": s.Path}, &trigger); err != nil {
		return err
	}
	return poll(ctx, s.Timeout, "disposing of "+s.Path, func() (bool, error) {
		var status struct {
			Status    struct{ ID string }
			Operation struct {
				Failure *struct {
					Trace string `json:"stack-trace"`
				} `json:"failure-cause"`
			}
		}
		if _, err := api.get(ctx, "/savepoint-disposal/"+trigger.ID, &status); err != nil {
			return false, err
		}
		if f := status.Operation.Failure; f != nil {
			return false, fmt.Errorf("disposing of %s: %s", s.Path, f.Trace)
		}
		return status.Status.ID == "COMPLETED", nil
	})
}
