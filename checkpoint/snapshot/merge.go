package snapshot

import (
	"bytes"
	"slices"
)

// Merged is the live state of a chain of runs, in the order of a run: by key
// group, state name, namespace and key.
type Merged struct {
	readers []*Reader // oldest first
	rank    [][]int   // of a reader's state, its place among all names
	names   []string
	hides   map[place][]int // readers whose drops name a place
	heap    []int           // readers that stand at an entry, the least first
	begun   bool
	// keep gives out deletes too: they stand for what they hide elsewhere.
	keep bool

	entry Entry
	err   error

	// The drops of the place of the last entry, looked up once a place.
	at      place
	atKnown bool
	atHides []int
}

// place is a namespace of a state.
type place struct {
	state int
	ns    int64
}

// Merge joins readers, which go from the oldest run to the newest: for each
// key the newest entry counts, and only live ones are returned, each until the
// next call of Next. Readers must not be used otherwise meanwhile.
func Merge(readers []*Reader) *Merged {
	m := &Merged{readers: readers, hides: map[place][]int{}}
	for _, r := range readers {
		m.names = append(m.names, r.names...)
	}
	slices.Sort(m.names)
	m.names = slices.Compact(m.names)
	for i, r := range readers {
		rank := make([]int, len(r.names))
		for j, name := range r.names {
			rank[j], _ = slices.BinarySearch(m.names, name)
		}
		m.rank = append(m.rank, rank)
		for _, d := range r.drops {
			state, _ := slices.BinarySearch(m.names, d.State)
			p := place{state, d.Namespace}
			m.hides[p] = append(m.hides[p], i)
		}
	}
	return m
}

// Next moves to the next live entry; false at the end or on an error (Err).
func (m *Merged) Next() bool {
	if len(m.readers) == 1 { // which hides nothing of its own
		r := m.readers[0]
		for r.Next() {
			if m.keep || !r.entry.Delete {
				return true
			}
		}
		m.err = r.err
		return false
	}
	if !m.begun {
		m.begun = true
		for i := range m.readers {
			m.push(i)
		}
	}
	for m.err == nil && len(m.heap) > 0 {
		i := m.heap[0]
		e, state := m.readers[i].entry, m.readers[i].state
		p := place{m.rank[i][state], e.Namespace}
		m.advance()
		// Of equal keys the heap gives the newest first; the older are passed.
		for m.err == nil && len(m.heap) > 0 && m.same(i, p, e) {
			m.advance()
		}
		if m.err == nil && (m.keep || !e.Delete) && !m.hidden(i, p, e.Group) {
			m.entry = e
			return true
		}
	}
	return false
}

// Entry is the current entry, valid after Next answered true.
func (m *Merged) Entry() Entry { return *m.At() }

// At is Entry without a copy: what it points to changes with the next call.
func (m *Merged) At() *Entry {
	if len(m.readers) == 1 {
		return &m.readers[0].entry
	}
	return &m.entry
}

// Entries bounds the entries of a key group, those that are hidden included.
func (m *Merged) Entries(group int) int {
	n := 0
	for _, r := range m.readers {
		at, _ := slices.BinarySearchFunc(r.blocks, group, func(b block, group int) int { return b.group - group })
		for ; at < len(r.blocks) && r.blocks[at].group == group; at++ {
			n += r.blocks[at].entries
		}
	}
	return n
}

// Err is what ended the iteration, nil at the end.
func (m *Merged) Err() error { return m.err }

func (m *Merged) same(i int, p place, e Entry) bool {
	j := m.heap[0]
	if j == i {
		return false // a run holds a key once
	}
	o := &m.readers[j].entry
	return o.Group == e.Group && o.Namespace == p.ns && m.rank[j][m.readers[j].state] == p.state &&
		bytes.Equal(o.Key, e.Key)
}

// hidden says whether a run newer than i hides its entry at p.
func (m *Merged) hidden(i int, p place, group int) bool {
	for j := i + 1; j < len(m.readers); j++ {
		if m.readers[j].full && m.readers[j].speaksFor(group) {
			return true
		}
	}
	if len(m.hides) == 0 {
		return false
	}
	if !m.atKnown || m.at != p {
		m.at, m.atKnown, m.atHides = p, true, m.hides[p]
	}
	for _, h := range m.atHides {
		if h > i && m.readers[h].speaksFor(group) {
			return true
		}
	}
	return false
}

// less orders by key and, for equal keys, the newest run first.
func (m *Merged) less(a, b int) bool {
	x, y := m.readers[a], m.readers[b]
	if x.entry.Group != y.entry.Group {
		return x.entry.Group < y.entry.Group
	}
	if s, t := m.rank[a][x.state], m.rank[b][y.state]; s != t {
		return s < t
	}
	if x.entry.Namespace != y.entry.Namespace {
		return x.entry.Namespace < y.entry.Namespace
	}
	if c := bytes.Compare(x.entry.Key, y.entry.Key); c != 0 {
		return c < 0
	}
	return a > b
}

// push moves a reader to its next entry and takes it into the heap.
func (m *Merged) push(i int) {
	if !m.readers[i].Next() {
		m.fail(m.readers[i].Err())
		return
	}
	m.heap = append(m.heap, i)
	for at := len(m.heap) - 1; at > 0; {
		parent := (at - 1) / 2
		if !m.less(m.heap[at], m.heap[parent]) {
			return
		}
		m.heap[at], m.heap[parent] = m.heap[parent], m.heap[at]
		at = parent
	}
}

// advance moves the least reader on.
func (m *Merged) advance() {
	i := m.heap[0]
	if !m.readers[i].Next() {
		m.fail(m.readers[i].Err())
		last := len(m.heap) - 1
		m.heap[0] = m.heap[last]
		m.heap = m.heap[:last]
	}
	for at := 0; ; {
		least := at
		for _, child := range [2]int{2*at + 1, 2*at + 2} {
			if child < len(m.heap) && m.less(m.heap[child], m.heap[least]) {
				least = child
			}
		}
		if least == at {
			return
		}
		m.heap[at], m.heap[least] = m.heap[least], m.heap[at]
		at = least
	}
}

func (m *Merged) fail(err error) {
	if m.err == nil {
		m.err = err
	}
}
