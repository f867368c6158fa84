package nexmark

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/millrace/millrace/bench/rig"
)

// watch follows a run: it looks for the end often, at memory some times a
// second, at what workers report and for progress once a second.
type watch struct {
	*run
	began     time.Time
	peak      uint64
	collector Collector
	// done is the number of events that the source has read.
	done int64
}

// untilEnd returns the job as it ended.
func (w *watch) untilEnd(ctx context.Context) (*job, error) {
	for n := 0; ; n++ {
		j, err := w.look(ctx)
		if err != nil {
			return nil, err
		}
		if n%4 == 0 {
			u, err := rig.UsageOf(w.nodes.PIDs()...)
			if err != nil {
				return nil, fmt.Errorf("a process of the cluster has ended: %w\n%s", err, w.nodes.Logged)
			}
			w.peak = max(w.peak, u.Resident)
		}
		if j.State == "FINISHED" {
			return j, nil
		}
		if n%20 == 0 {
			if err := w.collected(ctx); err != nil {
				return nil, err
			}
			w.progress(j)
		}
		if err := rig.Pause(ctx, 50*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// progress says how many events have been read. The source is the vertex that
// reads nothing.
func (w *watch) progress(j *job) {
	var done int64
	for _, v := range j.Vertices {
		if v.Metrics.Read == 0 {
			done = max(done, v.Metrics.Written)
		}
	}
	w.done = max(w.done, done)
	took := time.Since(w.began).Round(time.Second)
	if w.done == 0 {
		w.say("running for %v", took)
		return
	}
	w.say("running for %v, %d of %d events (%d %%)", took, w.done, w.Events, 100*min(w.done, w.Events)/w.Events)
}

// collected asks what the workers' collectors have used. The figures of workers
// go with the job, so those of the last look are kept.
func (w *watch) collected(ctx context.Context) error {
	var all struct {
		TaskManagers []struct{ ID string }
	}
	if err := w.api.Do(ctx, http.MethodGet, "/taskmanagers", "", nil, &all); err != nil {
		return err
	}
	const cpu, gc, longest = "Status.Workers.CPU", "Status.Workers.GarbageCollector.CPU", "Status.Workers.GarbageCollector.LongestTime"
	sum := map[string]float64{}
	for _, tm := range all.TaskManagers {
		var figures []struct{ ID, Value string }
		path := "/taskmanagers/" + url.PathEscape(tm.ID) + "/metrics?get=" + cpu + "," + gc + "," + longest
		if err := w.api.Do(ctx, http.MethodGet, path, "", nil, &figures); err != nil {
			return err
		}
		for _, f := range figures {
			v, err := strconv.ParseFloat(f.Value, 64)
			if err != nil {
				return fmt.Errorf("GET %s: %s is %q: %w", path, f.ID, f.Value, err)
			}
			if f.ID == longest {
				sum[f.ID] = max(sum[f.ID], v)
				continue
			}
			sum[f.ID] += v
		}
	}
	if sum[cpu] > 0 {
		share := sum[gc] / sum[cpu]
		w.collector = Collector{CPUShare: &share, LongestPause: max(w.collector.LongestPause, sum[longest])}
	}
	return nil
}
