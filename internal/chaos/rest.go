//go:build linux

package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// web is how the run talks HTTP; no connection outlives it.
var web = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// get reads one resource of the REST API.
func get(ctx context.Context, base, path string, out any) error {
	b, err := ask(ctx, http.MethodGet, base, path, nil)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, out)
}

// patch asks for a change of a resource.
func patch(ctx context.Context, base, path string, change any) error {
	body, err := json.Marshal(change)
	if err == nil {
		_, err = ask(ctx, http.MethodPatch, base, path, bytes.NewReader(body))
	}
	return err
}

func ask(ctx context.Context, method, base, path string, body io.Reader) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, base+"/v1"+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := web.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	if res.StatusCode/100 != 2 {
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, res.Status, b)
	}
	return b, nil
}

// jobDetails is what a run reads of a job.
type jobDetails struct {
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

func (d jobDetails) ended() bool {
	return d.State == "FAILED" || d.State == "FINISHED" || d.State == "CANCELED"
}

func (d jobDetails) String() string {
	s := fmt.Sprintf("%s, epoch %d, %d restarts", d.State, d.Epoch, d.Restarts)
	if d.Waiting != "" {
		s += ", " + d.Waiting
	}
	return s
}

// exception is one of a job's history.
type exception struct {
	Code   string `json:"code"`
	Detail string `json:"detail"`
	At     int64  `json:"timestamp"`
}

func exceptions(ctx context.Context, base, job string) ([]exception, error) {
	var out struct {
		History struct {
			Entries []exception `json:"entries"`
		} `json:"exceptionHistory"`
	}
	err := get(ctx, base, "/jobs/"+job+"/exceptions", &out)
	return out.History.Entries, err
}
