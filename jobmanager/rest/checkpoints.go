package rest

import (
	"cmp"
	"context"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/api"
	"github.com/millrace/millrace/checkpoint"
	"github.com/millrace/millrace/job"
	"github.com/millrace/millrace/jobmanager/dispatch"
)

func (s *Server) checkpoints(r *http.Request) (any, error) {
	v, err := s.view(r)
	if err != nil {
		return nil, err
	}
	h := v.Checkpoints
	history := []obj{}
	for _, st := range h.Recent {
		history = append(history, checkpointEntry(st, v.now))
	}
	last := obj{"completed": nil, "savepoint": nil, "failed": nil, "restored": nil}
	for name, st := range map[string]*checkpoint.Stats{"completed": h.LatestCompleted, "savepoint": h.LatestSavepoint, "failed": h.LatestFailed} {
		if st != nil {
			last[name] = checkpointEntry(*st, v.now)
		}
	}
	if h.Restored != nil {
		last["restored"] = obj{"id": h.Restored.ID, "restore_timestamp": h.Restored.At.UnixMilli(),
			"is_savepoint": h.Restored.Savepoint, "external_path": h.Restored.Path}
	}
	return obj{
		"counts": obj{"restored": h.Counts.Restored, "total": h.Counts.Total, "in_progress": h.Counts.InProgress,
			"completed": h.Counts.Completed, "failed": h.Counts.Failed},
		"summary": obj{"checkpointed_size": statistics(h.CheckpointedSize, 1), "state_size": statistics(h.StateSize, 1),
			"end_to_end_duration": statistics(h.Duration, 1)},
		"latest": last, "history": history,
	}, nil
}

// statistics of nothing are Flink's text "NaN".
func statistics(s checkpoint.Summary, scale float64) obj {
	if s.Count == 0 {
		o := obj{}
		for _, k := range []string{"min", "max", "avg", "p50", "p90", "p95", "p99", "p999"} {
			o[k] = "NaN"
		}
		return o
	}
	n := func(v float64) any { return math.Round(v * scale) }
	return obj{"min": n(s.Min), "max": n(s.Max), "avg": n(s.Avg), "p50": n(s.P50), "p90": n(s.P90), "p95": n(s.P95), "p99": n(s.P99), "p999": n(s.P999)}
}

// checkpointEntry is a checkpoint in Flink's shape, without its subtasks.
func checkpointEntry(st checkpoint.Stats, now time.Time) obj {
	kind := "CHECKPOINT"
	switch {
	case st.Savepoint && st.Terminal:
		kind = "SYNC_SAVEPOINT"
	case st.Savepoint:
		kind = "SAVEPOINT"
	}
	o := obj{
		"className": strings.ToLower(st.Status.String()), "id": st.ID, "status": st.Status.String(),
		"is_savepoint": st.Savepoint, "trigger_timestamp": st.Triggered.UnixMilli(), "latest_ack_timestamp": ms(st.LatestAck),
		"checkpointed_size": st.CheckpointedSize, "state_size": st.StateSize, "end_to_end_duration": st.Duration(now).Milliseconds(),
		"num_subtasks": st.Subtasks, "num_acknowledged_subtasks": st.Acknowledged, "checkpoint_type": kind,
		"epoch": st.Epoch, "early": st.Early, "tasks": obj{},
	}
	if st.Savepoint {
		o["savepointFormat"] = "CANONICAL"
	}
	switch st.Status {
	case checkpoint.Completed:
		o["external_path"], o["discarded"] = st.Path, st.Discarded
		if !st.Committed.IsZero() {
			o["committed_timestamp"] = st.Committed.UnixMilli()
		}
	case checkpoint.Failed:
		o["failure_timestamp"] = ms(st.Ended)
		if st.Failure != nil {
			o["failure_message"], o["failure_code"] = st.Failure.GetMessage(), st.Failure.GetCode()
		}
	}
	return o
}

func (s *Server) checkpointConfig(r *http.Request) (any, error) {
	j, err := s.job(r)
	if err != nil {
		return nil, err
	}
	c := j.Submitted.GetGraph().GetConfig()
	o := obj{
		"mode": "exactly_once", "interval": c.GetCheckpointIntervalMs(), "timeout": c.GetCheckpointTimeoutMs(),
		"max_concurrent": 1, "unaligned_checkpoints": false, "state_backend": cmp.Or(c.GetStateBackend(), job.BackendMemory), "checkpoint_storage": "bucket",
		"tolerable_failed_checkpoints": c.GetTolerableCheckpointFailures(),
		"externalization":              obj{"enabled": true, "delete_on_cancellation": false}, "retained": c.GetRetainedCheckpoints(),
	}
	if c.GetCheckpointIntervalMs() == 0 {
		o["interval"] = int64(math.MaxInt64) // Flink's value for none
	}
	return o, nil
}

