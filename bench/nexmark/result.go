package nexmark

import (
	"time"

	"github.com/millrace/millrace/internal/latency"
)

// Result is one run. Its JSON names are stable.
type Result struct {
	Query              string  `json:"query"`
	Events             int64   `json:"events"`
	Seed               uint64  `json:"seed"`
	Rate               int64   `json:"rate"`
	OutOfOrder         int64   `json:"out_of_order,omitempty"`
	Throttle           int64   `json:"throttle"`
	SlideMS            int64   `json:"slide_ms,omitempty"`
	Parallelism        int     `json:"parallelism"`
	Workers            int     `json:"workers"`
	CheckpointInterval float64 `json:"checkpoint_interval_seconds"`
	State              string  `json:"state"`

	// Seconds is from all tasks running to the end of the job, CPUSeconds what
	// the cluster used in that time, Cores the one by the other.
	Seconds             float64 `json:"seconds"`
	CPUSeconds          float64 `json:"cpu_seconds"`
	Cores               float64 `json:"cores"`
	EventsPerSecond     float64 `json:"events_per_second"`
	EventsPerCoreSecond float64 `json:"events_per_core_second"`
	// MostPerSecond is what the run before reached, of which this one was
	// throttled to a share.
	MostPerSecond float64 `json:"most_events_per_second,omitempty"`
	// SpeedValid is false for a run that was too short or restarted: then its
	// figures say nothing about speed, and Invalid says why.
	SpeedValid bool   `json:"speed_valid"`
	Invalid    string `json:"speed_invalid_because,omitempty"`

	// Latency is nil for a run that was not throttled.
	Latency     *Latency    `json:"latency"`
	Checkpoints Checkpoints `json:"checkpoints"`
	PeakMemory  uint64      `json:"peak_memory_bytes"`
	Collector   Collector   `json:"gc"`
	// Hash is the line of the hash, empty if it was not asked for.
	Hash string `json:"hash,omitempty"`
}

// Latency is that of results, in milliseconds.
type Latency struct {
	Count uint64  `json:"count"`
	P50   float64 `json:"p50_ms"`
	P90   float64 `json:"p90_ms"`
	P99   float64 `json:"p99_ms"`
	P999  float64 `json:"p99_9_ms"`
	P9999 float64 `json:"p99_99_ms"`
	Max   float64 `json:"max_ms"`
}

func latencyOf(h *latency.Histogram) *Latency {
	ms := func(d time.Duration) float64 { return float64(d) / 1e6 }
	return &Latency{Count: h.Count(), P50: ms(h.Quantile(0.5)), P90: ms(h.Quantile(0.9)), P99: ms(h.Quantile(0.99)),
		P999: ms(h.Quantile(0.999)), P9999: ms(h.Quantile(0.9999)), Max: ms(h.Max())}
}

// Checkpoints are those of the run, times in milliseconds. Bytes are what was
// written for them: of the one in the middle, and the most.
type Checkpoints struct {
	Completed int64   `json:"completed"`
	Failed    int64   `json:"failed"`
	P50       float64 `json:"duration_p50_ms"`
	Max       float64 `json:"duration_max_ms"`
	BytesP50  float64 `json:"bytes_p50"`
	BytesMax  float64 `json:"bytes_max"`
}

// Collector is Go's garbage collector in the workers, as of their last report.
type Collector struct {
	// CPUShare is of the workers' CPU time; nil where nobody reported.
	CPUShare     *float64 `json:"cpu_share"`
	LongestPause float64  `json:"longest_pause_ms"`
}

// result is what a run's configuration says of it.
func (c *Config) result() *Result {
	return &Result{
		Query: c.Query, Events: c.Events, Seed: c.Seed, Rate: c.Rate, OutOfOrder: c.OutOfOrder, Throttle: c.Throttle, SlideMS: c.Slide.Milliseconds(),
		Parallelism: c.Parallelism, Workers: c.Workers, CheckpointInterval: c.CheckpointInterval.Seconds(), State: c.State,
	}
}

// took sets the figures of speed.
func (r *Result) took(wall, cpu time.Duration, restarts int) {
	r.Seconds, r.CPUSeconds = wall.Seconds(), cpu.Seconds()
	if wall > 0 {
		r.Cores, r.EventsPerSecond = cpu.Seconds()/wall.Seconds(), float64(r.Events)/wall.Seconds()
	}
	if cpu > 0 {
		r.EventsPerCoreSecond = float64(r.Events) / cpu.Seconds()
	}
	switch {
	case restarts > 0:
		r.Invalid = "the job restarted"
	case wall < ValidAfter:
		r.Invalid = "it took less than " + ValidAfter.String()
	}
	r.SpeedValid = r.Invalid == ""
}
