package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// jobDetail is what /jobs/{id} says that a person wants to read.
type jobDetail struct {
	ID             string `json:"jid"`
	Name           string `json:"name"`
	State          string `json:"state"`
	Start          int64  `json:"start-time"`
	End            int64  `json:"end-time"`
	Duration       int64  `json:"duration"`
	Waiting        string `json:"waiting-for"`
	MaxParallelism int64  `json:"maxParallelism"`
	// Rescaling is set while a change of parallelism is under way.
	Rescaling    json.RawMessage  `json:"rescaling"`
	StatusCounts map[string]int64 `json:"status-counts"`
	Vertices     []struct {
		ID          string           `json:"id"`
		Name        string           `json:"name"`
		Parallelism int              `json:"parallelism"`
		Status      string           `json:"status"`
		Tasks       map[string]int64 `json:"tasks"`
		Metrics     struct {
			// Absent where they were not measured.
			ReadRecords  *int64 `json:"read-records"`
			WriteRecords *int64 `json:"write-records"`
			ReadBytes    *int64 `json:"read-bytes"`
			WriteBytes   *int64 `json:"write-bytes"`
		} `json:"metrics"`
	} `json:"vertices"`
}

// allRunning says that every task of every vertex runs.
func (d *jobDetail) allRunning() bool {
	for _, v := range d.Vertices {
		if v.Tasks["RUNNING"] != int64(v.Parallelism) {
			return false
		}
	}
	return len(d.Vertices) > 0
}

type exceptions struct {
	History struct {
		Entries []struct {
			Name      string `json:"exceptionName"`
			Trace     string `json:"stacktrace"`
			Timestamp int64  `json:"timestamp"`
			Task      string `json:"taskName"`
			Manager   string `json:"taskManagerId"`
		} `json:"entries"`
	} `json:"exceptionHistory"`
}

type checkpoints struct {
	Counts map[string]int64 `json:"counts"`
	Latest struct {
		Completed *struct {
			ID       int64  `json:"id"`
			Path     string `json:"external_path"`
			Size     int64  `json:"state_size"`
			Duration int64  `json:"end_to_end_duration"`
		} `json:"completed"`
		Savepoint *struct {
			ID   int64  `json:"id"`
			Path string `json:"external_path"`
		} `json:"savepoint"`
	} `json:"latest"`
}

// recoveries are the attempts after failures; times are milliseconds after the
// failure was seen, absent where that has not happened.
type recoveries struct {
	Recoveries []struct {
		Failed      int64  `json:"failed"`
		Cause       string `json:"cause"`
		Restarted   *int64 `json:"restarted-after-ms"`
		FirstOutput *int64 `json:"first-output-after-ms"`
		Visible     *int64 `json:"visible-after-ms"`
	} `json:"recoveries"`
	Rescales []rescaleEntry `json:"rescales"`
}

type describeCmd struct {
	restFlags
	output
	Job string `arg:"" help:"Id, unique prefix of one, or unique name."`
}

func (*describeCmd) Help() string {
	return `Examples:
  millrace describe flights
  millrace describe 3f2c -o json`
}

func (d *describeCmd) Run(ctx context.Context, c *console) error {
	api, err := d.open()
	if err != nil {
		return err
	}
	found, err := api.find(ctx, d.Job)
	if err != nil {
		return err
	}
	var job jobDetail
	body, err := api.get(ctx, "/jobs/"+found.ID, &job)
	if err != nil {
		return err
	}
	if d.json() {
		c.raw(body)
		return nil
	}
	fmt.Fprintf(c.out, "%s  %s  %s\n", job.ID, job.Name, job.State)
	fmt.Fprintf(c.out, "started %s UTC, for %s\n", ago(job.Start), duration(job.Duration))
	if job.Waiting != "" {
		fmt.Fprintf(c.out, "waiting: %s\n", job.Waiting)
	}
	if err := d.settings(ctx, c, api, job.ID); err != nil {
		return err
	}
	fmt.Fprintln(c.out)
	var rows [][]string
	for _, v := range job.Vertices {
		m := v.Metrics
		rows = append(rows, []string{fmt.Sprint(v.Parallelism), v.Status, measured(m.ReadRecords, count), measured(m.WriteRecords, count), measured(m.ReadBytes, bytesOf), measured(m.WriteBytes, bytesOf), v.Name})
	}
	c.table("PARALLELISM STATUS RECORDS-IN RECORDS-OUT BYTES-IN BYTES-OUT VERTEX", rows)
	if err := d.checkpoints(ctx, c, api, job.ID); err != nil {
		return err
	}
	if err := d.recoveries(ctx, c, api, &job); err != nil {
		return err
	}
	return d.failures(ctx, c, api, job.ID)
}

// settings prints what the submission set.
func (d *describeCmd) settings(ctx context.Context, c *console, api *rest, id string) error {
	var config struct {
		Given map[string]string `json:"submitted-settings"`
	}
	if _, err := api.get(ctx, "/jobs/"+id+"/config", &config); err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(config.Given)) {
		fmt.Fprintf(c.out, "setting %s=%s\n", key, config.Given[key])
	}
	return nil
}

