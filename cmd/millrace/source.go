package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/api"
	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/checkpoint"
	"github.com/millrace/millrace/checkpoint/inspect"
	"github.com/millrace/millrace/checkpoint/manifest"
	"github.com/millrace/millrace/jobmanager/journal"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// savepointFlags say where savepoints are read: by a cluster, or here from its
// bucket.
type savepointFlags struct {
	restFlags
	Bucket string `placeholder:"URL" help:"Read this bucket directly, so that no cluster needs to run: a folder, file:///path or s3://…"`
}

// savepointSource is where savepoints are read.
type savepointSource interface {
	list(ctx context.Context) (*savepointList, error)
	details(ctx context.Context, path string) (*inspect.Summary, error)
	// rows gives at most limit rows, all of them for 0; more says that there
	// are others.
	rows(ctx context.Context, path, operator string, key *string, limit int, yield func(*inspect.Row) error) (more bool, err error)
	verify(ctx context.Context, path string, p *progress) (*inspect.Report, error)
	close()
}

func (f savepointFlags) source(ctx context.Context) (savepointSource, error) {
	if f.Bucket == "" {
		r, err := f.open()
		return remote{r}, err
	}
	// Opening a folder makes it; a wrong one is to be told.
	folder, isFile := strings.CutPrefix(f.Bucket, "file://")
	if isFile || !strings.Contains(f.Bucket, "://") {
		if info, err := os.Stat(folder); err != nil || !info.IsDir() {
			return nil, usageError{fmt.Errorf("--bucket %s is no folder", f.Bucket)}
		}
	}
	b, err := blob.Open(ctx, f.Bucket)
	if err != nil {
		return nil, fmt.Errorf("--bucket %s: %w", f.Bucket, err)
	}
	return local{b}, nil
}

// local reads a bucket.
type local struct{ bucket blob.Bucket }

func (l local) close() { _ = l.bucket.Close() }

func (l local) list(ctx context.Context) (*savepointList, error) {
	fold, err := journal.Read(ctx, l.bucket)
	if err != nil {
		return nil, err
	}
	all := &savepointList{Savepoints: []savepointEntry{}}
	for _, s := range fold.GetSavepoints() {
		all.Savepoints = append(all.Savepoints, savepointEntry{s.GetJobId(), s.GetCheckpointId(), checkpoint.PathOf(s.GetManifest()),
			s.GetCompletedMs(), s.GetTerminal(), s.GetDrained()})
	}
	return all, nil
}

// manifest reads the manifest that a path means.
func (l local) manifest(ctx context.Context, path string) (string, *pb.Manifest, error) {
	for _, key := range checkpoint.ManifestKeys(l.bucket.URL(), path) {
		m, err := manifest.Read(ctx, l.bucket, key)
		if errors.Is(err, blob.ErrNotFound) {
			continue
		}
		return key, m, err
	}
	return "", nil, l.none(path)
}

func (l local) none(path string) error {
	return api.Errorf(api.SavepointNotFound, "savepoint %s is not in bucket %s", path, l.bucket.URL())
}

func (l local) details(ctx context.Context, path string) (*inspect.Summary, error) {
	key, m, err := l.manifest(ctx, path)
	if err != nil {
		return nil, err
	}
	return inspect.Summarize(checkpoint.PathOf(key), m)
}

func (l local) rows(ctx context.Context, path, operator string, key *string, limit int, yield func(*inspect.Row) error) (more bool, err error) {
	_, m, err := l.manifest(ctx, path)
	if err != nil {
		return false, err
	}
	q := inspect.Query{Key: key}
	if q.Operator, q.State, err = inspect.Select(m, operator); err != nil {
		return false, err
	}
	n := 0
	err = inspect.Rows(ctx, l.bucket, m, q, func(row *inspect.Row) error {
		if more = limit > 0 && n == limit; more {
			return inspect.ErrEnough
		}
		n++
		return yield(row)
	})
	return more, err
}

func (l local) verify(ctx context.Context, path string, p *progress) (*inspect.Report, error) {
	for _, key := range checkpoint.ManifestKeys(l.bucket.URL(), path) {
		rep, err := inspect.Verify(ctx, l.bucket, key, func(done, of int) { p.say("%d of %d runs are read", done, of) })
		if !errors.Is(err, blob.ErrNotFound) {
			return rep, err
		}
	}
	return nil, l.none(path)
}

// remote asks a job manager.
type remote struct{ *rest }

func (remote) close() {}

func (r remote) list(ctx context.Context) (*savepointList, error) {
	all := &savepointList{}
	_, err := r.get(ctx, "/savepoints", all)
	return all, err
}

func (r remote) details(ctx context.Context, path string) (*inspect.Summary, error) {
	s := &inspect.Summary{}
	_, err := r.get(ctx, "/savepoints/details?"+url.Values{"path": {path}}.Encode(), s)
	return s, err
}

// stateLine is one line of an answer: a row, or the last one.
type stateLine struct {
	inspect.Row
	Rows  *int `json:"rows"`
	More  bool `json:"more"`
	Error *struct {
		Errors []string `json:"errors"`
	} `json:"error"`
}

func (r remote) rows(ctx context.Context, path, operator string, key *string, limit int, yield func(*inspect.Row) error) (more bool, err error) {
	q := url.Values{"path": {path}, "operator": {operator}, "limit": {strconv.Itoa(limit)}}
	if key != nil {
		q.Set("key", *key)
	}
	body, err := r.stream(ctx, http.MethodGet, "/savepoints/state?"+q.Encode(), nil, "")
	if err != nil {
		return false, err
	}
	defer body.Close()
	in := bufio.NewReaderSize(body, 64<<10)
	for {
		text, err := in.ReadBytes('\n')
		if err != nil {
			return false, fmt.Errorf("the answer ends before its last row: %w", err)
		}
		var line stateLine
		if err := json.Unmarshal(bytes.TrimSpace(text), &line); err != nil {
			return false, fmt.Errorf("answer of /savepoints/state: %w", err)
		}
		switch {
		case line.Error != nil:
			return false, errors.New(strings.Join(line.Error.Errors, "; "))
		case line.Rows != nil:
			return line.More, nil
		}
		if err := yield(&line.Row); err != nil {
			return false, err
		}
	}
}

func (r remote) verify(ctx context.Context, path string, p *progress) (*inspect.Report, error) {
	var trigger struct {
		ID string `json:"request-id"`
	}
	if _, err := r.post(ctx, "/savepoint-verification", map[string]any{"savepoint-path": path}, &trigger); err != nil {
		return nil, err
	}
	var status struct {
		Status    struct{ ID string }
		Operation struct {
			Report  *inspect.Report
			Failure *struct {
				Trace string `json:"stack-trace"`
			} `json:"failure-cause"`
		}
	}
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, 500*time.Millisecond) {
		if _, err := r.get(ctx, "/savepoint-verification/"+trigger.ID, &status); err != nil {
			return nil, err
		}
		if f := status.Operation.Failure; f != nil {
			return nil, errors.New(f.Trace)
		}
		if status.Status.ID == "COMPLETED" {
			return status.Operation.Report, nil
		}
		p.say("the job manager reads %s", path)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(wait):
		}
	}
}