// checkpointStats finds a checkpoint that is remembered.
func (s *Server) checkpointStats(r *http.Request) (view, checkpoint.Stats, error) {
	v, err := s.view(r)
	if err != nil {
		return v, checkpoint.Stats{}, err
	}
	id, err := checkpoint.ParseID(r.PathValue("checkpointid"))
	if err != nil {
		return v, checkpoint.Stats{}, api.Errorf(api.MalformedID, "%w", err)
	}
	all := v.Checkpoints.Recent
	for _, l := range []*checkpoint.Stats{v.Checkpoints.LatestCompleted, v.Checkpoints.LatestSavepoint, v.Checkpoints.LatestFailed} {
		if l != nil {
			all = append(all, *l)
		}
	}
	for _, st := range all {
		if st.ID == id {
			return v, st, nil
		}
	}
	return v, checkpoint.Stats{}, api.Errorf(api.CheckpointNotFound, "checkpoint %d of job %s is not remembered", id, v.ID)
}

func (s *Server) checkpointDetails(r *http.Request) (any, error) {
	v, st, err := s.checkpointStats(r)
	if err != nil {
		return nil, err
	}
	o := checkpointEntry(st, v.now)
	tasks := obj{}
	for _, g := range v.Graph.GetVertices() {
		acks := st.Tasks[g.GetId()]
		t := obj{"id": st.ID, "status": st.Status.String(), "num_subtasks": g.GetParallelism(), "num_acknowledged_subtasks": len(acks)}
		addAcks(t, st, acks)
		tasks[g.GetId()] = t
	}
	o["tasks"] = tasks
	return o, nil
}

// addAcks sums what subtasks acknowledged; without any, nothing is known.
func addAcks(o obj, st checkpoint.Stats, acks []checkpoint.TaskStats) {
	o["latest_ack_timestamp"] = int64(-1)
	if len(acks) == 0 {
		return
	}
	var size, state uint64
	var last time.Time
	for _, a := range acks {
		size, state = size+a.CheckpointedSize, state+a.StateSize
		if a.Ack.After(last) {
			last = a.Ack
		}
	}
	o["checkpointed_size"], o["state_size"] = size, state
	o["latest_ack_timestamp"], o["end_to_end_duration"] = last.UnixMilli(), last.Sub(st.Triggered).Milliseconds()
}

func (s *Server) checkpointSubtasks(r *http.Request) (any, error) {
	v, st, err := s.checkpointStats(r)
	if err != nil {
		return nil, err
	}
	id, err := hexID(r, "vertexid")
	if err != nil {
		return nil, err
	}
	for _, g := range v.Graph.GetVertices() {
		if g.GetId() != id {
			continue
		}
		acks := st.Tasks[id]
		byTask := make([]*checkpoint.TaskStats, g.GetParallelism())
		for i := range acks {
			if a := &acks[i]; a.Subtask < len(byTask) {
				byTask[a.Subtask] = a
			}
		}
		subtasks := []obj{}
		for i, a := range byTask {
			if a == nil {
				subtasks = append(subtasks, obj{"className": "pending_or_failed", "index": i, "status": "pending_or_failed"})
				continue
			}
			subtasks = append(subtasks, obj{
				"className": "completed", "index": i, "status": "completed", "ack_timestamp": ms(a.Ack),
				"end_to_end_duration": a.Ack.Sub(st.Triggered).Milliseconds(),
				"checkpointed_size":   a.CheckpointedSize, "state_size": a.StateSize, "start_delay": a.StartDelay.Milliseconds(),
				"checkpoint": obj{"sync": a.Sync.Milliseconds(), "async": a.Async.Milliseconds()},
				"alignment":  obj{"duration": a.Alignment.Milliseconds()}, "unaligned_checkpoint": false, "aborted": false,
			})
		}
		o := obj{"id": st.ID, "status": st.Status.String(), "num_subtasks": len(byTask), "num_acknowledged_subtasks": len(acks), "subtasks": subtasks}
		addAcks(o, st, acks)
		return o, nil
	}
	return nil, api.Errorf(api.VertexNotFound, "job %s has no vertex %s", v.ID, id)
}

