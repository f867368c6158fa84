package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/otlptranslator"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
)

// telemetry is the OpenTelemetry SDK: metrics go to /metrics always, metrics
// and traces over OTLP where the standard OTEL_EXPORTER_OTLP_ variables name
// an endpoint.
type telemetry struct {
	meter    metric.Meter
	tracer   trace.Tracer
	registry *prometheus.Registry
	shutdown []func(context.Context) error
}

const scope = "github.com/millrace/millrace"

func newTelemetry(ctx context.Context) (*telemetry, error) {
	t := &telemetry{registry: prometheus.NewRegistry(), tracer: tracenoop.NewTracerProvider().Tracer(scope)}
	t.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	prom, err := otelprom.New(otelprom.WithRegisterer(t.registry), otelprom.WithoutScopeInfo(), otelprom.WithTranslationStrategy(otlptranslator.UnderscoreEscapingWithoutSuffixes), otelprom.WithoutTargetInfo())
	if err != nil {
		return nil, fmt.Errorf("prometheus exporter: %w", err)
	}
	about, err := resource.New(ctx, resource.WithFromEnv(), resource.WithTelemetrySDK(), resource.WithHost())
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	metrics := []sdkmetric.Option{sdkmetric.WithReader(prom), sdkmetric.WithResource(about)}
	if otlp("METRICS") {
		exporter, err := otlpmetrichttp.New(ctx)
		if err != nil {
			return nil, fmt.Errorf("OTLP metrics: %w", err)
		}
		metrics = append(metrics, sdkmetric.WithReader(sdkmetric.NewPeriodicReader(exporter)))
	}
	meters := sdkmetric.NewMeterProvider(metrics...)
	t.meter = meters.Meter(scope)
	t.shutdown = append(t.shutdown, meters.Shutdown)
	if otlp("TRACES") {
		exporter, err := otlptracehttp.New(ctx)
		if err != nil {
			return nil, fmt.Errorf("OTLP traces: %w", err)
		}
		traces := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about))
		t.tracer = traces.Tracer(scope)
		t.shutdown = append(t.shutdown, traces.Shutdown)
	}
	return t, nil
}

// otlp says whether the environment names an endpoint for a signal.
func otlp(signal string) bool {
	return os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_"+signal+"_ENDPOINT") != ""
}

func (t *telemetry) handlers() map[string]http.Handler {
	return map[string]http.Handler{"GET /metrics": promhttp.HandlerFor(t.registry, promhttp.HandlerOpts{})}
}

// close sends what is left, for five seconds at the most.
func (t *telemetry) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var errs []error
	for _, f := range t.shutdown {
		errs = append(errs, f(ctx))
	}
	return errors.Join(errs...)
}
