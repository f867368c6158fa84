//go:build linux

package clustertest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// web is how the tests talk HTTP; no connection outlives a test.
var web = &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}

// rest is the REST API at an address, such as http://127.0.0.1:8081.
type rest string

// problem is an answer that is no success.
type problem struct {
	Status int
	Errors []string
	Code   string
	Detail string
	Remedy string
}

func (p *problem) Error() string { return fmt.Sprintf("HTTP %d %s: %v", p.Status, p.Code, p.Errors) }

func (r rest) do(ctx context.Context, method, path string, body io.Reader, contentType string, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, string(r)+"/v1"+path, body)
	if err != nil {
		return err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	res, err := web.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode/100 != 2 {
		p := &problem{Status: res.StatusCode}
		if err := json.Unmarshal(b, p); err != nil {
			return fmt.Errorf("%s %s: %s, and no JSON: %q", method, path, res.Status, b)
		}
		p.Status = res.StatusCode
		return p
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(b, out)
}

func (r rest) get(ctx context.Context, path string, out any) error {
	return r.do(ctx, http.MethodGet, path, nil, "", out)
}

// jobDetails is what the tests read of a job.
type jobDetails struct {
	ID       string `json:"jid"`
	Name     string `json:"name"`
	State    string `json:"state"`
	Epoch    uint64 `json:"epoch"`
	Restarts int    `json:"restarts"`
	Waiting  string `json:"waiting-for"`
	Vertices []struct {
		Name        string         `json:"name"`
		Parallelism int            `json:"parallelism"`
		Tasks       map[string]int `json:"tasks"`
	} `json:"vertices"`
}

func (d jobDetails) running() bool {
	for _, v := range d.Vertices {
		if v.Tasks["RUNNING"] != v.Parallelism {
			return false
		}
	}
	return d.State == "RUNNING" && len(d.Vertices) > 0
}

func (d jobDetails) String() string {
	s := fmt.Sprintf("%s, epoch %d, %d restarts", d.State, d.Epoch, d.Restarts)
	if d.Waiting != "" {
		s += ", waits: " + d.Waiting
	}
	for _, v := range d.Vertices {
		s += fmt.Sprintf("; %s %v", v.Name, v.Tasks)
	}
	return s
}

func (r rest) job(ctx context.Context, id string) (jobDetails, error) {
	var d jobDetails
	err := r.get(ctx, "/jobs/"+id, &d)
	return d, err
}

// exception is one of a job's history.
type exception struct {
	Code     string `json:"code"`
	Detail   string `json:"detail"`
	Remedy   string `json:"remedy"`
	Trace    string `json:"stacktrace"`
	Operator string `json:"operator"`
	Subtask  int    `json:"subtask"`
	Task     string `json:"taskName"`
	At       int64  `json:"timestamp"`
}

func (r rest) exceptions(ctx context.Context, id string) ([]exception, error) {
	var out struct {
		History struct {
			Entries []exception `json:"entries"`
		} `json:"exceptionHistory"`
	}
	err := r.get(ctx, "/jobs/"+id+"/exceptions", &out)
	return out.History.Entries, err
}

// awaitState waits until a job is in a state.
func (r rest) awaitState(t *testing.T, id, state string) jobDetails {
	t.Helper()
	var d jobDetails
	eventually(t, "job "+id+" "+state, func() (bool, string) {
		var err error
		if d, err = r.job(t.Context(), id); err != nil {
			return false, err.Error()
		}
		if d.State != state && (d.State == "FAILED" || d.State == "FINISHED" || d.State == "CANCELED") {
			t.Fatalf("job %s is %s, want %s; %s", id, d.State, state, r.history(t, id))
		}
		return d.State == state, d.String()
	})
	return d
}

// awaitRunning waits until all tasks of a job run in an attempt from epoch on.
func (r rest) awaitRunning(t *testing.T, id string, epoch uint64) jobDetails {
	t.Helper()
	var d jobDetails
	eventually(t, fmt.Sprintf("job %s runs in epoch %d or later", id, epoch), func() (bool, string) {
		var err error
		if d, err = r.job(t.Context(), id); err != nil {
			return false, err.Error()
		}
		if d.State == "FAILED" || d.State == "FINISHED" || d.State == "CANCELED" {
			t.Fatalf("job %s ended: %s; %s", id, d.State, r.history(t, id))
		}
		return d.running() && d.Epoch >= epoch, d.String()
	})
	return d
}

// awaitCheckpoint waits until a checkpoint is complete that began after a
// moment.
func (r rest) awaitCheckpoint(t *testing.T, id string, after time.Time) {
	t.Helper()
	eventually(t, "a checkpoint of job "+id, func() (bool, string) {
		var out struct {
			Latest struct {
				Completed *struct {
					Triggered int64  `json:"trigger_timestamp"`
					Path      string `json:"external_path"`
				} `json:"completed"`
			} `json:"latest"`
		}
		if err := r.get(t.Context(), "/jobs/"+id+"/checkpoints", &out); err != nil {
			return false, err.Error()
		}
		c := out.Latest.Completed
		return c != nil && c.Triggered >= after.UnixMilli(), fmt.Sprintf("%+v", c)
	})
}

// history is a job's exceptions as text, for failures of a test.
func (r rest) history(t *testing.T, id string) string {
	all, err := r.exceptions(t.Context(), id)
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	for _, e := range all {
		fmt.Fprintf(&b, "\n%s %s: %s", time.UnixMilli(e.At).UTC().Format("15:04:05.000"), e.Code, e.Detail)
	}
	return b.String()
}
