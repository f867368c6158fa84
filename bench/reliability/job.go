package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/bench/rig"
)

// accountBytes is what one account takes in a snapshot, with its key.
const accountBytes = 8 + 12*8

// submit runs the job with two subtasks.
func (b *bed) submit(ctx context.Context, cfg config, args ...string) (string, error) {
	return b.submitAt(ctx, cfg, 2, args...)
}

func (b *bed) submitAt(ctx context.Context, cfg config, parallelism int, args ...string) (string, error) {
	body, err := json.Marshal(map[string]any{
		"programArgsList": args, "parallelism": parallelism,
		"flinkConfiguration": map[string]string{
			"state.backend.type": cfg.backend,
			// Each failure is the first in a row: it is restarted from at once.
			"restart-strategy.exponential-delay.reset-backoff-threshold": "1s",
		},
	})
	if err != nil {
		return "", err
	}
	var job struct{ JobID string }
	if err := b.api.Do(ctx, http.MethodPost, "/jars/"+b.jar+"/run", "application/json", body, &job); err != nil {
		return "", err
	}
	return job.JobID, b.api.Wait(ctx, job.JobID, "RUNNING")
}

// written is how many records the job's source has given out in this attempt.
func (b *bed) written(ctx context.Context, job string) (int64, error) {
	var detail struct {
		Vertices []struct {
			Name    string
			Metrics map[string]any
		}
	}
	if err := b.api.Do(ctx, http.MethodGet, "/jobs/"+job, "", nil, &detail); err != nil {
		return 0, err
	}
	for _, v := range detail.Vertices {
		if strings.Contains(v.Name, "updates") {
			n, _ := v.Metrics["write-records"].(float64)
			return int64(n), nil
		}
	}
	return 0, fmt.Errorf("job %s has no vertex with the source", job)
}

// filled waits until every account is there, and a checkpoint has it.
func (b *bed) filled(ctx context.Context, job string, keys int) error {
	for {
		n, err := b.written(ctx, job)
		if err != nil {
			return err
		}
		if n >= int64(keys) {
			return b.completed(ctx, job)
		}
		if err := rig.Pause(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
}

// completed waits until a checkpoint that begins from now on is complete.
func (b *bed) completed(ctx context.Context, job string) error {
	began := time.Now()
	for {
		all, err := b.checkpoints(ctx, job)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(all, func(c checkpoint) bool { return c.Status == "COMPLETED" && c.triggered().After(began) }) {
			return nil
		}
		if time.Since(began) > 3*time.Minute {
			return fmt.Errorf("job %s has completed no checkpoint for 3 min: %+v", job, all)
		}
		if err := rig.Pause(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
}

// checkpoint is one entry of a job's history.
type checkpoint struct {
	ID         uint64 `json:"id"`
	Status     string `json:"status"`
	Triggered  int64  `json:"trigger_timestamp"`
	DurationMS int64  `json:"end_to_end_duration"`
	Written    int64  `json:"checkpointed_size"`
	State      int64  `json:"state_size"`
	Failure    string `json:"failure_message"`
}

func (c checkpoint) triggered() time.Time { return time.UnixMilli(c.Triggered) }

func (b *bed) checkpoints(ctx context.Context, job string) ([]checkpoint, error) {
	var all struct {
		History []checkpoint `json:"history"`
	}
	err := b.api.Do(ctx, http.MethodGet, "/jobs/"+job+"/checkpoints", "", nil, &all)
	return all.History, err
}

// watch collects the checkpoints that begin in a span of time, until they are
// complete or have failed, and counts the objects that are written meanwhile.
func (b *bed) watch(ctx context.Context, job string, span time.Duration) (checkpoints []checkpoint, objects int, err error) {
	began := time.Now()
	before, err := b.objects(job)
	if err != nil {
		return nil, 0, err
	}
	seen, written := map[uint64]checkpoint{}, map[string]int64{}
	for {
		all, err := b.checkpoints(ctx, job)
		if err != nil {
			return nil, 0, err
		}
		open := false
		for _, c := range all {
			if at := c.triggered(); at.Before(began) || at.After(began.Add(span)) {
				continue
			}
			seen[c.ID] = c
			open = open || c.Status == "IN_PROGRESS"
		}
		// An object stays until a later checkpoint is complete: none is missed.
		there, err := b.objects(job)
		if err != nil {
			return nil, 0, err
		}
		maps.Copy(written, there)
		if time.Since(began) > span && !open {
			break
		}
		if err := rig.Pause(ctx, 100*time.Millisecond); err != nil {
			return nil, 0, err
		}
	}
	maps.DeleteFunc(written, func(key string, _ int64) bool { _, old := before[key]; return old })
	byID := func(a, b checkpoint) int { return cmp.Compare(a.ID, b.ID) }
	return slices.SortedFunc(maps.Values(seen), byID), len(written), nil
}

// objects are the files of a job's checkpoints in the bucket, with their sizes.
func (b *bed) objects(job string) (map[string]int64, error) {
	all := map[string]int64{}
	root := filepath.Join(b.folder, "data", "bucket", "jobs", job)
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			var info fs.FileInfo
			if info, err = e.Info(); err == nil {
				all[path] = info.Size()
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // deleted meanwhile, or not there yet
		}
		return err
	})
	return all, err
}
