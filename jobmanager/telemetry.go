package jobmanager

import (
	"context"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/millrace/millrace/jobmanager/dispatch"
	"github.com/millrace/millrace/jobmanager/rates"
	"github.com/millrace/millrace/jobmanager/rest"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Names of metrics are Flink's for Prometheus: counters that its reporter
// exports as gauges are gauges here too, so that names get no suffix.
const (
	taskPrefix     = "flink_taskmanager_job_task_"
	operatorPrefix = "flink_taskmanager_job_task_operator_"
	jobPrefix      = "flink_jobmanager_job_"
)

// taskGauges are the figures of a task that are exported; figures that a job
// registers itself are in REST only.
var taskGauges = []string{
	"numRecordsIn", "numRecordsInPerSecond", "numRecordsOut", "numRecordsOutPerSecond",
	"numBytesIn", "numBytesInPerSecond", "numBytesOut", "numBytesOutPerSecond",
	"numBuffersIn", "numBuffersInPerSecond", "numBuffersOut", "numBuffersOutPerSecond",
	"busyTimeMsPerSecond", "idleTimeMsPerSecond", "backPressuredTimeMsPerSecond",
	"accumulateBusyTimeMs", "accumulateIdleTimeMs", "accumulateBackPressuredTimeMs",
	"currentInputWatermark", "numLateRecordsDropped", "keyedStateEntries", "stateBytes",
	"stateDiskBytes", "numStatePagesEvicted", "numStatePagesRead",
	"pendingRecords", "currentFetchEventTimeLag",
}

var operatorGauges = []string{
	"numRecordsIn", "numRecordsInPerSecond", "numRecordsOut", "numRecordsOutPerSecond", "numLateRecordsDropped", "numDecodeErrors",
}

var jobGauges = []string{
	"numRestarts", "fullRestarts", "numRescales", "totalNumberOfCheckpoints", "numberOfInProgressCheckpoints", "numberOfCompletedCheckpoints",
	"numberOfFailedCheckpoints", "lastCompletedCheckpointId", "lastCheckpointDuration", "lastCheckpointSize", "lastCheckpointFullSize",
	"lastCheckpointRestoreTimestamp", "runningTime", "uptime", "lastRecoveryMs", "lastRecoveryFirstOutputMs", "submitToFirstOutputMs",
}

var clusterGauges = []string{"numRegisteredTaskManagers", "taskSlotsTotal", "taskSlotsAvailable", "numRunningJobs"}

// gauges are the instruments by metric name.
type gauges map[string]metric.Float64ObservableGauge

func (g gauges) add(m metric.Meter, prefix string, names []string) error {
	for _, n := range names {
		i, err := m.Float64ObservableGauge(prefix + n)
		if err != nil {
			return err
		}
		g[prefix+n] = i
	}
	return nil
}

// observe registers the cluster's metrics with the meter.
func (m *JobManager) observe(d *dispatch.Dispatcher) (unregister func(), err error) {
	g := gauges{}
	for prefix, names := range map[string][]string{
		taskPrefix: taskGauges, operatorPrefix: operatorGauges, jobPrefix: jobGauges, "flink_jobmanager_": clusterGauges,
	} {
		if err := g.add(m.cfg.Meter, prefix, names); err != nil {
			return nil, err
		}
	}
	all := make([]metric.Observable, 0, len(g))
	for _, i := range g {
		all = append(all, i)
	}
	reg, err := m.cfg.Meter.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		return g.observe(ctx, o, d)
	}, all...)
	if err != nil {
		return nil, err
	}
	return func() {
		if err := reg.Unregister(); err != nil {
			m.cfg.Log.Warn("metrics were not unregistered", "error", err)
		}
	}, nil
}

func (g gauges) observe(ctx context.Context, o metric.Observer, d *dispatch.Dispatcher) error {
	now := d.Now()
	record := func(name string, v float64, attrs attribute.Set) {
		if i, ok := g[name]; ok {
			o.ObserveFloat64(i, v, metric.WithAttributeSet(attrs))
		}
	}
	managers, total, free := d.Slots()
	running := 0
	for _, j := range d.Jobs() {
		st, err := j.Status(ctx)
		if err != nil {
			return err
		}
		if st.State.Terminal() {
			continue
		}
		running++
		labels := attribute.NewSet(attribute.String("job_id", j.ID), attribute.String("job_name", j.Submitted.GetName()))
		for _, f := range rest.JobFigures(st, now) {
			record(jobPrefix+f.ID, f.Value, labels)
		}
		g.observeTasks(d, j, st.Graph, now, record)
	}
	none := attribute.NewSet()
	for name, v := range map[string]int{"numRegisteredTaskManagers": len(managers), "taskSlotsTotal": total, "taskSlotsAvailable": free, "numRunningJobs": running} {
		record("flink_jobmanager_"+name, float64(v), none)
	}
	return nil
}

func (g gauges) observeTasks(d *dispatch.Dispatcher, j *dispatch.Job, graph *pb.JobGraph, now time.Time, record func(string, float64, attribute.Set)) {
	for _, v := range graph.GetVertices() {
		for i := range int(v.GetParallelism()) {
			t := d.Rates().Task(j.ID, v.GetId(), i)
			if t == nil {
				continue
			}
			labels := []attribute.KeyValue{
				attribute.String("job_id", j.ID), attribute.String("job_name", j.Submitted.GetName()),
				attribute.String("task_id", v.GetId()), attribute.String("task_name", v.GetName()),
				attribute.String("subtask_index", strconv.Itoa(i)), attribute.String("tm_id", t.TaskManager),
			}
			if tm, ok := d.Control().TaskManager(t.TaskManager); ok {
				labels = append(labels, attribute.String("host", tm.GetHost()))
			}
			task := attribute.NewSet(labels...)
			operators := map[string]attribute.Set{}
			for _, val := range t.Values(now) {
				if val.Operator == "" {
					record(taskPrefix+val.Name, val.Value, task)
					continue
				}
				set, ok := operators[val.Operator]
				if !ok {
					set = attribute.NewSet(append(labels[:len(labels):len(labels)], attribute.String("operator_name", rates.Scope(val.Operator)))...)
					operators[val.Operator] = set
				}
				record(operatorPrefix+val.Name, val.Value, set)
			}
		}
	}
}
