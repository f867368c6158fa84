package rates

import (
	"strings"
	"time"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Value is one figure of a task under Flink's name for it.
type Value struct {
	// Name is without operator and subtask: numRecordsIn.
	Name string
	// Operator is empty for figures of the whole task.
	Operator string
	Value    float64
	// Counter: the value only grows within an attempt.
	Counter bool
}

// ID is the name as REST shows it within a subtask.
func (v Value) ID() string {
	if v.Operator == "" {
		return v.Name
	}
	return Scope(v.Operator) + "." + v.Name
}

// Scope replaces in a name what Flink's metric scopes do not hold.
func Scope(name string) string {
	return strings.Map(func(r rune) rune {
		switch r {
		case ' ', ':', '.', ',', '"', '\'', '(', ')', '[', ']', '{', '}', '<', '>', '*', '-', '/':
			return '_'
		}
		return r
	}, name)
}

// Counter reads a counter of a task; false where the task does not measure it.
type Counter func(*pb.TaskMetrics) (uint64, bool)

// Always is a counter that every task measures.
func Always(get func(*pb.TaskMetrics) uint64) Counter {
	return func(m *pb.TaskMetrics) (uint64, bool) { return get(m), true }
}

// BytesIn and BytesOut count encoded bytes. Records that stay in their process
// are never encoded, so records without bytes mean that nobody knows.
func BytesIn(m *pb.TaskMetrics) (uint64, bool) {
	return m.GetBytesIn(), m.GetBytesIn() > 0 || m.GetRecordsIn() == 0
}

// BytesOut is BytesIn's counterpart.
func BytesOut(m *pb.TaskMetrics) (uint64, bool) {
	return m.GetBytesOut(), m.GetBytesOut() > 0 || m.GetRecordsOut() == 0
}

var taskCounters = []struct {
	name string
	get  Counter
}{
	{"numRecordsIn", Always((*pb.TaskMetrics).GetRecordsIn)},
	{"numRecordsOut", Always((*pb.TaskMetrics).GetRecordsOut)},
	{"numBytesIn", BytesIn},
	{"numBytesOut", BytesOut},
	{"numBuffersIn", Always((*pb.TaskMetrics).GetBatchesIn)},
	{"numBuffersOut", Always((*pb.TaskMetrics).GetBatchesOut)},
}

var taskTimes = []struct {
	rate, total string
	get         func(*pb.TaskMetrics) uint64
}{
	{"busyTimeMsPerSecond", "accumulateBusyTimeMs", (*pb.TaskMetrics).GetBusyNs},
	{"idleTimeMsPerSecond", "accumulateIdleTimeMs", (*pb.TaskMetrics).GetIdleNs},
	{"backPressuredTimeMsPerSecond", "accumulateBackPressuredTimeMs", (*pb.TaskMetrics).GetBackpressuredNs},
}

// Values are all figures of the task as of now, nil for a task that has not
// reported.
func (t *Task) Values(now time.Time) []Value {
	if t == nil {
		return nil
	}
	var all []Value
	gauge := func(name string, v float64) { all = append(all, Value{Name: name, Value: v}) }
	for _, c := range taskCounters {
		v, ok := c.get(t.Last)
		if !ok {
			continue
		}
		all = append(all, Value{Name: c.name, Value: float64(v), Counter: true})
		total := func(m *pb.TaskMetrics) uint64 { n, _ := c.get(m); return n }
		if rate, ok := t.PerSecond(total, now); ok {
			gauge(c.name+"PerSecond", rate)
		}
	}
	for _, c := range taskTimes {
		all = append(all, Value{Name: c.total, Value: float64(c.get(t.Last) / 1e6), Counter: true})
		if rate, ok := t.PerSecond(c.get, now); ok {
			gauge(c.rate, min(1000, rate/1e6))
		}
	}
	if w, ok := t.Watermark(); ok {
		gauge("currentInputWatermark", float64(w))
	}
	all = append(all, Value{Name: "numLateRecordsDropped", Value: float64(t.Last.GetLateDropped()), Counter: true})
	gauge("keyedStateEntries", float64(t.Last.GetKeyedEntries()))
	gauge("stateBytes", float64(t.Last.GetStateBytes()))
	gauge("stateDiskBytes", float64(t.Last.GetStateDiskBytes()))
	all = append(all, Value{Name: "numStatePagesEvicted", Value: float64(t.Last.GetStatePagesEvicted()), Counter: true},
		Value{Name: "numStatePagesRead", Value: float64(t.Last.GetStatePagesRead()), Counter: true})
	all = append(all, t.splitValues()...)
	return append(all, t.operatorValues(now)...)
}

// splitValues are the figures of a source's splits, summed or worst.
func (t *Task) splitValues() (all []Value) {
	if len(t.Last.GetSplits()) == 0 {
		return nil
	}
	var pending uint64
	behind := int64(-1)
	for _, s := range t.Last.GetSplits() {
		pending += s.GetPendingRecords()
		behind = max(behind, s.GetMillisBehind())
	}
	all = append(all, Value{Name: "pendingRecords", Value: float64(pending)})
	if behind >= 0 {
		all = append(all, Value{Name: "currentFetchEventTimeLag", Value: float64(behind)})
	}
	return all
}

func (t *Task) operatorValues(now time.Time) (all []Value) {
	for i, o := range t.Last.GetOperators() {
		name := o.GetName()
		counter := func(metric string, v uint64) {
			all = append(all, Value{Name: metric, Operator: name, Value: float64(v), Counter: true})
		}
		for _, c := range []struct {
			name string
			get  func(*pb.OperatorMetrics) uint64
		}{
			{"numRecordsIn", (*pb.OperatorMetrics).GetRecordsIn},
			{"numRecordsOut", (*pb.OperatorMetrics).GetRecordsOut},
		} {
			counter(c.name, c.get(o))
			// Operators come in the chain's order in every report.
			of := func(m *pb.TaskMetrics) uint64 {
				if i >= len(m.GetOperators()) {
					return 0
				}
				return c.get(m.GetOperators()[i])
			}
			if rate, ok := t.PerSecond(of, now); ok {
				all = append(all, Value{Name: c.name + "PerSecond", Operator: name, Value: rate})
			}
		}
		counter("numLateRecordsDropped", o.GetLateDropped())
		counter("numDecodeErrors", o.GetDecodeErrors())
		for metric, v := range o.GetUser() {
			all = append(all, Value{Name: metric, Operator: name, Value: v})
		}
	}
	return all
}
