package operator

import (
	"encoding/binary"
	"fmt"

	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/watermark"
)

// KindWatermark is the kind of the entries that keep event time; their value is
// 8 bytes, little-endian. Key KeyInput is the watermark of a task's input, which
// the task keeps for its first operator; KeyOutput is an operator's own.
const (
	KindWatermark = "watermark"
	KeyInput      = "input"
	KeyOutput     = "output"
)

// KindInFlight is the kind of the entries in which a task keeps records that a
// barrier has overtaken: the key is the input's port, the value the exchange's
// (docs/formats/inflight.md).
const KindInFlight = "in-flight"

// WatermarkEntry makes an entry of KindWatermark.
func WatermarkEntry(key string, t int64) *Entry {
	return &Entry{Kind: KindWatermark, Key: key, Value: binary.LittleEndian.AppendUint64(nil, uint64(t))}
}

// RestoredWatermark is the least watermark among the entries with a key: what
// every subtask of the restored checkpoint had reached. It is batch.NoTime when
// there is none.
func RestoredWatermark(entries []*Entry, key string) (int64, error) {
	least, found := int64(batch.EndOfTime), false
	for _, e := range entries {
		if e.GetKind() != KindWatermark || e.GetKey() != key {
			continue
		}
		if len(e.GetValue()) != 8 {
			return 0, fmt.Errorf("restore the watermark: entry %s has %d bytes, want 8", key, len(e.GetValue()))
		}
		least, found = min(least, int64(binary.LittleEndian.Uint64(e.GetValue()))), true
	}
	if !found {
		return batch.NoTime, nil
	}
	return least, nil
}

// NewTimestamps returns an operator that gives records event times and makes
// watermarks out of them, in place of those that come in: event time begins
// here. Only the end of time passes through. IdleAfter and MaxDrift of the
// strategy belong to sources and mean nothing here.
func NewTimestamps[T any](s watermark.Strategy[T]) Operator {
	return &timestamps[T]{strategy: s, tracker: s.Tracker(), restored: batch.NoTime}
}

type timestamps[T any] struct {
	plain
	strategy watermark.Strategy[T]
	tracker  *watermark.Tracker
	restored int64
	ended    bool
	times    []int64
	out      Output[T]
	buf      batch.Batch[T]
}

func (s *timestamps[T]) Input(i int) any       { return sole[T](i, s) }
func (s *timestamps[T]) Output(tag string) any { return only(tag, &s.out) }

func (s *timestamps[T]) Open(ctx *Context) error {
	s.ctx = ctx
	s.tracker.Add(batch.NoTime)
	return nil
}

// Push lends the input's values to the output for the call.
func (s *timestamps[T]) Push(b *batch.Batch[T]) error {
	s.ctx.Enter()
	n := uint64(len(b.Values))
	s.ctx.Metrics.RecordsIn += n
	s.times = append(s.times[:0], b.Times...)
	s.buf.Values, s.buf.Times = b.Values, s.times
	s.tracker.Observe(0, s.strategy.Stamp(&s.buf, 0))
	s.ctx.Metrics.RecordsOut += n
	err := s.out.Push(&s.buf)
	s.buf.Values = nil
	return err
}

func (s *timestamps[T]) Watermark(t int64) (int64, error) {
	s.ended = s.ended || t == batch.EndOfTime
	return s.CurrentWatermark(), nil
}

// CurrentWatermark implements Watermarked.
func (s *timestamps[T]) CurrentWatermark() int64 {
	if s.ended {
		return batch.EndOfTime
	}
	return max(s.restored, s.tracker.Watermark(0))
}

// Snapshot implements Snapshotter. The end of time is not kept: a job that
// goes on after a drain goes on from the last record.
func (s *timestamps[T]) Snapshot(snap *Snapshot) error {
	t := max(s.restored, s.tracker.Watermark(0))
	snap.Entries = append(snap.Entries, WatermarkEntry(KeyOutput, t))
	return nil
}

// Restore implements Restorer.
func (s *timestamps[T]) Restore(entries []*Entry) error {
	var err error
	s.restored, err = RestoredWatermark(entries, KeyOutput)
	return err
}
