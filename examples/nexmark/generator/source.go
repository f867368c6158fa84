package generator

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/millrace/millrace/examples/nexmark/event"
	"github.com/millrace/millrace/sdk"
)

// Splits is the number of splits, whatever the parallelism.
const Splits = 64

// Config says which events a Source has, and how fast.
type Config struct {
	Seed uint64
	// Rate is the number of events in a second of event time.
	Rate int
	// Events is the number of events.
	Events int64
	// Group shuffles each run of so many events, in the same way each time;
	// with 0 or 1 they come in order.
	Group int64
	// Throttle is the number of events a second of the machine's clock, without
	// limit when 0. A job that was away for a while finds those of that time
	// waiting, as those of a live stream would be.
	Throttle int64
	// Start is when event 0 of a throttled source comes, in milliseconds since
	// 1970; with 0, when the job begins.
	Start int64
}

// Source is a bounded source of events with their event times. Its splits are
// in order of time, but for the shuffling within groups: see OutOfOrderness.
func Source(c Config) sdk.Source[event.Event] {
	return &source{Config: c, channels: sync.OnceValue(func() *Channels { return NewChannels(c.Seed) })}
}

// Check says what is wrong with a configuration; it is asked in plan mode.
func (c Config) Check() error {
	const most = 1 << 50 // so that no time overflows
	switch {
	case c.Rate < 1 || c.Rate > 1<<30:
		return fmt.Errorf("nexmark: %d events a second of event time: it must be from 1 to %d", c.Rate, 1<<30)
	case c.Events < 0 || c.Events > most:
		return fmt.Errorf("nexmark: %d events: it must be from 0 to %d", c.Events, int64(most))
	case c.Group < 0 || c.Group > 1<<20 || c.Group > 1 && c.Group%953 == 0:
		return fmt.Errorf("nexmark: groups of %d events out of order: it must be from 0 to %d, and no multiple of 953", c.Group, 1<<20)
	case c.Throttle < 0 || c.Start < 0:
		return errors.New("nexmark: throttle and start must not be negative")
	}
	return nil
}

// OutOfOrderness is how far events are out of order in a split.
func (c Config) OutOfOrderness() time.Duration {
	if c.Group <= 1 {
		return 0
	}
	return time.Duration(c.Group*1000/int64(c.Rate)+1) * time.Millisecond
}

// order is the number of the event that comes at a place. Places and numbers
// are the same within each whole group.
func (c Config) order(place int64) int64 {
	const stride = 953 // a prime
	if c.Group <= 1 || place >= c.Events/c.Group*c.Group {
		return place
	}
	return place/c.Group*c.Group + place%c.Group*stride%c.Group
}

type source struct {
	Config
	channels func() *Channels
	pacer    pacer
}

func (*source) Name() string  { return "nexmark" }
func (*source) Bounded() bool { return true }
func (*source) Timed() bool   { return true }

// Splits implements sdk.Source. A split's payload is when event 0 comes, which
// does not change while the job lives.
func (s *source) Splits(_ context.Context, _ sdk.SourceEnv, known []sdk.Split) ([]sdk.Split, error) {
	start := s.Start
	if start == 0 {
		start = time.Now().UnixMilli()
	}
	payload := binary.BigEndian.AppendUint64(nil, uint64(start))
	if len(known) > 0 {
		payload = known[0].Payload
	}
	splits := make([]sdk.Split, Splits)
	for i := range splits {
		splits[i] = sdk.Split{ID: strconv.Itoa(i), Payload: payload}
	}
	return splits, nil
}

// Open implements sdk.Source. A position is the place of the next event.
func (s *source) Open(_ context.Context, env sdk.SourceEnv, split sdk.Split, position []byte) (sdk.Reader[event.Event], error) {
	first, err := strconv.ParseUint(split.ID, 10, 63)
	if err != nil || first >= Splits || len(split.Payload) != 8 {
		return nil, fmt.Errorf("nexmark: split %q is not one of its own", split.ID)
	}
	r := &reader{source: s, wake: env.Wake, next: int64(first), end: s.Events,
		start: time.UnixMilli(int64(binary.BigEndian.Uint64(split.Payload)))}
	if len(position) > 0 {
		if r.next, err = placeOf(position); err != nil {
			return nil, fmt.Errorf("nexmark: split %s: %w", split.ID, err)
		}
	}
	r.Generator = New(s.Seed, s.Rate, s.channels())
	return r, nil
}

