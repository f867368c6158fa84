package worker

import (
	"math"
	goruntime "runtime"
	"runtime/metrics"
	"testing"
)

// The process's own figures are there after a collection, and agree with each
// other.
func TestProcessMetrics(t *testing.T) {
	goruntime.GC()
	p := processMetrics()
	if p.GetHeapBytes() == 0 || p.GetGoroutines() == 0 || p.GetGcCount() == 0 || p.GetGcPauseNs() == 0 {
		t.Errorf("something is missing: %v", p)
	}
	if p.GetGcCpuNs() == 0 || p.GetGcCpuNs() > p.GetCpuNs() {
		t.Errorf("the collector has used %d ns of %d", p.GetGcCpuNs(), p.GetCpuNs())
	}
	if p.GetGcLongestPauseNs() == 0 || p.GetGcLongestPauseNs() > 60e9 {
		t.Errorf("the longest pause is %d ns", p.GetGcLongestPauseNs())
	}
}

func TestLongest(t *testing.T) {
	inf := math.Inf(1)
	for _, c := range []struct {
		counts []uint64
		want   float64
	}{
		{[]uint64{0, 0, 0}, 0}, {[]uint64{1, 0, 0}, 0.1}, {[]uint64{5, 1, 0}, 0.2}, {[]uint64{0, 0, 1}, 0.2},
	} {
		h := &metrics.Float64Histogram{Counts: c.counts, Buckets: []float64{math.Inf(-1), 0.1, 0.2, inf}}
		if got := longest(h); got != c.want {
			t.Errorf("longest of %v is %v, want %v", c.counts, got, c.want)
		}
	}
}