func (s *Server) triggerCheckpoint(r *http.Request) (any, error) {
	j, err := s.job(r)
	if err != nil {
		return nil, err
	}
	var body struct {
		Type      string `json:"checkpointType"`
		TriggerID string `json:"triggerId"`
	}
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	switch body.Type {
	case "", "CONFIGURED", "INCREMENTAL", "FULL":
	default:
		return nil, api.Errorf(api.BadRequest, "checkpointType %q: want CONFIGURED, INCREMENTAL or FULL", body.Type)
	}
	return s.triggers.start("checkpoint", j.ID, body.TriggerID, func(ctx context.Context) (obj, error) {
		res, err := j.Checkpoint(ctx, body.Type == "FULL")
		if err != nil {
			return nil, err
		}
		return obj{"checkpointId": res.CheckpointID}, nil
	})
}

func (s *Server) checkpointStatus(r *http.Request) (any, error) {
	j, err := s.job(r)
	if err != nil {
		return nil, err
	}
	return s.triggers.poll("checkpoint", j.ID, r, "failureCause")
}

// savepoint starts what ends with a savepoint.
func (s *Server) savepoint(j *dispatch.Job, triggerID string, take func(context.Context) (path string, err error)) (any, error) {
	return s.triggers.start("savepoint", j.ID, triggerID, func(ctx context.Context) (obj, error) {
		path, err := take(ctx)
		if err != nil {
			return nil, err
		}
		return obj{"location": path}, nil
	})
}

func (s *Server) triggerSavepoint(r *http.Request) (any, error) {
	j, err := s.job(r)
	if err != nil {
		return nil, err
	}
	var body struct {
		Directory string `json:"target-directory"`
		Cancel    bool   `json:"cancel-job"`
		Format    string `json:"formatType"`
		TriggerID string `json:"triggerId"`
	}
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	directory, err := s.savepointTarget(body.Format, body.Directory)
	if err != nil {
		return nil, err
	}
	return s.savepoint(j, body.TriggerID, func(ctx context.Context) (string, error) {
		if body.Cancel {
			res, err := j.Stop(ctx, false, directory)
			return res.Path, err
		}
		res, err := j.Savepoint(ctx, directory)
		return res.Path, err
	})
}

// savepointTarget checks what a savepoint is asked to be and returns the bucket
// prefix of its directory.
func (s *Server) savepointTarget(format, directory string) (string, error) {
	switch format {
	case "", "CANONICAL", "NATIVE":
	default:
		return "", api.Errorf(api.BadRequest, "formatType %q: want CANONICAL or NATIVE", format)
	}
	if len(directory) > 512 {
		return "", api.Errorf(api.NameTooLong, "savepoint directory has %d bytes, at most 512 are allowed", len(directory))
	}
	return s.d.SavepointDirectory(directory)
}

func (s *Server) stopJob(r *http.Request) (any, error) {
	j, err := s.job(r)
	if err != nil {
		return nil, err
	}
	var body struct {
		Directory string `json:"targetDirectory"`
		Drain     bool   `json:"drain"`
		Format    string `json:"formatType"`
		TriggerID string `json:"triggerId"`
	}
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	directory, err := s.savepointTarget(body.Format, body.Directory)
	if err != nil {
		return nil, err
	}
	return s.savepoint(j, body.TriggerID, func(ctx context.Context) (string, error) {
		res, err := j.Stop(ctx, body.Drain, directory)
		return res.Path, err
	})
}

func (s *Server) savepointStatus(r *http.Request) (any, error) {
	j, err := s.job(r)
	if err != nil {
		return nil, err
	}
	return s.triggers.poll("savepoint", j.ID, r, "failure-cause")
}

// disposeSavepoint answers 200, not 202, as Flink does.
func (s *Server) disposeSavepoint(r *http.Request) (any, error) {
	var body struct {
		Path      string `json:"savepoint-path"`
		TriggerID string `json:"triggerId"`
	}
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	if body.Path == "" {
		return nil, api.Errorf(api.BadRequest, "savepoint-path is missing")
	}
	a, err := s.triggers.start("disposal", "", body.TriggerID, func(ctx context.Context) (obj, error) {
		return obj{}, s.d.Dispose(ctx, body.Path)
	})
	if acc, ok := a.(accepted); ok {
		return acc.body, nil
	}
	return a, err
}

func (s *Server) disposalStatus(r *http.Request) (any, error) {
	return s.triggers.poll("disposal", "", r, "failure-cause")
}

// atoi reads a number of a query or body, 0 where it is empty.
func atoi(name, q string) (int, error) {
	if q == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(q)
	if err != nil {
		return 0, api.Errorf(api.BadRequest, "%s=%q is not a number", name, q)
	}
	return n, nil
}
