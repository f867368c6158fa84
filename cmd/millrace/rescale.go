package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

type rescaleCmd struct {
	restFlags
	output
	Parallelism []string      `short:"p" required:"" sep:"none" placeholder:"[NAME=]N" help:"N for operators that set no parallelism of their own, or NAME=N for one vertex or operator; repeatable."`
	Timeout     time.Duration `default:"5m" help:"How long to wait until all tasks run again (${default})."`
	Job         string        `arg:"" help:"Id, unique prefix of one, or unique name."`
}

func (*rescaleCmd) Help() string {
	return `The job runs on until slots, workers and a checkpoint for the new parallelism are there; then it pauses for a moment.
Processes stay, and only state that moves between them is read again. If anything fails, the job goes on as it was.
The parallelism stays through restarts and upgrades; run --from without -p starts with it too.

Examples:
  millrace rescale flights -p 4
  millrace rescale flights --parallelism delays=8 --parallelism top=1
  millrace rescale 3f2c -p 2 -o json`
}

// wanted is the body of the request that the flags make.
func (r *rescaleCmd) wanted() (map[string]any, error) {
	body, vertices := map[string]any{}, map[string]int{}
	for _, p := range r.Parallelism {
		name, digits := "", p
		if i := strings.LastIndexByte(p, '='); i >= 0 {
			name, digits = p[:i], p[i+1:]
		}
		n, err := strconv.Atoi(digits)
		_, twice := vertices[name]
		switch {
		case err != nil || n < 1:
			return nil, usageError{fmt.Errorf("--parallelism %s: give a number from 1 on, or NAME=N", p)}
		case twice || name == "" && body["parallelism"] != nil:
			return nil, usageError{fmt.Errorf("--parallelism %s: this is given twice", p)}
		case name == "" && strings.Contains(p, "="):
			return nil, usageError{fmt.Errorf("--parallelism %s: the name is missing", p)}
		case name == "":
			body["parallelism"] = n
		default:
			vertices[name] = n
		}
	}
	if len(vertices) > 0 {
		body["vertices"] = vertices
	}
	return body, nil
}

func (r *rescaleCmd) Run(ctx context.Context, c *console) error {
	in, err := r.wanted()
	if err != nil {
		return err
	}
	api, err := r.open()
	if err != nil {
		return err
	}
	job, err := api.find(ctx, r.Job)
	if err != nil {
		return err
	}
	b, err := json.Marshal(in)
	if err != nil {
		return err
	}
	answer, err := api.do(ctx, http.MethodPatch, "/jobs/"+job.ID+"/rescaling", bytes.NewReader(b), "application/json")
	if err != nil {
		return fmt.Errorf("rescale %s: %w", r.Job, err)
	}
	var trigger struct {
		ID string `json:"request-id"`
	}
	if err := json.Unmarshal(answer, &trigger); err != nil {
		return err
	}
	p := c.progress()
	defer p.done()
	return poll(ctx, r.Timeout, "rescaling "+job.ID+" (it goes on: millrace describe "+job.ID+")", func() (bool, error) {
		done, err := r.look(ctx, c, api, job.ID, trigger.ID)
		if !done && err == nil {
			p.say("%s: %s", job.Name, api.standing(ctx, job.ID))
		} else {
			p.done()
		}
		return done, err
	})
}

// look says whether the request is over, and prints what came of it.
func (r *rescaleCmd) look(ctx context.Context, c *console, api *rest, job, trigger string) (bool, error) {
	var status struct {
		Status struct {
			ID string `json:"id"`
		} `json:"status"`
		Operation struct {
			Parallelism map[string]int `json:"parallelism"`
			Pause       int64          `json:"pause-ms"`
			Failure     *struct {
				Trace string `json:"stack-trace"`
			} `json:"failure-cause"`
		} `json:"operation"`
	}
	body, err := api.get(ctx, "/jobs/"+job+"/rescaling/"+trigger, &status)
	if err != nil || status.Status.ID != "COMPLETED" {
		return false, err
	}
	if f := status.Operation.Failure; f != nil {
		return false, fmt.Errorf("rescale %s: %s", job, f.Trace)
	}
	if r.json() {
		c.raw(body)
		return true, nil
	}
	var d jobDetail
	if _, err := api.get(ctx, "/jobs/"+job, &d); err != nil {
		return false, err
	}
	var rows [][]string
	for _, v := range d.Vertices {
		rows = append(rows, []string{fmt.Sprint(status.Operation.Parallelism[v.ID]), v.Name})
	}
	c.table("PARALLELISM VERTEX", rows)
	if ms := status.Operation.Pause; ms > 0 {
		fmt.Fprintf(c.out, "paused for %s\n", duration(ms))
	}
	return true, nil
}

// rescaleEntry is one change of parallelism that is over.
type rescaleEntry struct {
	Began   int64          `json:"began"`
	Took    int64          `json:"took"`
	Pause   *int64         `json:"pause"`
	From    map[string]int `json:"from"`
	To      map[string]int `json:"to"`
	Failure *struct {
		Trace string `json:"stack-trace"`
	} `json:"failure-cause"`
}

// printRescales lists them, oldest first.
func (d *jobDetail) printRescales(c *console, all []rescaleEntry) {
	var rows [][]string
	for _, r := range all {
		var changes []string
		for _, v := range d.Vertices {
			if r.From[v.ID] != r.To[v.ID] {
				changes = append(changes, fmt.Sprintf("%s %d to %d", v.Name, r.From[v.ID], r.To[v.ID]))
			}
		}
		outcome := "done"
		if r.Failure != nil {
			outcome, _, _ = strings.Cut(r.Failure.Trace, "\n")
		}
		rows = append(rows, []string{ago(r.Began), duration(r.Took), measured(r.Pause, duration), strings.Join(changes, ", "), outcome})
	}
	if len(rows) > 0 {
		fmt.Fprintln(c.out)
		c.table("RESCALED(UTC) TOOK PAUSE CHANGE OUTCOME", rows)
	}
}
