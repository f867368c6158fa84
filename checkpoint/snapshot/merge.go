package snapshot

import "bytes"

// Merged is the live state of a chain of runs, in the order of a run: by key
// group, state name, namespace and key.
type Merged struct {
	chain
	heap  []int // readers that stand at an entry, the least first
	begun bool
	// keep gives out deletes too: they stand for what they hide elsewhere.
	keep bool

	entry Entry
	err   error
}

// Merge joins readers, which go from the oldest run to the newest: for each
// key the newest entry counts, and only live ones are returned, each until the
// next call of Next. Readers must not be used otherwise meanwhile.
func Merge(readers []*Reader) *Merged { return &Merged{chain: chainOf(readers)} }

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
func (m *Merged) Entry() Entry {
	if len(m.readers) == 1 {
		return m.readers[0].entry
	}
	return m.entry
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
