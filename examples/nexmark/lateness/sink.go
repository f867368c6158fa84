package lateness

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace/millrace/examples/nexmark/generator"
	"github.com/millrace/millrace/internal/latency"
	"github.com/millrace/millrace/sdk"
)

// Schedule is that of throttled events. The zero value measures nothing.
type Schedule struct {
	// Events says when event 0 comes, and how fast the others follow.
	Events generator.Config
	// WarmUp is how long after the first event rows do not count.
	WarmUp time.Duration
	// Folder is where histograms go to, the same for all subtasks of a machine;
	// "" for nowhere.
	Folder string
}

// On says whether anything is to be measured.
func (s Schedule) On() bool { return s.Folder != "" }

// due is the moment of an event time, in nanoseconds since 1970.
func (s Schedule) due(at int64) int64 {
	perMilli := float64(s.Events.Rate) / float64(s.Events.Throttle) * 1e6
	return s.Events.Start*1e6 + int64(float64(at-generator.Base)*perMilli)
}

// Sink keeps of its rows only how late they are. Rows that are there before they
// are due, which the end of the input brings, do not count.
func Sink[R any](s Schedule) sdk.Sink[R] { return timed[R]{s} }

type timed[R any] struct{ schedule Schedule }

func (timed[R]) Name() string { return "to-latencies" }

// Check is asked in plan mode.
func (t timed[R]) Check() error {
	if e := t.schedule.Events; t.schedule.On() && (e.Throttle == 0 || e.Start == 0) {
		return errors.New("latencies are measured against the clock: give --throttle and --start as well")
	}
	return nil
}

func (t timed[R]) Open(_ context.Context, env sdk.SinkEnv) (sdk.Writer[R], error) {
	return &writer[R]{schedule: t.schedule, name: fmt.Sprintf("%s-%d", env.Operator, env.Subtask),
		from: t.schedule.due(generator.Base) + t.schedule.WarmUp.Nanoseconds()}, nil
}

// writer writes its histogram when it is closed, also after a failure.
type writer[R any] struct {
	schedule Schedule
	name     string
	from     int64
	late     latency.Histogram
}

func (w *writer[R]) Write(b *sdk.Batch[R]) error {
	now := time.Now().UnixNano()
	for _, at := range b.Times {
		if due := w.schedule.due(at); due >= w.from && due <= now {
			w.late.Record(time.Duration(now - due))
		}
	}
	return nil
}

func (w *writer[R]) Flush() error { return nil }

func (w *writer[R]) Close() error {
	if w.late.Count() == 0 {
		return nil
	}
	return w.late.Write(w.schedule.Folder, w.name)
}
