package rig

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
	"time"
)

// REST is a client of the REST API.
type REST struct{ Base string }

// Do makes a request and decodes the answer into out, unless that is nil.
func (r REST) Do(ctx context.Context, method, path, contentType string, body []byte, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, r.Base+path, bytes.NewReader(body))
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
		return fmt.Errorf("%s %s: %s: %s", method, path, res.Status, reason(answer))
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}

// reason is what the answer to a refused request says for people: its errors, or
// all of it where it has none.
func reason(answer []byte) string {
	var problem struct{ Errors []string }
	if json.Unmarshal(answer, &problem) != nil || len(problem.Errors) == 0 {
		return string(answer)
	}
	return strings.Join(problem.Errors, "; ")
}

// Form is the upload of a binary, made before the clock starts.
func Form(file string) (contentType string, body []byte, err error) {
	binary, err := os.ReadFile(file)
	if err != nil {
		return "", nil, err
	}
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	part, err := w.CreateFormFile("jarfile", filepath.Base(file))
	if err != nil {
		return "", nil, err
	}
	if _, err := part.Write(binary); err != nil {
		return "", nil, err
	}
	if err := w.Close(); err != nil {
		return "", nil, err
	}
	return w.FormDataContentType(), b.Bytes(), nil
}

// Upload returns the id of the uploaded binary.
func (r REST) Upload(ctx context.Context, contentType string, body []byte) (string, error) {
	var jar struct{ Filename string }
	err := r.Do(ctx, http.MethodPost, "/jars/upload", contentType, body, &jar)
	return path.Base(jar.Filename), err
}

// Run starts the job of a binary.
func (r REST) Run(ctx context.Context, jar string, args ...string) (string, error) {
	var job struct{ JobID string }
	err := r.Post(ctx, "/jars/"+jar+"/run", map[string]any{"programArgsList": args}, &job)
	return job.JobID, err
}

// Post sends in as JSON and decodes the answer into out, unless that is nil.
func (r REST) Post(ctx context.Context, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	return r.Do(ctx, http.MethodPost, path, "application/json", body, out)
}

// Cancel ends a job and waits until it has.
func (r REST) Cancel(ctx context.Context, job string) error {
	if err := r.Do(ctx, http.MethodPatch, "/jobs/"+job+"?mode=cancel", "", nil, nil); err != nil {
		return err
	}
	return r.Wait(ctx, job, "CANCELED")
}

// Wait polls until a job is in a state.
func (r REST) Wait(ctx context.Context, job, state string) error {
	for {
		var s struct{ State string }
		if err := r.Do(ctx, http.MethodGet, "/jobs/"+job, "", nil, &s); err != nil {
			return err
		}
		if s.State == state {
			return nil
		}
		if err := Pause(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("job %s is %s, not %s: %w", job, s.State, state, err)
		}
	}
}

// Recovery is one entry of /jobs/{id}/recovery, in milliseconds since 1970;
// zero is not yet.
type Recovery struct {
	Failed      int64  `json:"failed"`
	Restarted   int64  `json:"restarted"`
	FirstOutput int64  `json:"first-output"`
	Visible     int64  `json:"visible"`
	Cause       string `json:"cause"`
}

// Recovered polls until a job's first recovery is complete. It is an error if
// the job failed before it was made to.
func (r REST) Recovered(ctx context.Context, job string, killed time.Time) (Recovery, error) {
	for {
		var all struct {
			Recoveries []Recovery `json:"recoveries"`
		}
		if err := r.Do(ctx, http.MethodGet, "/jobs/"+job+"/recovery", "", nil, &all); err != nil {
			return Recovery{}, err
		}
		if len(all.Recoveries) > 0 {
			switch first := all.Recoveries[0]; {
			case first.Failed < killed.UnixMilli():
				return Recovery{}, fmt.Errorf("job %s failed before its worker was killed: %s", job, first.Cause)
			case first.Visible > 0:
				return first, nil
			}
		}
		if err := Pause(ctx, 50*time.Millisecond); err != nil {
			return Recovery{}, fmt.Errorf("recovery of job %s, so far %+v: %w", job, all.Recoveries, err)
		}
	}
}

// Worker finds the process that runs a job's tasks.
func (r REST) Worker(ctx context.Context, job string) (pid int, err error) {
	var all struct {
		TaskManagers []struct{ ID string }
	}
	if err := r.Do(ctx, http.MethodGet, "/taskmanagers", "", nil, &all); err != nil {
		return 0, err
	}
	for _, tm := range all.TaskManagers {
		var detail struct {
			Workers []struct {
				JobID string
				PID   int
			}
		}
		if err := r.Do(ctx, http.MethodGet, "/taskmanagers/"+tm.ID, "", nil, &detail); err != nil {
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
