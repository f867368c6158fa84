package window

import (
	"encoding/binary"
	"fmt"
	"slices"

	pb "github.com/millrace/millrace/proto/millrace/v1"
	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/keygroup"
	"github.com/millrace/millrace/runtime/operator"
)

// Progress is the operator state of a window operator: how far a range of key
// groups has fired. A subtask of another parallelism takes up the entries of
// all ranges that it overlaps, starts at the earliest, and skips for each key
// what its old owner had emitted.
type Progress struct {
	Groups    keygroup.Range
	Watermark int64
	// Fired is the last window end whose results are all out.
	Fired int64
	// Emitting is the end whose results are out for hashes below Cursor.
	Emitting int64
	Cursor   uint64
}

// progressKind is the kind of the operator entry (docs/formats/manifest.md).
const progressKind = "window"

// progressSize is six little-endian words: first and last key group and their
// number as u32, one reserved u32, watermark, fired, emitting, cursor as u64.
const progressSize = 4*4 + 4*8

func (p Progress) entry() *pb.OperatorEntry {
	b := make([]byte, 0, progressSize)
	b = binary.LittleEndian.AppendUint32(b, uint32(p.Groups.First))
	b = binary.LittleEndian.AppendUint32(b, uint32(p.Groups.Last))
	b = binary.LittleEndian.AppendUint32(b, uint32(p.Groups.N))
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint64(b, uint64(p.Watermark))
	b = binary.LittleEndian.AppendUint64(b, uint64(p.Fired))
	b = binary.LittleEndian.AppendUint64(b, uint64(p.Emitting))
	b = binary.LittleEndian.AppendUint64(b, p.Cursor)
	return &pb.OperatorEntry{Kind: progressKind, Key: p.Groups.String(), Value: b}
}

func parseProgress(e *pb.OperatorEntry) (Progress, error) {
	b := e.Value
	if len(b) != progressSize {
		return Progress{}, fmt.Errorf("window progress of key groups %s has %d bytes, want %d", e.Key, len(b), progressSize)
	}
	u32 := func(i int) int { return int(binary.LittleEndian.Uint32(b[4*i:])) }
	u64 := func(i int) uint64 { return binary.LittleEndian.Uint64(b[16+8*i:]) }
	return Progress{
		Groups:    keygroup.Range{First: u32(0), Last: u32(1), N: u32(2)},
		Watermark: int64(u64(0)), Fired: int64(u64(1)), Emitting: int64(u64(2)), Cursor: u64(3),
	}, nil
}

// restoreProgress reads the entries that overlap a range of key groups.
func restoreProgress(entries []*pb.OperatorEntry, own keygroup.Range) ([]Progress, error) {
	var all []Progress
	for _, e := range entries {
		if e.Kind != progressKind {
			continue
		}
		p, err := parseProgress(e)
		if err != nil {
			return nil, err
		}
		if own.Overlaps(p.Groups.First, p.Groups.Last) {
			all = append(all, p)
		}
	}
	return all, nil
}

// Snapshot implements operator.Snapshotter. The end of time is not kept: a job
// that goes on after a drain goes on from the last record.
func (w *Sliced[K, T, A, R]) Snapshot(s *operator.Snapshot) error {
	p := Progress{Groups: w.ctx.KeyGroups, Watermark: w.watermark, Fired: w.fired, Emitting: batch.NoTime}
	if s.Terminal && w.watermark == batch.EndOfTime {
		p.Watermark, p.Fired = w.before, w.cfg.Assigner.lastEndBy(w.before)
	}
	if w.fire.phase == emitting {
		p.Emitting, p.Cursor = w.fire.end, w.fire.at
	}
	s.Entries = append(s.Entries, p.entry())
	// What was restored and not yet caught up with still holds for its keys.
	for _, r := range w.restored {
		if r.Fired > w.fired || r.Emitting > w.fired {
			s.Entries = append(s.Entries, r.entry())
		}
	}
	return nil
}

// Restore implements operator.Restorer.
func (w *Sliced[K, T, A, R]) Restore(entries []*pb.OperatorEntry) error {
	w.live = slices.Clone(w.slices.Namespaces())
	w.forget()
	var err error
	if w.restored, err = restoreProgress(entries, w.ctx.KeyGroups); err != nil {
		return err
	}
	for i, p := range w.restored {
		if i == 0 {
			w.watermark, w.fired = p.Watermark, p.Fired
		}
		w.watermark, w.fired = min(w.watermark, p.Watermark), min(w.fired, p.Fired)
	}
	w.reached = w.watermark
	if w.cfg.Assigner.ProcessingTime {
		w.schedule()
	}
	return nil
}

// emitted says whether the result of a key for a window end left before the
// restored checkpoint.
func (w *Sliced[K, T, A, R]) emitted(end int64, hash uint64) bool {
	return slices.ContainsFunc(w.restored, func(p Progress) bool {
		g := keygroup.Of(hash, p.Groups.N)
		return g >= p.Groups.First && g <= p.Groups.Last && (end <= p.Fired || end == p.Emitting && hash < p.Cursor)
	})
}
