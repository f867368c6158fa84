package rest

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/api"
	"github.com/millrace/millrace/job"
	"github.com/millrace/millrace/jobmanager/dispatch"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// view is a job with its status as of one moment.
type view struct {
	*dispatch.Job
	job.Status
	now time.Time
}

func (s *Server) view(r *http.Request) (view, error) {
	j, err := s.job(r)
	if err != nil {
		return view{}, err
	}
	return s.viewOf(r, j)
}

func (s *Server) viewOf(r *http.Request, j *dispatch.Job) (view, error) {
	st, err := j.Status(r.Context())
	return view{j, st, s.d.Now()}, err
}

// started is when the job was submitted; end and last modification follow
// from its states.
func (v view) started() time.Time { return time.UnixMilli(v.Submitted.GetSubmittedMs()) }

func (v view) duration() int64 {
	if v.Ended.IsZero() {
		return v.now.Sub(v.started()).Milliseconds()
	}
	return v.Ended.Sub(v.started()).Milliseconds()
}

func (v view) lastModification() time.Time {
	last := v.started()
	for _, t := range v.Since {
		if t.After(last) {
			last = t
		}
	}
	return last
}

// taskStates are Flink's states of a task, in its order.
var taskStates = []string{"CREATED", "SCHEDULED", "DEPLOYING", "INITIALIZING", "RUNNING", "FINISHED", "CANCELING", "CANCELED", "FAILED", "RECONCILING"}

// countTasks counts tasks by state; all states are there.
func countTasks(vertices ...job.VertexStatus) map[string]int {
	counts := map[string]int{}
	for _, name := range taskStates {
		counts[name] = 0
	}
	for _, v := range vertices {
		for _, t := range v.Tasks {
			counts[t.State.String()]++
		}
	}
	return counts
}

func (s *Server) jobIDs(r *http.Request) (any, error) {
	list := []obj{}
	for _, j := range s.d.Jobs() {
		v, err := s.viewOf(r, j)
		if err != nil {
			return nil, err
		}
		list = append(list, obj{"id": v.ID, "status": v.State.String()})
	}
	return obj{"jobs": list}, nil
}

func (s *Server) jobsOverview(r *http.Request) (any, error) {
	list := []obj{}
	for _, j := range s.d.Jobs() {
		v, err := s.viewOf(r, j)
		if err != nil {
			return nil, err
		}
		total := 0
		tasks := obj{}
		for name, n := range countTasks(v.Vertices...) {
			tasks[strings.ToLower(name)] = n
			total += n
		}
		tasks["total"] = total
		list = append(list, obj{
			"jid": v.ID, "name": v.Submitted.GetName(), "jobType": "STREAMING", "schedulerType": "Default",
			"state": v.State.String(), "start-time": v.started().UnixMilli(), "end-time": ms(v.Ended),
			"duration": v.duration(), "last-modification": v.lastModification().UnixMilli(),
			"tasks": tasks,
		})
	}
	return obj{"jobs": list}, nil
}

func (s *Server) jobDetails(r *http.Request) (any, error) {
	v, err := s.view(r)
	if err != nil {
		return nil, err
	}
	timestamps := obj{}
	for state, t := range v.Since {
		timestamps[job.State(state).String()] = max(0, ms(t))
	}
	vertices := []obj{}
	maxParallelism := uint32(0)
	for i, g := range v.Graph.GetVertices() {
		maxParallelism = max(maxParallelism, g.GetMaxParallelism())
		vertices = append(vertices, s.vertexSummary(v, g, v.vertex(i)))
	}
	o := obj{
		"jid": v.ID, "name": v.Submitted.GetName(), "isStoppable": !v.State.Terminal(), "state": v.State.String(),
		"job-type": "STREAMING", "schedulerType": "Default",
		"start-time": v.started().UnixMilli(), "end-time": ms(v.Ended), "duration": v.duration(), "now": v.now.UnixMilli(),
		"maxParallelism": maxParallelism, "timestamps": timestamps, "status-counts": countTasks(v.Vertices...),
		"plan": plan(v.ID, v.Graph), "vertices": vertices,
		"binary": v.Submitted.GetBinary(), "args": append([]string{}, v.Submitted.GetArgs()...),
		"epoch": v.Epoch, "restarts": v.Restarts, "rescales": v.Rescalings,
	}
	if v.Rescaling != nil {
		o["rescaling"] = rescaling(v)
	}
	if v.Waiting != "" {
		o["waiting-for"] = v.Waiting
	}
	if v.Stopping != "" {
		o["stopping"] = v.Stopping
	}
	if v.Cause != nil {
		o["failure-cause"] = failure(api.FromProto(v.Cause))
	}
	return o, nil
}

