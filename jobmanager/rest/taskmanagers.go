package rest

import (
	"net/http"
	"strings"

	"github.com/millrace/millrace/api"
	"github.com/millrace/millrace/jobmanager/control"
	"github.com/millrace/millrace/jobmanager/slots"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

func (s *Server) manager(r *http.Request) (control.TaskManager, error) {
	id := r.PathValue("taskmanagerid")
	tm, ok := s.d.Control().TaskManager(id)
	if !ok {
		return tm, api.Errorf(api.TaskManagerNotFound, "task manager %s is not attached", id)
	}
	return tm, nil
}

// managerInfo is a task manager in Flink's shape, as far as it is known.
func (s *Server) managerInfo(tm control.TaskManager, pool []slots.TaskManager, tasks int) obj {
	hardware := obj{}
	if n := tm.GetHardware().GetCores(); n > 0 {
		hardware["cpuCores"] = n
	}
	if n := tm.GetHardware().GetMemoryBytes(); n > 0 {
		hardware["physicalMemory"] = n
	}
	if tm.Heartbeat != nil {
		hardware["freeMemory"] = tm.Heartbeat.GetFreeMemoryBytes()
	}
	slot := obj{"taskManagedMemory": tm.GetSlotMemory()}
	o := obj{
		"id": tm.GetId(), "path": tm.GetHost(), "timeSinceLastHeartbeat": tm.Heard.UnixMilli(), "slotsNumber": tm.GetSlots(),
		"assignedTasks": tasks, "hardware": hardware, "slotResource": slot, "version": tm.GetVersion(), "since": tm.Since.UnixMilli(),
		"shardAddress": tm.GetShardAddress(), "kinesisAddress": tm.GetKinesisAddress(),
	}
	for _, p := range pool {
		if p.ID == tm.GetId() {
			o["freeSlots"] = p.Free
		}
	}
	return o
}

// hostedWorker is a worker on a task manager.
type hostedWorker struct {
	job, name, id string
	pid           int64
	slots         int
	tasks         int
}

// workers lists the workers of all jobs by task manager.
func (s *Server) workers(r *http.Request) (map[string][]hostedWorker, error) {
	all := map[string][]hostedWorker{}
	for _, j := range s.d.Jobs() {
		v, err := s.viewOf(r, j)
		if err != nil {
			return nil, err
		}
		if v.State.Terminal() {
			continue
		}
		tasks := map[string]int{}
		for _, vx := range v.Vertices {
			for _, t := range vx.Tasks {
				tasks[t.Worker]++
			}
		}
		for _, w := range v.Workers {
			all[w.TaskManager] = append(all[w.TaskManager], hostedWorker{v.ID, v.Submitted.GetName(), w.ID, w.PID, len(w.Slots), tasks[w.ID]})
		}
	}
	return all, nil
}

func countHosted(ws []hostedWorker) (n int) {
	for _, w := range ws {
		n += w.tasks
	}
	return n
}

func (s *Server) taskManagers(r *http.Request) (any, error) {
	pool, _, _ := s.d.Slots()
	workers, err := s.workers(r)
	if err != nil {
		return nil, err
	}
	list := []obj{}
	for _, tm := range s.d.Control().TaskManagers() {
		list = append(list, s.managerInfo(tm, pool, countHosted(workers[tm.GetId()])))
	}
	return obj{"taskmanagers": list}, nil
}

func (s *Server) taskManager(r *http.Request) (any, error) {
	tm, err := s.manager(r)
	if err != nil {
		return nil, err
	}
	pool, _, _ := s.d.Slots()
	all, err := s.workers(r)
	if err != nil {
		return nil, err
	}
	ws := all[tm.GetId()]
	o := s.managerInfo(tm, pool, countHosted(ws))
	workers, allocated := []obj{}, []obj{}
	for _, w := range ws {
		e := obj{"id": w.id, "jobId": w.job, "jobName": w.name, "slots": w.slots, "assignedTasks": w.tasks}
		if w.pid != 0 {
			e["pid"] = w.pid
		}
		workers = append(workers, e)
		for range w.slots {
			allocated = append(allocated, obj{"jobId": w.job, "assignedTasks": w.tasks / max(1, w.slots), "resource": obj{"taskManagedMemory": tm.GetSlotMemory()}})
		}
	}
	o["workers"], o["allocatedSlots"] = workers, allocated
	metrics := obj{}
	if tm.Heartbeat != nil {
		metrics["residentBytes"] = tm.Heartbeat.GetResidentBytes()
	}
	o["metrics"] = metrics
	return o, nil
}

func (s *Server) taskManagerMetrics(r *http.Request) (any, error) {
	tm, err := s.manager(r)
	if err != nil {
		return nil, err
	}
	var all []Figure
	if tm.Heartbeat != nil {
		all = append(all, Figure{"Status.Process.Memory.Resident", float64(tm.Heartbeat.GetResidentBytes())},
			Figure{"Status.Host.Memory.Free", float64(tm.Heartbeat.GetFreeMemoryBytes())})
	}
	// Workers on it, summed, the longest pause of any; times in milliseconds.
	var heap, goroutines, gcCount, gcPause, gcLongest, gcCPU, cpu float64
	seen := false
	for _, j := range s.d.Jobs() {
		for _, p := range s.d.Rates().Processes(j.ID) {
			select {
			case <-j.Done():
				continue
			default:
			}
			if p.TaskManager == tm.GetId() {
				seen = true
				heap += float64(p.GetHeapBytes())
				goroutines += float64(p.GetGoroutines())
				gcCount += float64(p.GetGcCount())
				gcPause += float64(p.GetGcPauseNs()) / 1e6
				gcLongest = max(gcLongest, float64(p.GetGcLongestPauseNs())/1e6)
				gcCPU += float64(p.GetGcCpuNs()) / 1e6
				cpu += float64(p.GetCpuNs()) / 1e6
			}
		}
	}
	if seen {
		all = append(all, Figure{"Status.Workers.Memory.Heap.Used", heap}, Figure{"Status.Workers.Goroutines", goroutines},
			Figure{"Status.Workers.GarbageCollector.Count", gcCount}, Figure{"Status.Workers.GarbageCollector.Time", gcPause},
			Figure{"Status.Workers.GarbageCollector.LongestTime", gcLongest}, Figure{"Status.Workers.GarbageCollector.CPU", gcCPU},
			Figure{"Status.Workers.CPU", cpu})
	}
	return metricList(r, all), nil
}

func (s *Server) taskManagerLogs(r *http.Request) (any, error) {
	tm, err := s.manager(r)
	if err != nil {
		return nil, err
	}
	files, err := s.d.Logs(r.Context(), tm.GetId())
	if err != nil {
		return nil, err
	}
	list := []obj{}
	for _, f := range files {
		list = append(list, obj{"name": f.GetName(), "size": f.GetSize(), "mtime": f.GetModifiedMs()})
	}
	return obj{"logs": list}, nil
}

func (s *Server) taskManagerLogFile(r *http.Request) (any, error) {
	tm, err := s.manager(r)
	if err != nil {
		return nil, err
	}
	return s.managerFileOf(r, tm.GetId(), r.PathValue("file"))
}

func (s *Server) managerFileOf(r *http.Request, tm, name string) (any, error) {
	log, err := s.d.Log(r.Context(), tm, name)
	if err != nil {
		return nil, err
	}
	return text{log}, nil
}

// taskManagerLog is what the newest worker wrote to standard error: where Go
// programs log.
func (s *Server) taskManagerLog(r *http.Request) (any, error) { return s.newest(r, ".err") }

// taskManagerStdout is what the newest worker printed.
func (s *Server) taskManagerStdout(r *http.Request) (any, error) { return s.newest(r, ".out") }

func (s *Server) newest(r *http.Request, suffix string) (any, error) {
	tm, err := s.manager(r)
	if err != nil {
		return nil, err
	}
	files, err := s.d.Logs(r.Context(), tm.GetId())
	if err != nil {
		return nil, err
	}
	var best *pb.LogFile
	for _, f := range files {
		if strings.HasSuffix(f.GetName(), suffix) && (best == nil || f.GetModifiedMs() > best.GetModifiedMs()) {
			best = f
		}
	}
	if best == nil {
		return nil, api.Errorf(api.LogNotFound, "task manager %s has no log *%s", tm.GetId(), suffix)
	}
	return s.managerFileOf(r, tm.GetId(), best.GetName())
}
