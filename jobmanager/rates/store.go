package rates

import (
	"cmp"
	"math"
	"slices"
	"sync"
	"time"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Stale is the age of a report after which its rates are no longer shown:
// three reports missed.
const Stale = 4 * time.Second

// Store holds the reports of all jobs.
type Store struct {
	mu struct {
		sync.RWMutex
		jobs map[string]*jobReports
	}
}

type jobReports struct {
	epoch   uint64
	tasks   map[taskKey]*Task
	process map[string]Process // by worker
}

type taskKey struct {
	vertex  string
	subtask uint32
}

// Task is what one subtask has reported. It is immutable.
type Task struct {
	Worker, TaskManager string
	// Received is when the last report arrived; AtMs are the worker's own
	// times of the last and of the one before, the latter 0 where there was
	// none.
	Received       time.Time
	LastMs, PrevMs int64
	Last, Prev     *pb.TaskMetrics
}

// Process is what one worker has reported of itself.
type Process struct {
	Worker, TaskManager string
	Received            time.Time
	*pb.ProcessMetrics
}

// New returns an empty store.
func New() *Store {
	s := &Store{}
	s.mu.jobs = map[string]*jobReports{}
	return s
}

// Put takes a worker's report. One of an older epoch than the job's last is
// dropped.
func (s *Store) Put(job, tm, worker string, epoch uint64, r *pb.MetricsReport, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.mu.jobs[job]
	if j == nil || epoch > j.epoch {
		j = &jobReports{epoch: epoch, tasks: map[taskKey]*Task{}, process: map[string]Process{}}
		s.mu.jobs[job] = j
	}
	if epoch < j.epoch {
		return
	}
	for _, m := range r.GetTasks() {
		key := taskKey{m.GetVertexId(), m.GetSubtask()}
		t := &Task{Worker: worker, TaskManager: tm, Received: now, LastMs: r.GetAtMs(), Last: m}
		if before := j.tasks[key]; before != nil {
			t.PrevMs, t.Prev = before.LastMs, before.Last
		}
		j.tasks[key] = t
	}
	if r.GetProcess() != nil {
		j.process[worker] = Process{Worker: worker, TaskManager: tm, Received: now, ProcessMetrics: r.GetProcess()}
	}
}

// Forget drops all reports of a job.
func (s *Store) Forget(job string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.jobs, job)
}

// Task returns the reports of one subtask, nil where there are none.
func (s *Store) Task(job, vertex string, subtask int) *Task {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if j := s.mu.jobs[job]; j != nil {
		return j.tasks[taskKey{vertex, uint32(subtask)}]
	}
	return nil
}

// Largest lists the tasks of one worker that reported the most keyed state in
// memory, the largest first, and the vertices that they are of.
func (s *Store) Largest(job, worker string, most int) (tasks []*Task, vertices []string) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	j := s.mu.jobs[job]
	if j == nil {
		return nil, nil
	}
	var keys []taskKey
	for key, t := range j.tasks {
		if t.Worker == worker && t.InMemory() > 0 {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, func(a, b taskKey) int {
		return cmp.Or(cmp.Compare(j.tasks[b].InMemory(), j.tasks[a].InMemory()),
			cmp.Compare(a.vertex, b.vertex), cmp.Compare(a.subtask, b.subtask))
	})
	for _, key := range keys[:min(len(keys), most)] {
		tasks, vertices = append(tasks, j.tasks[key]), append(vertices, key.vertex)
	}
	return tasks, vertices
}

// Processes lists what the job's workers report, by worker.
func (s *Store) Processes(job string) []Process {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var all []Process
	if j := s.mu.jobs[job]; j != nil {
		for _, p := range j.process {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b Process) int { return cmp.Compare(a.Worker, b.Worker) })
	return all
}

// InMemory is how many bytes of the task's keyed state are not on its disk.
func (t *Task) InMemory() uint64 { return t.Last.GetStateBytes() - t.Last.GetStateDiskBytes() }

// PerSecond is the rate of a counter between the last two reports.
func (t *Task) PerSecond(counter func(*pb.TaskMetrics) uint64, now time.Time) (float64, bool) {
	if t == nil || t.Prev == nil || t.LastMs <= t.PrevMs || now.Sub(t.Received) > Stale {
		return 0, false
	}
	before, after := counter(t.Prev), counter(t.Last)
	if after < before {
		return 0, false
	}
	return float64(after-before) / float64(t.LastMs-t.PrevMs) * 1000, true
}

// Watermark is the task's event time, false for none yet.
func (t *Task) Watermark() (int64, bool) {
	if t == nil || t.Last.GetWatermark() == math.MinInt64 {
		return 0, false
	}
	return t.Last.GetWatermark(), true
}

// Ratios are the shares of time that a task is busy, idle and held up by the
// tasks behind it; false where that is not known.
func (t *Task) Ratios(now time.Time) (busy, idle, back float64, ok bool) {
	busy, ok1 := t.PerSecond((*pb.TaskMetrics).GetBusyNs, now)
	idle, ok2 := t.PerSecond((*pb.TaskMetrics).GetIdleNs, now)
	back, ok3 := t.PerSecond((*pb.TaskMetrics).GetBackpressuredNs, now)
	clip := func(ns float64) float64 { return min(1, ns/1e9) }
	return clip(busy), clip(idle), clip(back), ok1 && ok2 && ok3
}
