package lateness

import (
	"testing"
	"time"

	"github.com/millrace/millrace/examples/nexmark/generator"
	"github.com/millrace/millrace/internal/latency"
	"github.com/millrace/millrace/sdk"
)

// Rows count from when their event time is due, but those of the first seconds
// and those that are there before.
func TestRowsCountFromWhenTheyAreDue(t *testing.T) {
	began := time.Now().Add(-time.Minute)
	// A second of the clock is a hundredth of one of event time.
	s := Schedule{Events: generator.Config{Rate: 10000, Throttle: 1000000, Start: began.UnixMilli()}, WarmUp: 20 * time.Second, Folder: t.TempDir()}
	if got, want := s.due(generator.Base+5000), began.UnixMilli()*1e6+50e6; got != want {
		t.Errorf("5 s of event time are due at %d, want %d", got, want)
	}
	w, err := Sink[int](s).Open(t.Context(), sdk.SinkEnv{Operator: "nowhere", Subtask: 3})
	if err != nil {
		t.Fatal(err)
	}
	b := &sdk.Batch[int]{}
	for _, after := range []int64{0, 10, 19, 20, 40, 50, 70, 1000} { // seconds of the clock
		b.Values, b.Times = append(b.Values, 0), append(b.Times, generator.Base+after*100_000)
	}
	if err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	h, err := latency.ReadFolder(s.Folder)
	if err != nil || h.Count() != 3 {
		t.Fatalf("%d of the three were counted, %v", h.Count(), err)
	}
	for q, want := range map[float64]time.Duration{0.1: 10 * time.Second, 0.5: 20 * time.Second, 1: 40 * time.Second} {
		// The test itself may be held up for a while.
		if got := h.Quantile(q); got < want || got > want+want/32+9*time.Second {
			t.Errorf("quantile %v is %v, want about %v", q, got, want)
		}
	}
}

func TestLatenessNeedsAClock(t *testing.T) {
	for _, c := range []struct {
		throttle, start int64
		folder          string
		refused         bool
	}{{0, 0, "", false}, {1, 1, "x", false}, {0, 1, "x", true}, {1, 0, "x", true}} {
		s := timed[int]{Schedule{Events: generator.Config{Throttle: c.throttle, Start: c.start}, Folder: c.folder}}
		if err := s.Check(); (err != nil) != c.refused {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
