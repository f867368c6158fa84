package jobmanager

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/embedded"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
)

// meter keeps the callback and names its gauges.
type meter struct {
	metricnoop.Meter
	observe metric.Callback
}

type gauge struct {
	metricnoop.Float64ObservableGauge
	name string
}

func (m *meter) Float64ObservableGauge(name string, _ ...metric.Float64ObservableGaugeOption) (metric.Float64ObservableGauge, error) {
	return gauge{name: name}, nil
}

func (m *meter) RegisterCallback(f metric.Callback, _ ...metric.Observable) (metric.Registration, error) {
	m.observe = f
	return metricnoop.Registration{}, nil
}

type observed struct {
	value  float64
	labels attribute.Set
}

type observer struct {
	embedded.Observer
	all map[string][]observed
}

func (o *observer) ObserveFloat64(i metric.Float64Observable, v float64, opts ...metric.ObserveOption) {
	name := i.(gauge).name
	o.all[name] = append(o.all[name], observed{v, metric.NewObserveConfig(opts).Attributes()})
}

func (o *observer) ObserveInt64(metric.Int64Observable, int64, ...metric.ObserveOption) {}

// tracer counts spans by name.
type tracer struct {
	tracenoop.Tracer
	mu    sync.Mutex
	spans map[string]int
}

func (t *tracer) Start(ctx context.Context, name string, opts ...trace.SpanStartOption) (context.Context, trace.Span) {
	t.mu.Lock()
	t.spans[name]++
	t.mu.Unlock()
	return t.Tracer.Start(ctx, name, opts...)
}

func TestMetricsAndSpans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		m, tr := &meter{}, &tracer{spans: map[string]int{}}
		c.configure = func(cfg *Config) { cfg.Meter, cfg.Tracer = m, tr }
		l := c.lead("127.0.0.1:8081", "127.0.0.1:9000")
		h := c.join(l, "tm1", 1)
		_, job := c.start(h)
		c.await("a committed checkpoint", func() bool { return h.saw("commit 2") })
		h.crash()
		c.await("the second attempt", func() bool { return h.saw("start epoch 2") })
		c.state(job, "RUNNING")

		o := &observer{all: map[string][]observed{}}
		if err := m.observe(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]float64{
			"flink_taskmanager_job_task_numRecordsOutPerSecond":          200,
			"flink_taskmanager_job_task_operator_numRecordsOutPerSecond": 200,
			"flink_jobmanager_job_numRestarts":                           1,
			"flink_jobmanager_taskSlotsTotal":                            1,
		} {
			if got := o.all[name]; len(got) == 0 || got[0].value != want {
				t.Errorf("%s = %v, want %v", name, got, want)
			}
		}
		labels := o.all["flink_taskmanager_job_task_operator_numRecordsOut"][0].labels
		for k, want := range map[attribute.Key]string{
			"job_id": job, "job_name": "delays", "task_name": "Source: flights", "subtask_index": "0", "tm_id": "tm1", "operator_name": "Source__flights",
		} {
			if got, _ := labels.Value(k); got.AsString() != want {
				t.Errorf("label %s = %q, want %q", k, got.AsString(), want)
			}
		}
		// The fake worker counts no bytes, so none are shown.
		if got := o.all["flink_taskmanager_job_task_numBytesIn"]; len(got) != 1 {
			t.Errorf("numBytesIn = %v, want the source's alone", got)
		}
		h.leave()
		l.kill(t)
		for name, atLeast := range map[string]int{"checkpoint": 2, "deployment": 2, "recovery": 1} {
			if tr.spans[name] < atLeast {
				t.Errorf("%d spans named %s, want at least %d", tr.spans[name], name, atLeast)
			}
		}
	})
}