// vertex is the status of the vertex at an index of the graph. A job that
// ended under an earlier leader has none.
func (v view) vertex(i int) job.VertexStatus {
	if i < len(v.Vertices) {
		return v.Vertices[i]
	}
	return job.VertexStatus{}
}

func (s *Server) jobPlan(r *http.Request) (any, error) {
	v, err := s.view(r)
	if err != nil {
		return nil, err
	}
	return obj{"plan": plan(v.ID, v.Graph)}, nil
}

var shipStrategy = map[pb.Ship]string{
	pb.Ship_SHIP_FORWARD: "FORWARD", pb.Ship_SHIP_HASH: "HASH", pb.Ship_SHIP_REBALANCE: "REBALANCE", pb.Ship_SHIP_BROADCAST: "BROADCAST",
	pb.Ship_SHIP_CUSTOM: "CUSTOM",
}

// plan is a job graph in Flink's shape.
func plan(id string, g *pb.JobGraph) obj {
	nodes := []obj{}
	for _, v := range g.GetVertices() {
		kinds := make([]string, 0, len(v.GetOperators()))
		for _, o := range v.GetOperators() {
			kinds = append(kinds, o.GetKind())
		}
		node := obj{
			"id": v.GetId(), "parallelism": v.GetParallelism(), "operator": strings.Join(kinds, " -> "),
			"operator_strategy": "", "description": v.GetName(), "optimizer_properties": obj{},
		}
		var inputs []obj
		for i, in := range v.GetInputs() {
			inputs = append(inputs, obj{"num": i, "id": in.GetFromVertex(), "ship_strategy": shipStrategy[in.GetShip()], "exchange": "pipelined_bounded"})
		}
		if inputs != nil {
			node["inputs"] = inputs
		}
		nodes = append(nodes, node)
	}
	return obj{"jid": id, "name": g.GetName(), "type": "STREAMING", "nodes": nodes}
}

func (s *Server) jobStatus(r *http.Request) (any, error) {
	v, err := s.view(r)
	if err != nil {
		return nil, err
	}
	return obj{"status": v.State.String()}, nil
}

func (s *Server) jobConfig(r *http.Request) (any, error) {
	j, err := s.job(r)
	if err != nil {
		return nil, err
	}
	c := j.Submitted.GetGraph().GetConfig()
	return obj{"jid": j.ID, "name": j.Submitted.GetName(), "execution-config": obj{
		"restart-strategy": restartStrategy(c.GetRestart()), "job-parallelism": c.GetDefaultParallelism(),
		// Records are never copied between operators of a chain.
		"object-reuse-mode": true, "user-config": nonNil(c.GetUser()),
	}, "settings": job.Effective(c), "submitted-settings": nonNil(j.Submitted.GetSettings()),
		"arguments": append([]string{}, j.Submitted.GetArgs()...)}, nil
}

func restartStrategy(r *pb.RestartStrategy) string {
	attempts := "without limit"
	if r.GetMaxAttempts() > 0 {
		attempts = "at most " + strconv.Itoa(int(r.GetMaxAttempts())) + " times"
	}
	delay := func(ms int64) string { return (time.Duration(ms) * time.Millisecond).String() }
	switch r.GetKind() {
	case pb.RestartStrategy_KIND_EXPONENTIAL:
		return "exponential delay from " + delay(r.GetInitialDelayMs()) + " to " + delay(r.GetMaxDelayMs()) + ", " + attempts
	case pb.RestartStrategy_KIND_FIXED:
		return "fixed delay of " + delay(r.GetInitialDelayMs()) + ", " + attempts
	case pb.RestartStrategy_KIND_RATE:
		return "failure rate of at most " + strconv.Itoa(int(r.GetMaxAttempts())) + " in " + delay(r.GetRateIntervalMs()) + ", delay of " + delay(r.GetInitialDelayMs())
	case pb.RestartStrategy_KIND_NONE:
		return "no restart"
	}
	return "cluster default"
}

