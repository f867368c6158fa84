package snapshot

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// Writer collects the changes of one run. The zero value is not usable.
//
// Changes may come in any order; of several changes of one key the last one
// counts. Keys and values are copied, so that a change costs no allocation once
// there is memory.
//
// Who has changes in about the order of key groups says when groups are Done:
// those are sorted and encoded at once, while they are in the caches, and the
// writer holds few. With a Scratch what it holds has a bound, whatever the order.
type Writer struct {
	groups      int
	first, last int
	full        bool
	waiting     []*waiting // by key group from first on, nil for none
	held        int        // bytes of changes that wait
	names       []string
	nameIndex   map[string]uint32
	lastName    uint32
	drops       []dropped

	begun   *encoding // of the groups that are done
	scratch Scratch
	parts   *parts // what has been spilled
	err     error
}

// NewWriter returns a writer for an operator with this many key groups. The
// run speaks for all of them unless Own narrows it.
func NewWriter(maxParallelism int) *Writer {
	if maxParallelism < 1 || maxParallelism > maxGroups {
		panic(fmt.Sprintf("snapshot: %d key groups, must be 1 to %d", maxParallelism, maxGroups))
	}
	w := &Writer{groups: maxParallelism, nameIndex: map[string]uint32{}}
	w.Own(0, maxParallelism-1)
	return w
}

// Own sets the key groups, inclusive, that the run speaks for: those that its
// subtask owns. Drops reach no others. Every change must lie in them. It comes
// before any change.
func (w *Writer) Own(first, last int) {
	if first < 0 || last < first || last >= w.groups {
		panic(fmt.Sprintf("snapshot: own key groups %d to %d of %d", first, last, w.groups))
	}
	w.first, w.last = first, last
	w.waiting = make([]*waiting, last-first+1)
}

// Full marks the run as the whole live state: it hides every older run.
func (w *Writer) Full() { w.full = true }

// State says that changes or drops of a state may come: of states that it does not
// know the writer takes none once a key group is Done.
func (w *Writer) State(name string) { w.nameOf(name) }

// Put records that a key has a value. Both are copied.
func (w *Writer) Put(group int, state string, ns int64, key, value []byte) {
	w.add(group, state, ns, key, value, false)
}

// Delete records that a key has no value any more.
func (w *Writer) Delete(group int, state string, ns int64, key []byte) {
	w.add(group, state, ns, key, nil, true)
}

// Drop hides all entries of a state's namespace in older runs, at the cost of
// one header entry. Changes of the same run are not touched, whatever the
// order of the calls.
func (w *Writer) Drop(state string, ns int64) {
	w.drops = append(w.drops, dropped{name: w.nameOf(state), ns: ns})
}

func (w *Writer) add(group int, state string, ns int64, key, value []byte, del bool) {
	if group < w.first || group > w.last {
		panic(fmt.Sprintf("snapshot: change in key group %d of a run for %d to %d", group, w.first, w.last))
	}
	g := w.waiting[group-w.first]
	if g == nil {
		if w.begun != nil && group <= w.begun.done {
			panic(fmt.Sprintf("snapshot: change in key group %d, which was done", group))
		}
		g = newWaiting()
		w.waiting[group-w.first] = g
	}
	g.add(stretch{name: w.nameOf(state), ns: ns}, key, value, del)
	w.held += len(key) + len(value) + changeSize
	if w.scratch.Folder != "" && w.held > w.scratch.Memory {
		w.spill()
	}
}

// nameOf numbers state names in order of appearance. Consecutive changes
// mostly share a name, whose comparison is one of pointers then.
func (w *Writer) nameOf(state string) uint32 {
	if len(w.names) > 0 && w.names[w.lastName] == state {
		return w.lastName
	}
	n, ok := w.nameIndex[state]
	if !ok {
		if w.begun != nil {
			panic(fmt.Sprintf("snapshot: changes of state %q, which were not announced", state))
		}
		n = uint32(len(w.names))
		w.names = append(w.names, state)
		w.nameIndex[state] = n
	}
	w.lastName = n
	return n
}

