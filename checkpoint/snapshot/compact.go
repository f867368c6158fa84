package snapshot

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// How chains of runs are kept short and small.
//
// A chain is one large run and, behind it, the changes since. What to merge is
// decided from the sizes of its runs and that of the live state:
//
//   - All of it, when it has more than ¾ of the live state in dead bytes. What a
//     full run costs was then paid for by changes of at least ¾ of its size, so
//     full runs cost less than 4/3 of what changed, whatever the workload.
//   - Else the newest runs, once there are fanIn of about one size: they become
//     one, with their deletes and drops, and the rest is left alone. A byte is
//     merged so once for each step of sizes, of which there are log16(state ÷
//     change) at most.
//
// So the chain never holds more than twice the live state and what changes
// while it is being merged, and is as long as fanIn for each step of sizes.
const (
	fanIn = 16
	// alike: a run this many times larger than all that is newer is of
	// another step.
	alike = 4
	// minDead keeps state of a few kilobytes from being rewritten every time.
	minDead = 64 << 10
)

// Choose says which runs of a chain to merge to one: all from the returned
// index on. With 0 the result is a full run. sizes go from the oldest run to
// the newest, live is the size that a full run would have.
func Choose(sizes []uint64, live uint64) (from int, merge bool) {
	if len(sizes) < 2 {
		return 0, false
	}
	total := uint64(0)
	for _, n := range sizes {
		total += n
	}
	if base := max(live, minDead); total > base+base/4*3 {
		return 0, true
	}
	from = len(sizes) - 1
	for largest := sizes[from]; from > 0 && sizes[from-1] <= alike*max(largest, 1); from-- {
		largest = max(largest, sizes[from-1])
	}
	return from, len(sizes)-from >= fanIn
}

// Merger merges chains of runs.
type Merger struct {
	Opener  *Opener
	Scratch Scratch
	// Groups are the operator's key groups, First to Last those of the result.
	Groups, First, Last int
}

// Merge merges the newest runs of a chain, and the delta behind them, to one
// run. With full they are the whole chain, and the run is the live state; else
// the run stands for them towards what is older: it has their deletes and
// drops. It may block on the bucket.
func (m *Merger) Merge(ctx context.Context, chain []*pb.RunRef, delta Run, full bool) (Run, error) {
	readers, err := m.Opener.Chain(ctx, chain, m.First, m.Last)
	if err != nil {
		return Run{}, fmt.Errorf("compact: %w", err)
	}
	defer func() {
		for _, r := range readers {
			_ = r.Close()
		}
	}()
	if !delta.Empty() {
		r, err := delta.reader(m.First, m.Last)
		if err != nil {
			return Run{}, fmt.Errorf("compact: %w", err)
		}
		readers = append(readers, r)
	}
	for _, r := range readers {
		// A run that hides all that is older hides what is not merged, too.
		full = full || r.full && r.first <= m.First && r.last >= m.Last
	}
	for _, r := range readers {
		if !full && (r.full || len(r.drops) > 0) && (r.first > m.First || r.last < m.Last) {
			return Run{}, fmt.Errorf("compact: run %s hides what is older for key groups %d to %d only: it can be merged to a full run of %d to %d, to no other",
				r.object, r.first, r.last, m.First, m.Last)
		}
	}
	merged := Merge(readers)
	merged.keep = !full
	h := header{groups: m.Groups, first: m.First, last: m.Last, full: full, names: merged.names}
	if !full {
		h.drops = merged.allDrops()
	}
	run, err := writeMerged(merged, m.Scratch, h)
	if err != nil {
		return Run{}, fmt.Errorf("compact: %w", err)
	}
	return run, nil
}

// reader opens a run that has just been written.
func (r Run) reader(first, last int) (*Reader, error) {
	if r.apart == nil {
		return Open("(delta)", r.Bytes, first, last)
	}
	return openSource("(delta)", r.Size(), &ownSource{r}, first, last, reading{window: localWindow})
}

// ownSource is a run of this process.
type ownSource struct{ run Run }

func (s *ownSource) read(offset int64, p []byte, check func([]byte) error) ([]byte, error) {
	if n, err := s.run.ReadAt(p, offset); n < len(p) {
		return nil, fmt.Errorf("read a run: %w", err)
	}
	return p, check(p)
}

// allDrops are those of all readers.
func (m *Merged) allDrops() []dropped {
	var drops []dropped
	for p := range m.hides {
		drops = append(drops, dropped{uint32(p.state), p.ns})
	}
	slices.SortFunc(drops, func(a, b dropped) int {
		return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.ns, b.ns))
	})
	return drops
}
