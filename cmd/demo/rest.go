package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// rest is a client of the REST API.
type rest struct{ base string }

// jobStatus is what /jobs/{id} says of a job, as far as it is shown here.
type jobStatus struct {
	State    string `json:"state"`
	Restarts int    `json:"restarts"`
	Waiting  string `json:"waiting-for"`
	Cause    *struct {
		Trace string `json:"stack-trace"`
	} `json:"failure-cause"`
}

// checkpoints is what /jobs/{id}/checkpoints says.
type checkpoints struct {
	Counts struct {
		Completed int `json:"completed"`
	} `json:"counts"`
	Latest struct {
		Completed *struct {
			TookMs int64 `json:"end_to_end_duration"`
		} `json:"completed"`
	} `json:"latest"`
}

// recoveries is what /jobs/{id}/recovery says, in milliseconds since 1970. Zero
// is not yet.
type recoveries struct {
	FirstOutputMs int64      `json:"submit-to-first-output-ms"`
	All           []recovery `json:"recoveries"`
}

type recovery struct {
	Failed      int64  `json:"failed"`
	Restarted   int64  `json:"restarted"`
	FirstOutput int64  `json:"first-output"`
	Visible     int64  `json:"visible"`
	Cause       string `json:"cause"`
}

// since tells the steps of a recovery in time since a moment.
func (r recovery) since(killed int64) string {
	var steps []string
	for _, s := range []struct {
		name string
		at   int64
	}{{"noticed", r.Failed}, {"running", r.Restarted}, {"output at the sink", r.FirstOutput}, {"visible", r.Visible}} {
		if s.at > 0 {
			steps = append(steps, fmt.Sprintf("%s %d ms", s.name, s.at-killed))
		}
	}
	return strings.Join(steps, ", ") + " after SIGKILL"
}

// do sends a request and decodes the answer into out.
func (r rest) do(ctx context.Context, method, path, contentType string, body io.Reader, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, r.base+path, body)
	if err != nil {
		return err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if res.StatusCode/100 != 2 {
		var problem struct{ Errors []string }
		if json.Unmarshal(answer, &problem) == nil && len(problem.Errors) > 0 {
			return fmt.Errorf("%s %s: %s", method, path, strings.Join(problem.Errors, "; "))
		}
		return fmt.Errorf("%s %s: %s", method, path, res.Status)
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}

func (r rest) get(ctx context.Context, path string, out any) error {
	return r.do(ctx, http.MethodGet, path, "", nil, out)
}

// submit uploads a binary, starts its job and returns the job's id.
func (r rest) submit(ctx context.Context, file string) (string, error) {
	binary, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("jarfile", filepath.Base(file))
	if err != nil {
		return "", err
	}
	if _, err := part.Write(binary); err != nil {
		return "", err
	}
	if err := form.Close(); err != nil {
		return "", err
	}
	var jar struct{ Filename string }
	if err := r.do(ctx, http.MethodPost, "/jars/upload", form.FormDataContentType(), &body, &jar); err != nil {
		return "", err
	}
	var job struct{ JobID string }
	err = r.do(ctx, http.MethodPost, "/jars/"+path.Base(jar.Filename)+"/run", "application/json", strings.NewReader("{}"), &job)
	return job.JobID, err
}

// worker finds the process that runs a job's tasks.
func (r rest) worker(ctx context.Context, job string) (pid int, err error) {
	var all struct {
		TaskManagers []struct{ ID string }
	}
	if err := r.get(ctx, "/taskmanagers", &all); err != nil {
		return 0, err
	}
	for _, tm := range all.TaskManagers {
		var detail struct {
			Workers []struct {
				JobID string
				PID   int
			}
		}
		if err := r.get(ctx, "/taskmanagers/"+tm.ID, &detail); err != nil {
			return 0, err
		}
		for _, w := range detail.Workers {
			if w.JobID == job && w.PID > 0 {
				return w.PID, nil
			}
		}
	}
	return 0, errors.New("REST names no worker of job " + job)
}
