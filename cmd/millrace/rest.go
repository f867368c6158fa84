package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// restFlags say where the REST API is.
type restFlags struct {
	REST      string `name:"rest" env:"MILLRACE_REST" default:"127.0.0.1:8081" placeholder:"HOST:PORT" help:"Address of the REST API (${default})."`
	RestToken string `name:"rest-token" env:"MILLRACE_REST_TOKEN" type:"path" placeholder:"FILE" help:"File with the bearer token of the REST API."`
	RestCA    string `name:"rest-ca" env:"MILLRACE_REST_CA" type:"path" placeholder:"FILE" help:"Certificate authority of the REST API, in PEM."`
}

// rest is a client of the REST API.
type rest struct {
	base   string
	token  string
	client *http.Client
}

func (f restFlags) open() (*rest, error) {
	r := &rest{base: f.REST, client: &http.Client{}}
	if !strings.Contains(r.base, "://") {
		scheme := "http://"
		if f.RestCA != "" {
			scheme = "https://"
		}
		r.base = scheme + r.base
	}
	r.base = strings.TrimSuffix(r.base, "/")
	var err error
	if r.token, err = readToken(f.RestToken); err != nil {
		return nil, err
	}
	if f.RestCA != "" {
		pem, err := os.ReadFile(f.RestCA)
		if err != nil {
			return nil, fmt.Errorf("--rest-ca: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, usageError{fmt.Errorf("--rest-ca: %s holds no certificate in PEM form", f.RestCA)}
		}
		r.client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	}
	return r, nil
}

// readToken reads a token file; no file is no token.
func readToken(file string) (string, error) {
	if file == "" {
		return "", nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("--rest-token: %w", err)
	}
	token := strings.TrimSpace(string(b))
	if token == "" {
		return "", usageError{fmt.Errorf("--rest-token: %s is empty", file)}
	}
	return token, nil
}

// do sends a request and returns the body of a 2xx answer.
func (r *rest) do(ctx context.Context, method, path string, body io.Reader, contentType string) ([]byte, error) {
	answer, err := r.stream(ctx, method, path, body, contentType)
	if err != nil {
		return nil, err
	}
	defer answer.Close()
	b, err := io.ReadAll(answer)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	return b, nil
}

// stream is do for answers that are too large to hold.
func (r *rest) stream(ctx context.Context, method, path string, body io.Reader, contentType string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, r.base+"/v1"+path, body)
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if r.token != "" {
		req.Header.Set("Authorization", "Bearer "+r.token)
	}
	res, err := r.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("the REST API at %s does not answer (is `millrace up` running, or is --rest another?): %w", r.base, err)
	}
	if res.StatusCode/100 == 2 {
		return res.Body, nil
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil, restError(method, path, res, answer)
}

// restError makes an error of an answer's own words.
func restError(method, path string, res *http.Response, body []byte) error {
	var problem struct {
		Errors []string `json:"errors"`
		Remedy string   `json:"remedy"`
	}
	if json.Unmarshal(body, &problem) == nil && len(problem.Errors) > 0 {
		text := strings.Join(problem.Errors, "; ")
		if problem.Remedy != "" && !strings.Contains(text, problem.Remedy) {
			text += "\n  " + problem.Remedy
		}
		return fmt.Errorf("%s", text)
	}
	return fmt.Errorf("%s %s: %s", method, path, res.Status)
}

// get decodes the answer of a GET.
func (r *rest) get(ctx context.Context, path string, v any) ([]byte, error) {
	body, err := r.do(ctx, http.MethodGet, path, nil, "")
	if err != nil {
		return nil, err
	}
	if v == nil {
		return body, nil
	}
	if err := json.Unmarshal(body, v); err != nil {
		return nil, fmt.Errorf("GET %s: %w", path, err)
	}
	return body, nil
}

// post sends JSON and decodes the answer.
func (r *rest) post(ctx context.Context, path string, in, out any) ([]byte, error) {
	b, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	body, err := r.do(ctx, http.MethodPost, path, bytes.NewReader(b), "application/json")
	if err != nil || out == nil {
		return body, err
	}
	return body, json.Unmarshal(body, out)
}

// jobSummary is one job of /jobs/overview.
type jobSummary struct {
	ID       string           `json:"jid"`
	Name     string           `json:"name"`
	State    string           `json:"state"`
	Start    int64            `json:"start-time"`
	End      int64            `json:"end-time"`
	Duration int64            `json:"duration"`
	Tasks    map[string]int64 `json:"tasks"`
}

func (r *rest) jobs(ctx context.Context) ([]jobSummary, []byte, error) {
	var all struct {
		Jobs []jobSummary `json:"jobs"`
	}
	body, err := r.get(ctx, "/jobs/overview", &all)
	return all.Jobs, body, err
}

// find resolves what a user calls a job: an id, a unique prefix of one, or a
// unique name. Where several have the name, one that has not ended wins.
func (r *rest) find(ctx context.Context, ref string) (jobSummary, error) {
	jobs, _, err := r.jobs(ctx)
	if err != nil {
		return jobSummary{}, err
	}
	return findJob(jobs, ref)
}

func findJob(jobs []jobSummary, ref string) (jobSummary, error) {
	if ref == "" {
		return jobSummary{}, usageError{fmt.Errorf("which job? Give an id, a unique prefix of one, or a name (millrace list)")}
	}
	var byPrefix, byName, live []jobSummary
	for _, j := range jobs {
		if j.ID == ref {
			return j, nil
		}
		if strings.HasPrefix(j.ID, ref) {
			byPrefix = append(byPrefix, j)
		}
		if j.Name == ref {
			byName = append(byName, j)
			if !ended(j.State) {
				live = append(live, j)
			}
		}
	}
	for _, found := range [][]jobSummary{live, byName, byPrefix} {
		switch {
		case len(found) == 1:
			return found[0], nil
		case len(found) > 1:
			ids := make([]string, len(found))
			for i, j := range found {
				ids[i] = fmt.Sprintf("%s (%s, %s)", j.ID, j.Name, j.State)
			}
			return jobSummary{}, usageError{fmt.Errorf("%q means %d jobs: give an id\n  %s", ref, len(found), strings.Join(ids, "\n  "))}
		}
	}
	return jobSummary{}, fmt.Errorf("no job has the id, prefix or name %q (millrace list)", ref)
}

func ended(state string) bool {
	return state == "FINISHED" || state == "CANCELED" || state == "FAILED"
}

// poll calls f every so often until it says done, an error, or the time is up.
func poll(ctx context.Context, limit time.Duration, what string, f func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, 200*time.Millisecond) {
		done, err := f()
		if err != nil || done {
			return err
		}
		select {
		case <-ctx.Done():
			if context.Cause(ctx) == context.DeadlineExceeded {
				return fmt.Errorf("%s took longer than %v: %w", what, limit, errTimeout)
			}
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}
