package snapshot

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
)

// Writer collects the changes of one run. The zero value is not usable.
//
// Changes may come in any order; of several changes of one key the last one
// counts. Keys and values are copied to one arena, so that a change costs no
// allocation once the arena has grown. With a Scratch the arena has a bound.
type Writer struct {
	groups      int
	first, last int
	full        bool
	arena       []byte
	changes     []change
	sorting     []change
	names       []string
	nameIndex   map[string]uint32
	lastName    uint32
	drops       []dropped

	scratch Scratch
	parts   *parts // what has been spilled
	err     error
}

// change is free of pointers, so that the collector never walks the list.
type change struct {
	ns     int64
	prefix uint64 // first 8 bytes of the key, in an order like theirs
	at     uint64 // of the key in the arena, the value follows
	keyLen uint32
	valLen uint32
	name   uint32
	seq    uint32 // later changes have higher ones
	group  uint16
	delete bool
}

// NewWriter returns a writer for an operator with this many key groups. The
// run speaks for all of them unless Own narrows it.
func NewWriter(maxParallelism int) *Writer {
	if maxParallelism < 1 || maxParallelism > maxGroups {
		panic(fmt.Sprintf("snapshot: %d key groups, must be 1 to %d", maxParallelism, maxGroups))
	}
	return &Writer{groups: maxParallelism, last: maxParallelism - 1, nameIndex: map[string]uint32{}}
}

// Own sets the key groups, inclusive, that the run speaks for: those that its
// subtask owns. Drops reach no others. Every change must lie in them.
func (w *Writer) Own(first, last int) {
	if first < 0 || last < first || last >= w.groups {
		panic(fmt.Sprintf("snapshot: own key groups %d to %d of %d", first, last, w.groups))
	}
	w.first, w.last = first, last
}

// Expect makes room for about so many changes, of so many bytes of keys and values,
// as far as the writer may hold them.
func (w *Writer) Expect(changes, bytes int) {
	if need := bytes + changeSize*changes; w.scratch.Folder != "" && need > w.scratch.Memory {
		share := float64(w.scratch.Memory) / float64(need)
		changes, bytes = int(share*float64(changes)), int(share*float64(bytes))
	}
	w.changes, w.arena = slices.Grow(w.changes, changes), slices.Grow(w.arena, bytes)
}

// Full marks the run as the whole live state: it hides every older run.
func (w *Writer) Full() { w.full = true }

// Put records that a key has a value. Both are copied.
func (w *Writer) Put(group int, state string, ns int64, key, value []byte) {
	at := uint64(len(w.arena))
	w.arena = append(w.arena, key...)
	w.arena = append(w.arena, value...)
	w.add(change{ns: ns, at: at, keyLen: uint32(len(key)), valLen: uint32(len(value)), name: w.nameOf(state)}, group)
}

// Delete records that a key has no value any more.
func (w *Writer) Delete(group int, state string, ns int64, key []byte) {
	at := uint64(len(w.arena))
	w.arena = append(w.arena, key...)
	w.add(change{ns: ns, at: at, keyLen: uint32(len(key)), name: w.nameOf(state), delete: true}, group)
}

// Drop hides all entries of a state's namespace in older runs, at the cost of
// one header entry. Changes of the same run are not touched, whatever the
// order of the calls.
func (w *Writer) Drop(state string, ns int64) {
	w.drops = append(w.drops, dropped{name: w.nameOf(state), ns: ns})
}

// Len is the number of changes and drops in memory.
func (w *Writer) Len() int { return len(w.changes) + len(w.drops) }

// Size is the number of bytes of keys and values in memory.
func (w *Writer) Size() int { return len(w.arena) }

// Reset forgets everything but the memory and the key groups.
func (w *Writer) Reset() {
	w.arena, w.changes, w.drops = w.arena[:0], w.changes[:0], w.drops[:0]
	w.full, w.err = false, nil
	w.forgetParts()
}

func (w *Writer) add(c change, group int) {
	if group < w.first || group > w.last {
		panic(fmt.Sprintf("snapshot: change in key group %d of a run for %d to %d", group, w.first, w.last))
	}
	c.group, c.seq, c.prefix = uint16(group), uint32(len(w.changes)), prefixOf(w.key(c))
	w.changes = append(w.changes, c)
	if w.scratch.Folder != "" && w.held() > w.scratch.Memory {
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
		n = uint32(len(w.names))
		w.names = append(w.names, state)
		w.nameIndex[state] = n
	}
	w.lastName = n
	return n
}

