package worker

import (
	"cmp"
	"maps"
	"math"
	goruntime "runtime"
	"runtime/metrics"
	"slices"
	"sync"
	"syscall"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// meter asks the tasks for their counters and sends one report with all of
// them. A task that has not answered when the next round begins is left out of
// the report: what is absent was not measured.
type meter struct {
	a  *attempt
	mu struct {
		sync.Mutex
		tasks map[taskID]*pb.TaskMetrics
	}
}

type taskID struct {
	vertex  string
	subtask uint32
}

func newMeter(a *attempt) *meter {
	m := &meter{a: a}
	m.mu.tasks = make(map[taskID]*pb.TaskMetrics)
	return m
}

// tick ends a round that is not complete and begins one, on the worker's
// goroutine.
func (m *meter) tick() {
	select {
	case <-m.a.ready:
	default:
		return
	}
	if m.a.ctx.Err() != nil {
		return
	}
	m.mu.Lock()
	late := m.swapLocked()
	m.mu.Unlock()
	m.send(late)
	for _, t := range m.a.tasks {
		t.RequestMetrics()
	}
}

// take is called by the tasks; the last one to answer sends the report.
func (m *meter) take(t *pb.TaskMetrics) {
	m.mu.Lock()
	m.mu.tasks[taskID{t.GetVertexId(), t.GetSubtask()}] = t
	var all []*pb.TaskMetrics
	if len(m.mu.tasks) == len(m.a.tasks) {
		all = m.swapLocked()
	}
	m.mu.Unlock()
	m.send(all)
}

func (m *meter) swapLocked() []*pb.TaskMetrics {
	got := slices.SortedFunc(maps.Values(m.mu.tasks), func(a, b *pb.TaskMetrics) int {
		return cmp.Or(cmp.Compare(a.GetVertexId(), b.GetVertexId()), cmp.Compare(a.GetSubtask(), b.GetSubtask()))
	})
	clear(m.mu.tasks)
	return got
}

func (m *meter) send(tasks []*pb.TaskMetrics) {
	if len(tasks) == 0 {
		return
	}
	m.a.report(&pb.WorkerReport{Body: &pb.WorkerReport_Metrics{Metrics: &pb.MetricsReport{
		AtMs: m.a.w.now(), Tasks: tasks, Process: processMetrics(),
	}}})
}

// processMetrics reads the Go runtime's own figures.
func processMetrics() *pb.ProcessMetrics {
	samples := []metrics.Sample{
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/gc/cycles/total:gc-cycles"},
		{Name: "/sched/pauses/total/gc:seconds"},
		{Name: "/cpu/classes/gc/total:cpu-seconds"},
		{Name: "/cpu/classes/total:cpu-seconds"},
		{Name: "/cpu/classes/idle:cpu-seconds"},
	}
	metrics.Read(samples)
	p := &pb.ProcessMetrics{Goroutines: uint64(goruntime.NumGoroutine()), CpuNs: cpuTime()}
	if v := samples[0].Value; v.Kind() == metrics.KindUint64 {
		p.HeapBytes = v.Uint64()
	}
	if v := samples[1].Value; v.Kind() == metrics.KindUint64 {
		p.GcCount = v.Uint64()
	}
	if v := samples[2].Value; v.Kind() == metrics.KindFloat64Histogram {
		p.GcPauseNs = uint64(total(v.Float64Histogram()) * 1e9)
		p.GcLongestPauseNs = uint64(longest(v.Float64Histogram()) * 1e9)
	}
	// Go counts by the clock, the kernel what the machine let us have of it: only
	// the shares of the former are of use.
	var seconds [3]float64
	for i := range seconds {
		if v := samples[3+i].Value; v.Kind() == metrics.KindFloat64 {
			seconds[i] = v.Float64()
		}
	}
	if gc, busy := seconds[0], seconds[1]-seconds[2]; busy > 0 {
		p.GcCpuNs = uint64(float64(p.CpuNs) * min(1, gc/busy))
	}
	return p
}

// total adds up a histogram of seconds, each bucket counted at its lower bound.
func total(h *metrics.Float64Histogram) float64 {
	sum := 0.0
	for i, n := range h.Counts {
		if lower := h.Buckets[i]; n > 0 && lower > 0 {
			sum += lower * float64(n)
		}
	}
	return sum
}

// longest is the upper bound of the last bucket that holds something, the lower
// one where there is no upper.
func longest(h *metrics.Float64Histogram) float64 {
	for i := len(h.Counts) - 1; i >= 0; i-- {
		if h.Counts[i] == 0 {
			continue
		}
		if upper := h.Buckets[i+1]; !math.IsInf(upper, 1) {
			return upper
		}
		return h.Buckets[i]
	}
	return 0
}

// cpuTime is that of this process, in user and kernel; 0 where it is not known.
func cpuTime() uint64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return uint64(u.Utime.Nano() + u.Stime.Nano())
}