func placeOf(position []byte) (int64, error) {
	if len(position) != 8 {
		return 0, fmt.Errorf("a position of %d bytes", len(position))
	}
	return int64(binary.BigEndian.Uint64(position)), nil
}

// reader reads one split: the places next, next + Splits and so on below end.
type reader struct {
	*Generator
	source    *source
	wake      func()
	start     time.Time
	next, end int64
}

// Poll implements sdk.Reader.
func (r *reader) Poll(b *sdk.Batch[event.Event], most int) (sdk.ReadStatus, error) {
	end := r.end
	var now time.Time
	if r.source.Throttle > 0 {
		now = time.Now()
		end = min(end, r.due(now))
	}
	count := max(0, min(int64(most), (end-r.next+Splits-1)/Splits))
	r.fill(b, int(count))
	switch {
	case r.next >= r.end:
		return sdk.ReadEnded, nil
	case r.next >= end:
		r.source.pacer.wait(now, r.comes(r.next), r.wake)
		return sdk.ReadWaiting, nil
	}
	return sdk.ReadMore, nil
}

// fill appends the next count events.
func (r *reader) fill(b *sdk.Batch[event.Event], count int) {
	had := len(b.Values)
	b.Values = slices.Grow(b.Values, count)[:had+count]
	b.Times = slices.Grow(b.Times, count)[:had+count]
	values, times := b.Values[had:], b.Times[had:]
	if r.source.Group > 1 {
		for i := range values {
			n := uint64(r.source.order(r.next))
			times[i] = r.Time(n)
			r.Make(&values[i], n, times[i])
			r.next += Splits
		}
		return
	}
	// In order, times are counted on, which costs no division.
	n, rate := uint64(r.next), r.Rate
	at, rest := r.Time(n), n*1000%rate
	step, more := int64(Splits*1000/rate), Splits*1000%rate
	for i := range times {
		times[i] = at
		at, rest = at+step, rest+more
		if rest >= rate {
			at, rest = at+1, rest-rate
		}
	}
	r.MakeAll(values, times, n, Splits)
	r.next += int64(count) * Splits
}

// due is the number of events that have come by now.
func (r *reader) due(now time.Time) int64 {
	since := now.Sub(r.start)
	if since < 0 {
		return 0
	}
	whole, part := int64(since/time.Second), int64(since%time.Second)
	return whole*r.source.Throttle + part*r.source.Throttle/int64(time.Second) + 1
}

// comes is when the event at a place comes.
func (r *reader) comes(place int64) time.Time {
	whole, part := place/r.source.Throttle, place%r.source.Throttle
	return r.start.Add(time.Duration(whole)*time.Second + time.Duration(part)*time.Second/time.Duration(r.source.Throttle) + 1)
}

// Position implements sdk.Reader.
func (r *reader) Position() []byte { return binary.BigEndian.AppendUint64(nil, uint64(r.next)) }

// StopAfter implements sdk.Reader.
func (r *reader) StopAfter(position []byte) {
	r.end = 0
	if at, err := placeOf(position); err == nil {
		r.end = min(at, r.source.Events)
	}
}

// Lag implements sdk.Reader: of a throttled source it is behind its clock.
func (r *reader) Lag() (millis, records int64) {
	if r.source.Throttle == 0 {
		return -1, max(0, (r.end-r.next+Splits-1)/Splits)
	}
	now := time.Now()
	records = max(0, (min(r.end, r.due(now))-r.next+Splits-1)/Splits)
	if records == 0 {
		return 0, 0
	}
	return max(0, now.Sub(r.comes(r.next)).Milliseconds()), records
}

// Close implements sdk.Reader.
func (r *reader) Close() error { return nil }
