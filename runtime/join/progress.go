package join

import (
	"encoding/binary"
	"fmt"

	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/keygroup"
	"github.com/millrace/millrace/runtime/operator"
)

// progress is the operator state of a Window join (docs/formats/manifest.md): the
// last window end that a range of key groups has fired for. A subtask of another
// parallelism starts at the earliest of those that it overlaps, and skips for each
// key what its old owner had fired.
type progress struct {
	groups keygroup.Range
	fired  int64
}

const (
	progressKind = "window-join"
	// progressSize is three little-endian words of 32 bits, first and last key group
	// and their number, and one of 64, the window end.
	progressSize = 3*4 + 8
)

func (p progress) entry() *operator.Entry {
	b := make([]byte, 0, progressSize)
	b = binary.LittleEndian.AppendUint32(b, uint32(p.groups.First))
	b = binary.LittleEndian.AppendUint32(b, uint32(p.groups.Last))
	b = binary.LittleEndian.AppendUint32(b, uint32(p.groups.N))
	b = binary.LittleEndian.AppendUint64(b, uint64(p.fired))
	return &operator.Entry{Kind: progressKind, Key: p.groups.String(), Value: b}
}

// restoreProgress reads the entries that overlap a range of key groups, and the
// earliest end among them.
func restoreProgress(entries []*operator.Entry, own keygroup.Range) (all []progress, first int64, err error) {
	first = batch.NoTime
	for _, e := range entries {
		if e.Kind != progressKind {
			continue
		}
		if len(e.Value) != progressSize {
			return nil, first, fmt.Errorf("progress of the window join of key groups %s has %d bytes, want %d", e.Key, len(e.Value), progressSize)
		}
		u32 := func(i int) int { return int(binary.LittleEndian.Uint32(e.Value[4*i:])) }
		p := progress{keygroup.Range{First: u32(0), Last: u32(1), N: u32(2)}, int64(binary.LittleEndian.Uint64(e.Value[12:]))}
		if !own.Overlaps(p.groups.First, p.groups.Last) {
			continue
		}
		if len(all) == 0 || p.fired < first {
			first = p.fired
		}
		all = append(all, p)
	}
	return all, first, nil
}

// fired says whether a key fired for a window end before the restored checkpoint.
func fired(restored []progress, hash uint64, end int64) bool {
	for _, p := range restored {
		if g := keygroup.Of(hash, p.groups.N); g >= p.groups.First && g <= p.groups.Last && end <= p.fired {
			return true
		}
	}
	return false
}