// encoding is the blocks of the key groups that are done.
type encoding struct {
	*builder
	out     overflow
	names   []string // sorted
	rank    []uint32 // of a name, by its number
	done    int
	sorting []change
}

// Done says that no more changes come of key groups up to this one.
func (w *Writer) Done(group int) {
	if w.err != nil || w.parts != nil {
		return // what is spilled is sorted in the end
	}
	if w.begun == nil {
		if w.begun, w.err = w.begin(); w.err != nil {
			return
		}
	}
	e := w.begun
	for g := e.done + 1; g <= group; g++ {
		w.encode(e.builder, e.rank, g)
	}
	e.done = max(e.done, group)
}

func (w *Writer) begin() (*encoding, error) {
	rank, names, err := w.rankNames()
	if err != nil {
		return nil, err
	}
	e := &encoding{out: overflow{scratch: w.scratch}, names: names, rank: rank, done: w.first - 1}
	e.builder = newBuilder(&e.out, blockLimit)
	return e, nil
}

// encode adds the changes of a key group to the blocks, sorted.
func (w *Writer) encode(b *builder, rank []uint32, group int) {
	g := w.waiting[group-w.first]
	if g == nil {
		return
	}
	w.waiting[group-w.first] = nil
	w.held -= g.held()
	g.encode(b, rank, group)
	g.free()
}

// Finish encodes what is not, and returns the run. A writer with nothing to say,
// that is not Full, gives an empty run. The writer is over with it.
func (w *Writer) Finish() (Run, error) {
	if w.parts != nil && w.err == nil {
		return w.join()
	}
	w.Done(w.last)
	if w.err != nil {
		w.forgetParts()
		return Run{}, w.err
	}
	e := w.begun
	e.end()
	if e.entries == 0 && len(w.drops) == 0 && !w.full {
		return Run{KeyGroupFirst: w.first, KeyGroupLast: w.last}, e.out.close()
	}
	return e.run(w.header(e.names, e.rank), &e.out)
}

func (w *Writer) header(names []string, rank []uint32) header {
	return header{groups: w.groups, first: w.first, last: w.last, full: w.full, names: names, drops: w.sortDrops(rank)}
}

// rankNames sorts the state names and maps each to its place.
func (w *Writer) rankNames() (rank []uint32, sorted []string, err error) {
	sorted = slices.Sorted(slices.Values(w.names))
	rank = make([]uint32, len(sorted))
	for i, name := range sorted {
		if len(name) > maxNameSize {
			return nil, nil, fmt.Errorf("encode run: state name %.40q… is longer than %d bytes", name, maxNameSize)
		}
		rank[w.nameIndex[name]] = uint32(i)
	}
	return rank, sorted, nil
}

func (w *Writer) sortDrops(rank []uint32) []dropped {
	drops := make([]dropped, 0, len(w.drops))
	for _, d := range w.drops {
		drops = append(drops, dropped{name: rank[d.name], ns: d.ns})
	}
	slices.SortFunc(drops, func(a, b dropped) int {
		return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.ns, b.ns))
	})
	return slices.Compact(drops)
}

// run is what was built, in memory as long as the scratch allows.
func (b *builder) run(h header, out *overflow) (Run, error) {
	if err := errors.Join(b.err, out.flush()); err != nil {
		return Run{}, errors.Join(err, out.close())
	}
	run := Run{KeyGroupFirst: h.first, KeyGroupLast: h.last, Entries: b.entries}
	switch {
	case out.file != nil:
		run.apart = &apart{head: b.head(h, 0), blocks: out.file, length: b.length, crc: b.crc}
	case b.length > mostChunk:
		run.apart = &apart{head: b.head(h, 0), blocks: out.chunks, length: b.length, crc: b.crc}
	default:
		run.Bytes = b.head(h, int(b.length))
		for _, c := range out.chunks {
			run.Bytes = append(run.Bytes, c.bytes...)
		}
	}
	return run, nil
}
