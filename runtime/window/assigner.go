package window

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/millrace/millrace/runtime/batch"
)

// Window is the span of event time [Start, End), in Unix milliseconds.
type Window struct {
	Start, End int64
}

func (w Window) String() string {
	return fmt.Sprintf("[%s, %s)", time.UnixMilli(w.Start).UTC().Format(time.RFC3339Nano), time.UnixMilli(w.End).UTC().Format(time.RFC3339Nano))
}

// Assigner says which windows a record belongs to. Exactly one of Size, Gap and
// Endless is set. Times are milliseconds.
type Assigner struct {
	// Size is the length of a window. Slide is the distance between starts:
	// equal to Size for tumbling windows. Starts are at Offset + k × Slide.
	Size, Slide, Offset int64
	// Cumulate makes windows that begin every Size and end every Slide, up to
	// Size after their beginning.
	Cumulate bool
	// Endless makes one window of all time, which only a trigger fires.
	Endless bool
	// Gap makes session windows: a session ends Gap after its last record.
	Gap int64
	// ProcessingTime takes the clock instead of event times.
	ProcessingTime bool
}

// Tumbling cuts time into windows of one size.
func Tumbling(size time.Duration) Assigner {
	return Assigner{Size: size.Milliseconds(), Slide: size.Milliseconds()}
}

// Sliding makes windows of one size that start every slide.
func Sliding(size, slide time.Duration) Assigner {
	return Assigner{Size: size.Milliseconds(), Slide: slide.Milliseconds()}
}

// Cumulating makes windows that begin every size and grow by step.
func Cumulating(size, step time.Duration) Assigner {
	return Assigner{Size: size.Milliseconds(), Slide: step.Milliseconds(), Cumulate: true}
}

// Session makes a window of records that are less than gap apart.
func Session(gap time.Duration) Assigner { return Assigner{Gap: gap.Milliseconds()} }

// Validate names what is wrong.
func (a Assigner) Validate() error {
	switch {
	case a.Endless && a.Gap == 0 && a.Size == 0:
		return nil
	case a.Cumulate && a.Slide > 0 && a.Size%a.Slide != 0:
		return fmt.Errorf("windows that grow to %v by steps of %v: the size must be a multiple of the step", a.size(), time.Duration(a.Slide)*time.Millisecond)
	case a.Gap != 0 && a.Size != 0:
		return errors.New("a window has a size or a session gap, not both")
	case a.Gap < 0 || a.Gap == 0 && a.Size <= 0:
		return errors.New("a window needs a size (or a session gap) of at least one millisecond")
	case a.Gap == 0 && a.Slide <= 0:
		return errors.New("a sliding window needs a slide of at least one millisecond")
	case a.Size > maxSpan || a.Slide > maxSpan || a.Gap > maxSpan:
		return fmt.Errorf("a window is at most %v long", time.Duration(maxSpan)*time.Millisecond)
	case a.Gap == 0 && a.Size/a.Slide > maxOverlap:
		return fmt.Errorf("a record would belong to %d windows: size ÷ slide is at most %d", a.Size/a.Slide, maxOverlap)
	}
	return nil
}

func (a Assigner) size() time.Duration { return time.Duration(a.Size) * time.Millisecond }

const (
	maxSpan    = math.MaxInt64 / int64(time.Millisecond) / 4 // about 73 years
	maxOverlap = 1 << 20
)

// cuts says how time is cut into slices: state cut otherwise cannot be merged to
// these windows.
func (a Assigner) cuts() string {
	clock := "event time"
	if a.ProcessingTime {
		clock = "processing time"
	}
	ms := func(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
	switch {
	case a.Size == a.Slide:
		return fmt.Sprintf("tumbling windows of %v, offset %v, %s", ms(a.Size), ms(a.Offset), clock)
	case a.Cumulate:
		return fmt.Sprintf("windows that grow to %v by %v, offset %v, %s", ms(a.Size), ms(a.Slide), ms(a.Offset), clock)
	}
	return fmt.Sprintf("windows of %v every %v, offset %v, %s", ms(a.Size), ms(a.Slide), ms(a.Offset), clock)
}

// overlaps says that a record may belong to several windows of fixed size.
func (a Assigner) overlaps() bool { return a.Size > a.Slide }

// base is the start of the last window that starts at or before t; where windows
// cumulate, of the last step.
func (a Assigner) base(t int64) int64 { return a.floor(t, a.Slide) }

// floor is the last multiple of d, from Offset, at or before t.
func (a Assigner) floor(t, d int64) int64 {
	m := (t - a.Offset) % d
	if m < 0 {
		m += d
	}
	return t - m
}

// slice returns the slice [start, end) that t lies in, and whether any window
// covers it (windows that start further apart than they are long leave gaps).
func (a Assigner) slice(t int64) (start, end int64, covered bool) {
	base := a.base(t)
	rest := a.Size % a.Slide // ends fall this far behind a start
	if a.Size < a.Slide {
		rest = a.Size
	}
	if rest == 0 {
		return base, base + a.Slide, true
	}
	if t < base+rest {
		return base, base + rest, true
	}
	return base + rest, base + a.Slide, a.Size > a.Slide
}

// firstEnd is the end of the earliest window that covers the slice at start.
func (a Assigner) firstEnd(start int64) int64 {
	if a.Cumulate {
		return start + a.Slide
	}
	// Starts above start-Size, the smallest of them.
	return a.base(start-a.Size) + a.Slide + a.Size
}

// lastEndBy is the end of the latest window that a watermark closes.
func (a Assigner) lastEndBy(watermark int64) int64 {
	switch {
	case watermark == batch.NoTime:
		return batch.NoTime
	case a.Cumulate:
		return a.base(watermark + 1)
	}
	return a.base(watermark+1-a.Size) + a.Size
}

// start is that of the window with an end.
func (a Assigner) start(end int64) int64 {
	if a.Cumulate {
		return a.floor(end-1, a.Size)
	}
	return end - a.Size
}

// lastEnd is the end of the latest window that covers the slice at start.
func (a Assigner) lastEnd(start int64) int64 {
	if a.Cumulate {
		start = a.floor(start, a.Size)
		return start + a.Size
	}
	return a.base(start) + a.Size
}
