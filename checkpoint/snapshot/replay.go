package snapshot

import "slices"

// Replay gives the changes of a chain of runs to whoever makes their state anew,
// by key groups, and of each the oldest run's first: a later change of a key is
// over an earlier one, a delete over what was there before. What a newer run
// drops, or hides because it is full, is left out. No two keys are compared, so it
// costs less than Merge for each entry that lives, and more for one that does not.
type Replay struct {
	chain
	group int // under way, and
	turn  int // the reader whose changes of it come
	err   error
}

// NewReplay begins a replay of readers, which go from the oldest run to the
// newest. They must not be used otherwise meanwhile.
func NewReplay(readers []*Reader) *Replay {
	return &Replay{chain: chainOf(readers), turn: len(readers)}
}

// Next moves to the next change; false at the end or on an error (Err).
func (r *Replay) Next() bool {
	for r.err == nil {
		for ; r.turn < len(r.readers); r.turn++ {
			from := r.readers[r.turn]
			for from.within(r.group) {
				if !from.Next() {
					r.err = from.err
					return false
				}
				if !r.hidden(r.turn, place{r.rank[r.turn][from.state], from.entry.Namespace}, r.group) {
					return true
				}
			}
		}
		if !r.begin() {
			return false
		}
	}
	return false
}

// begin goes on with the next key group that a run has.
func (r *Replay) begin() bool {
	found := false
	for _, from := range r.readers {
		if from.next == len(from.blocks) {
			continue
		}
		if group := from.blocks[from.next].group; !found || group < r.group {
			r.group, found = group, true
		}
	}
	if found {
		r.turn = 0
		return true
	}
	for _, from := range r.readers {
		if from.Next(); from.err != nil { // what is behind the last entry
			r.err = from.err
		}
	}
	return false
}

// At is the current change, which the next call of Next changes.
func (r *Replay) At() *Entry { return &r.readers[r.turn].entry }

// Err is what ended the iteration, nil at the end.
func (r *Replay) Err() error { return r.err }

// Entries bounds the changes of a key group.
func (r *Replay) Entries(group int) int {
	n := 0
	for _, from := range r.readers {
		at, _ := slices.BinarySearchFunc(from.blocks, group, func(b block, group int) int { return b.group - group })
		for ; at < len(from.blocks) && from.blocks[at].group == group; at++ {
			n += from.blocks[at].entries
		}
	}
	return n
}