// Finish sorts and encodes what was collected. A writer with nothing to say,
// that is not Full, gives an empty run. The writer may be used again after
// Reset; the run does not share its memory.
func (w *Writer) Finish() (Run, error) {
	if w.err != nil {
		return Run{}, w.err
	}
	if w.parts != nil {
		return w.join()
	}
	if w.Len() == 0 && !w.full {
		return Run{KeyGroupFirst: w.first, KeyGroupLast: w.last}, nil
	}
	rank, sorted, err := w.rankNames()
	if err != nil {
		return Run{}, err
	}
	b := newBuilder(nil, blockLimit)
	b.body = make([]byte, 0, len(w.arena)+6*len(w.changes))
	w.encode(b, rank)
	head := b.head(w.header(sorted, rank), len(b.body))
	return Run{
		Bytes:         append(head, b.body...),
		KeyGroupFirst: w.first, KeyGroupLast: w.last,
		Entries: b.entries,
	}, nil
}

// encode sorts the changes and adds them to the blocks.
func (w *Writer) encode(b *builder, rank []uint32) {
	w.sortChanges(rank)
	for _, c := range w.changes {
		b.add(int(c.group), rank[c.name], c.ns, w.key(c), w.value(c), c.delete)
	}
	b.end()
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

// sortChanges sorts and keeps the last change of each key.
func (w *Writer) sortChanges(rank []uint32) {
	w.groupChanges()
	for from := 0; from < len(w.changes); {
		to := from + 1
		for to < len(w.changes) && w.changes[to].group == w.changes[from].group {
			to++
		}
		slices.SortFunc(w.changes[from:to], func(a, b change) int {
			if c := w.compare(rank, a, b); c != 0 {
				return c
			}
			return cmp.Compare(a.seq, b.seq)
		})
		from = to
	}
	kept := w.changes[:0]
	for i, c := range w.changes {
		if i+1 < len(w.changes) && c.group == w.changes[i+1].group && w.compare(rank, c, w.changes[i+1]) == 0 {
			continue
		}
		kept = append(kept, c)
	}
	w.changes = kept
}

// groupChanges brings changes into the order of their key groups, by counting.
// A store that walks its tables in that order leaves nothing to do.
func (w *Writer) groupChanges() {
	if slices.IsSortedFunc(w.changes, func(a, b change) int { return cmp.Compare(a.group, b.group) }) {
		return
	}
	starts := make([]int, w.groups+1)
	for _, c := range w.changes {
		starts[c.group+1]++
	}
	for g := range w.groups {
		starts[g+1] += starts[g]
	}
	w.sorting = slices.Grow(w.sorting[:0], len(w.changes))[:len(w.changes)]
	for _, c := range w.changes {
		w.sorting[starts[c.group]] = c
		starts[c.group]++
	}
	w.changes, w.sorting = w.sorting, w.changes
}

// compare orders changes of one key group by state, namespace and key.
func (w *Writer) compare(rank []uint32, a, b change) int {
	if a.name != b.name {
		return cmp.Compare(rank[a.name], rank[b.name])
	}
	if a.ns != b.ns {
		return cmp.Compare(a.ns, b.ns)
	}
	if a.prefix != b.prefix {
		return cmp.Compare(a.prefix, b.prefix)
	}
	return bytes.Compare(w.key(a), w.key(b))
}

// prefixOf orders like the first 8 bytes of a key. Short keys are padded, so
// that equal prefixes say nothing.
func prefixOf(key []byte) uint64 {
	if len(key) >= 8 {
		return binary.BigEndian.Uint64(key)
	}
	var b [8]byte
	copy(b[:], key)
	return binary.BigEndian.Uint64(b[:])
}

func (w *Writer) key(c change) []byte { return w.arena[c.at : c.at+uint64(c.keyLen)] }

func (w *Writer) value(c change) []byte {
	from := c.at + uint64(c.keyLen)
	return w.arena[from : from+uint64(c.valLen)]
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