// recoveries prints how long the job took to come back, and what became of
// rescales, oldest first.
func (d *describeCmd) recoveries(ctx context.Context, c *console, api *rest, job *jobDetail) error {
	var all recoveries
	if _, err := api.get(ctx, "/jobs/"+job.ID+"/recovery", &all); err != nil {
		return err
	}
	job.printRescales(c, all.Rescales)
	after := func(ms *int64) string {
		if ms == nil {
			return "-"
		}
		return duration(*ms)
	}
	var rows [][]string
	for _, r := range all.Recoveries {
		rows = append(rows, []string{ago(r.Failed), after(r.Restarted), after(r.FirstOutput), after(r.Visible)})
	}
	if len(rows) > 0 {
		fmt.Fprintln(c.out)
		c.table("FAILED(UTC) RUNNING-AFTER OUTPUT-AFTER VISIBLE-AFTER", rows)
	}
	return nil
}

func (d *describeCmd) checkpoints(ctx context.Context, c *console, api *rest, id string) error {
	var cp checkpoints
	if _, err := api.get(ctx, "/jobs/"+id+"/checkpoints", &cp); err != nil {
		return err
	}
	fmt.Fprintf(c.out, "\ncheckpoints: %d completed, %d failed, %d restored from\n", cp.Counts["completed"], cp.Counts["failed"], cp.Counts["restored"])
	if l := cp.Latest.Completed; l != nil {
		fmt.Fprintf(c.out, "  latest %d: %s of state, took %s, %s\n", l.ID, bytesOf(l.Size), duration(l.Duration), l.Path)
	}
	if s := cp.Latest.Savepoint; s != nil {
		fmt.Fprintf(c.out, "  savepoint %d: %s\n", s.ID, s.Path)
	}
	return nil
}

// failures prints what went wrong, newest first, one line each.
func (d *describeCmd) failures(ctx context.Context, c *console, api *rest, id string) error {
	var e exceptions
	if _, err := api.get(ctx, "/jobs/"+id+"/exceptions", &e); err != nil {
		return err
	}
	if len(e.History.Entries) == 0 {
		return nil
	}
	fmt.Fprintln(c.out, "\nfailures, newest first:")
	for i := 0; i < len(e.History.Entries); {
		x := e.History.Entries[i]
		n := 1
		for i+n < len(e.History.Entries) && e.History.Entries[i+n].Trace == x.Trace {
			n++
		}
		first, _, _ := strings.Cut(x.Trace, "\n")
		times := ""
		if n > 1 {
			times = fmt.Sprintf("%d times, last ", n)
		}
		fmt.Fprintf(c.out, "  %s%s  %s  %s\n", times, ago(x.Timestamp), x.Task, first)
		i += n
	}
	return nil
}

// measured prints a figure, or a dash where there is none.
func measured(n *int64, print func(int64) string) string {
	if n == nil {
		return "-"
	}
	return print(*n)
}

func count(n int64) string { return fmt.Sprint(n) }

// lastFailure is the newest exception of a job, for an error message.
func (r *rest) lastFailure(ctx context.Context, id string) string {
	var e exceptions
	if _, err := r.get(ctx, "/jobs/"+id+"/exceptions", &e); err != nil || len(e.History.Entries) == 0 {
		return "see millrace describe " + id
	}
	return e.History.Entries[0].Trace
}

type logsCmd struct {
	restFlags
	Job string `arg:"" help:"Id, unique prefix of one, or unique name."`
}

func (*logsCmd) Help() string {
	return `Prints what the job's workers wrote to stdout and stderr, of every task manager.

Examples:
  millrace logs flights`
}

func (l *logsCmd) Run(ctx context.Context, c *console) error {
	api, err := l.open()
	if err != nil {
		return err
	}
	job, err := api.find(ctx, l.Job)
	if err != nil {
		return err
	}
	var managers struct {
		Managers []struct {
			ID string `json:"id"`
		} `json:"taskmanagers"`
	}
	if _, err := api.get(ctx, "/taskmanagers", &managers); err != nil {
		return err
	}
	for _, m := range managers.Managers {
		var logs struct {
			Logs []struct {
				Name string `json:"name"`
				Size int64  `json:"size"`
			} `json:"logs"`
		}
		if _, err := api.get(ctx, "/taskmanagers/"+url.PathEscape(m.ID)+"/logs", &logs); err != nil {
			return err
		}
		for _, f := range logs.Logs {
			if !strings.Contains(f.Name, job.ID) || f.Size == 0 {
				continue
			}
			text, err := api.get(ctx, "/taskmanagers/"+url.PathEscape(m.ID)+"/logs/"+url.PathEscape(f.Name), nil)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.out, "==> %s: %s <==\n", m.ID, f.Name)
			c.out.Write(text)
		}
	}
	return nil
}

// uploadedID takes the id of a jar out of the answer of an upload.
func uploadedID(body []byte) (string, error) {
	var up struct {
		Filename string `json:"filename"`
	}
	if err := json.Unmarshal(body, &up); err != nil {
		return "", fmt.Errorf("answer of the upload: %w", err)
	}
	return up.Filename[strings.LastIndexByte(up.Filename, '/')+1:], nil
}