func (s *Server) jobExceptions(r *http.Request) (any, error) {
	v, err := s.view(r)
	if err != nil {
		return nil, err
	}
	limit := 20
	if q := r.URL.Query().Get("maxExceptions"); q != "" {
		if limit, err = strconv.Atoi(q); err != nil || limit < 0 {
			return nil, api.Errorf(api.BadRequest, "maxExceptions=%q is not a number from 0 on", q)
		}
	}
	entries := []obj{}
	for _, e := range v.Exceptions {
		if len(entries) == limit {
			break
		}
		entries = append(entries, exception(e))
	}
	truncated := v.ExceptionsTruncated || len(entries) < len(v.Exceptions)
	return obj{"exceptionHistory": obj{"entries": entries, "truncated": truncated}}, nil
}

func exception(e job.Exception) obj {
	p := api.FromProto(e.Error)
	if p == nil {
		p = &api.Error{Code: api.Internal}
	}
	f := failure(p)
	o := obj{
		"exceptionName": string(p.Code), "stacktrace": f["stack-trace"], "timestamp": e.At.UnixMilli(),
		"failureLabels": obj{}, "concurrentExceptions": []obj{},
		"code": p.Code, "detail": p.Message, "remedy": f["remedy"], "epoch": e.Epoch,
	}
	if e.Task != "" {
		o["taskName"] = e.Task
	}
	if p.Operator != "" {
		o["operator"], o["subtask"] = p.Operator, p.Subtask
	}
	if e.TaskManager != "" {
		o["taskManagerId"] = e.TaskManager
	}
	if e.Worker != "" {
		o["endpoint"] = e.Worker
	}
	return o
}

func (s *Server) executionResult(r *http.Request) (any, error) {
	v, err := s.view(r)
	if err != nil {
		return nil, err
	}
	if !v.State.Terminal() {
		return obj{"status": obj{"id": "IN_PROGRESS"}, "job-execution-result": nil}, nil
	}
	status := map[job.State]string{job.Finished: "SUCCEEDED", job.Canceled: "CANCELED", job.Failed: "FAILED"}[v.State]
	result := obj{"id": v.ID, "application-status": status, "net-runtime": v.duration(), "accumulator-results": obj{}}
	if v.Cause != nil {
		result["failure-cause"] = failure(api.FromProto(v.Cause))
	}
	return obj{"status": obj{"id": "COMPLETED"}, "job-execution-result": result}, nil
}

// cancelJob cancels; Flink's other mode, stop, has a path of its own.
func (s *Server) cancelJob(r *http.Request) (any, error) {
	j, err := s.job(r)
	if err != nil {
		return nil, err
	}
	if mode := r.URL.Query().Get("mode"); mode != "" && mode != "cancel" {
		return nil, api.Errorf(api.BadRequest, "mode %q: only cancel is possible here", mode).
			With("Stop a job with a savepoint by POST /jobs/{jobid}/stop")
	}
	if err := j.Cancel(r.Context()); err != nil && api.CodeOf(err) != api.JobEnded {
		return nil, err
	}
	return accepted{obj{}}, nil
}

// jobRecovery says how each failure came back, and what became of rescales.
func (s *Server) jobRecovery(r *http.Request) (any, error) {
	v, err := s.view(r)
	if err != nil {
		return nil, err
	}
	list := []obj{}
	for _, rec := range v.Recoveries() {
		o := obj{"epoch": rec.Epoch, "failed": rec.Failed.UnixMilli()}
		if rec.Cause != nil {
			o["code"], o["cause"] = rec.Cause.GetCode(), rec.Cause.GetMessage()
		}
		if rec.Task != "" {
			o["task"] = rec.Task
		}
		for _, step := range []struct {
			name string
			at   time.Time
		}{{"restarted", rec.Restarted}, {"first-output", rec.FirstOutput}, {"visible", rec.Visible}} {
			if !step.at.IsZero() {
				o[step.name] = step.at.UnixMilli()
				o[step.name+"-after-ms"] = step.at.Sub(rec.Failed).Milliseconds()
			}
		}
		list = append(list, o)
	}
	o := obj{"restarts": v.Restarts, "recoveries": list, "rescales": rescales(v)}
	if v.SubmitToFirstOutput > 0 {
		o["submit-to-first-output-ms"] = v.SubmitToFirstOutput.Milliseconds()
	}
	return o, nil
}
