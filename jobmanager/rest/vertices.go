package rest

import (
	"math"
	"net/http"
	"time"

	"github.com/millrace/millrace/api"
	"github.com/millrace/millrace/job"
	"github.com/millrace/millrace/jobmanager/rates"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// vertexView is one vertex of a job as of one moment.
type vertexView struct {
	view
	graph *pb.Vertex
	state job.VertexStatus
}

func (s *Server) vertexView(r *http.Request) (vertexView, error) {
	v, err := s.view(r)
	if err != nil {
		return vertexView{}, err
	}
	id, err := hexID(r, "vertexid")
	if err != nil {
		return vertexView{}, err
	}
	for i, g := range v.Graph.GetVertices() {
		if g.GetId() == id {
			return vertexView{v, g, v.vertex(i)}, nil
		}
	}
	return vertexView{}, api.Errorf(api.VertexNotFound, "job %s has no vertex %s", v.ID, id)
}

// statusOf is the state of a vertex by those of its tasks, as Flink folds them.
func statusOf(v job.VertexStatus) string {
	counts := countTasks(v)
	if n := len(v.Tasks); n > 0 && counts["FINISHED"] == n {
		return "FINISHED"
	}
	for _, name := range []string{"FAILED", "CANCELING", "CANCELED", "INITIALIZING", "RUNNING", "DEPLOYING", "SCHEDULED"} {
		if counts[name] > 0 {
			return name
		}
	}
	return "CREATED"
}

// span is when the first task of a vertex began and the last ended; zero for
// not yet.
func span(v job.VertexStatus) (began, ended time.Time) {
	over := len(v.Tasks) > 0
	for _, t := range v.Tasks {
		if !t.Began.IsZero() && (began.IsZero() || t.Began.Before(began)) {
			began = t.Began
		}
		if t.Ended.IsZero() {
			over = false
		} else if t.Ended.After(ended) {
			ended = t.Ended
		}
	}
	if !over {
		ended = time.Time{}
	}
	return began, ended
}

func lasted(began, ended, now time.Time) int64 {
	switch {
	case began.IsZero():
		return -1
	case ended.IsZero():
		return now.Sub(began).Milliseconds()
	}
	return ended.Sub(began).Milliseconds()
}

// vertexSummary is a vertex within a job's details.
func (s *Server) vertexSummary(v view, g *pb.Vertex, st job.VertexStatus) obj {
	began, ended := span(st)
	tasks := make([]*rates.Task, g.GetParallelism())
	for i := range tasks {
		tasks[i] = s.d.Rates().Task(v.ID, g.GetId(), i)
	}
	return obj{
		"id": g.GetId(), "name": g.GetName(), "maxParallelism": g.GetMaxParallelism(), "parallelism": g.GetParallelism(),
		"status": statusOf(st), "start-time": ms(began), "end-time": ms(ended), "duration": lasted(began, ended, v.now),
		"tasks": countTasks(st), "metrics": ioMetrics(tasks),
	}
}

// ioMetrics sums what tasks report. A figure is left out until all have
// reported it; "-complete" says the same in Flink's words.
func ioMetrics(tasks []*rates.Task) obj {
	o := obj{}
	for _, f := range []struct {
		name string
		get  rates.Counter
	}{
		{"read-bytes", rates.BytesIn}, {"write-bytes", rates.BytesOut},
		{"read-records", rates.Always((*pb.TaskMetrics).GetRecordsIn)}, {"write-records", rates.Always((*pb.TaskMetrics).GetRecordsOut)},
	} {
		n, reported := sum(tasks, f.get)
		o[f.name+"-complete"] = reported == len(tasks)
		if reported > 0 {
			o[f.name] = n
		}
	}
	for _, f := range []struct {
		name string
		get  func(*pb.TaskMetrics) uint64
	}{
		{"accumulated-backpressured-time", (*pb.TaskMetrics).GetBackpressuredNs},
		{"accumulated-idle-time", (*pb.TaskMetrics).GetIdleNs}, {"accumulated-busy-time", (*pb.TaskMetrics).GetBusyNs},
	} {
		if n, reported := sum(tasks, rates.Always(f.get)); reported > 0 {
			o[f.name] = n / 1e6
		}
	}
	return o
}

// sum adds up a counter over the tasks that have reported it.
func sum(tasks []*rates.Task, get rates.Counter) (n uint64, reported int) {
	for _, t := range tasks {
		if t == nil {
			continue
		}
		if v, ok := get(t.Last); ok {
			n += v
			reported++
		}
	}
	return n, reported
}

func (s *Server) task(v vertexView, subtask int) *rates.Task {
	return s.d.Rates().Task(v.ID, v.graph.GetId(), subtask)
}

func (s *Server) vertex(r *http.Request) (any, error) {
	v, err := s.vertexView(r)
	if err != nil {
		return nil, err
	}
	subtasks := []obj{}
	for i, t := range v.state.Tasks {
		o := obj{
			"subtask": i, "status": t.State.String(), "attempt": t.Attempt, "start-time": ms(t.Began), "end-time": ms(t.Ended),
			"duration": lasted(t.Began, t.Ended, v.now), "metrics": ioMetrics([]*rates.Task{s.task(v, i)}),
		}
		s.place(o, v.view, t)
		subtasks = append(subtasks, o)
	}
	aggregated := obj{}
	for name, n := range countTasks(v.state) {
		if n > 0 {
			aggregated[name] = n
		}
	}
	return obj{"id": v.graph.GetId(), "name": v.graph.GetName(), "parallelism": v.graph.GetParallelism(),
		"maxParallelism": v.graph.GetMaxParallelism(), "now": v.now.UnixMilli(), "subtasks": subtasks,
		"aggregated": obj{"status-duration": obj{}, "tasks": aggregated}}, nil
}

// place says where a task runs.
func (s *Server) place(o obj, v view, t job.TaskStatus) {
	if t.TaskManager == "" {
		return
	}
	o["taskmanager-id"] = t.TaskManager
	if tm, ok := s.d.Control().TaskManager(t.TaskManager); ok {
		o["endpoint"], o["host"] = tm.GetHost(), tm.GetHost()
	}
	if w := v.worker(t.Worker); w != nil {
		o["worker-id"] = w.ID
		if w.PID != 0 {
			o["worker-pid"] = w.PID
		}
	}
}

func (v view) worker(id string) *job.WorkerStatus {
	for i := range v.Workers {
		if v.Workers[i].ID == id {
			return &v.Workers[i]
		}
	}
	return nil
}

func (s *Server) subtaskTimes(r *http.Request) (any, error) {
	v, err := s.vertexView(r)
	if err != nil {
		return nil, err
	}
	subtasks := []obj{}
	for i, t := range v.state.Tasks {
		o := obj{"subtask": i, "duration": lasted(t.Began, t.Ended, v.now), "timestamps": obj{t.State.String(): max(0, ms(t.Since))}}
		s.place(o, v.view, t)
		subtasks = append(subtasks, o)
	}
	return obj{"id": v.graph.GetId(), "name": v.graph.GetName(), "now": v.now.UnixMilli(), "subtasks": subtasks}, nil
}

func (s *Server) vertexTaskManagers(r *http.Request) (any, error) {
	v, err := s.vertexView(r)
	if err != nil {
		return nil, err
	}
	byManager := map[string]*job.VertexStatus{}
	tasks := map[string][]*rates.Task{}
	var order []string
	for i, t := range v.state.Tasks {
		if byManager[t.TaskManager] == nil {
			byManager[t.TaskManager] = &job.VertexStatus{}
			order = append(order, t.TaskManager)
		}
		st := byManager[t.TaskManager]
		st.Tasks = append(st.Tasks, t)
		tasks[t.TaskManager] = append(tasks[t.TaskManager], s.task(v, i))
	}
	list := []obj{}
	for _, id := range order {
		if id == "" {
			continue
		}
		st := *byManager[id]
		began, ended := span(st)
		o := obj{"status": statusOf(st), "start-time": ms(began), "end-time": ms(ended), "duration": lasted(began, ended, v.now),
			"metrics": ioMetrics(tasks[id]), "status-counts": countTasks(st), "aggregated": obj{"status-duration": obj{}}}
		s.place(o, v.view, st.Tasks[0])
		list = append(list, o)
	}
	return obj{"id": v.graph.GetId(), "name": v.graph.GetName(), "now": v.now.UnixMilli(), "taskmanagers": list}, nil
}

// watermarks is a list as Flink's; splits beside it name what holds time back.
func (s *Server) watermarks(r *http.Request) (any, error) {
	v, err := s.vertexView(r)
	if err != nil {
		return nil, err
	}
	list := []obj{}
	for i := range int(v.graph.GetParallelism()) {
		t := s.task(v, i)
		if t == nil {
			continue
		}
		o := obj{"id": subtaskMetric(i, "currentInputWatermark")}
		if w, ok := t.Watermark(); ok {
			o["value"] = number(float64(w))
		}
		var holding *pb.SplitMetrics
		splits := []obj{}
		for _, sp := range t.Last.GetSplits() {
			e := obj{"split": sp.GetId(), "idle": sp.GetIdle()}
			if sp.GetWatermark() != math.MinInt64 {
				e["watermark"] = sp.GetWatermark()
			}
			if sp.GetMillisBehind() >= 0 {
				e["millis-behind"] = sp.GetMillisBehind()
			}
			splits = append(splits, e)
			if !sp.GetIdle() && (holding == nil || sp.GetWatermark() < holding.GetWatermark()) {
				holding = sp
			}
		}
		if len(splits) > 0 {
			o["splits"] = splits
		}
		if holding != nil {
			o["held-by"] = holding.GetId()
		}
		list = append(list, o)
	}
	return list, nil
}

// level is Flink's word for a ratio of back pressure.
func level(ratio float64) string {
	switch {
	case ratio <= 0.10:
		return "ok"
	case ratio <= 0.5:
		return "low"
	}
	return "high"
}

func (s *Server) backpressure(r *http.Request) (any, error) {
	v, err := s.vertexView(r)
	if err != nil {
		return nil, err
	}
	subtasks := []obj{}
	worst, last := 0.0, time.Time{}
	for i, st := range v.state.Tasks {
		t := s.task(v, i)
		busy, idle, back, ok := t.Ratios(v.now)
		if !ok {
			continue
		}
		worst = max(worst, back)
		if t.Received.After(last) {
			last = t.Received
		}
		subtasks = append(subtasks, obj{"subtask": i, "attempt-number": st.Attempt, "backpressureLevel": level(back), "backpressure-level": level(back),
			"ratio": back, "idleRatio": idle, "busyRatio": busy})
	}
	if len(subtasks) == 0 {
		// Flink's word for "there are no figures".
		return obj{"status": "deprecated", "subtasks": subtasks}, nil
	}
	return obj{"status": "ok", "backpressureLevel": level(worst), "backpressure-level": level(worst),
		"end-timestamp": last.UnixMilli(), "subtasks": subtasks}, nil
}
