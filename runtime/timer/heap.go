package timer

// entry is a timer in the heap.
type entry[K comparable] struct {
	at   int64
	hash uint64
	key  K
}

func (e *entry[K]) before(f *entry[K]) bool {
	return e.at < f.at || e.at == f.at && e.hash < f.hash
}

// heap is a binary min-heap of values: container/heap would box each one.
type heap[K comparable] struct {
	entries []entry[K]
}

func (h *heap[K]) len() int { return len(h.entries) }

func (h *heap[K]) reset() {
	clear(h.entries)
	h.entries = h.entries[:0]
}

func (h *heap[K]) push(e entry[K]) {
	h.entries = append(h.entries, e)
	i := len(h.entries) - 1
	for i > 0 {
		parent := (i - 1) / 2
		if !e.before(&h.entries[parent]) {
			break
		}
		h.entries[i] = h.entries[parent]
		i = parent
	}
	h.entries[i] = e
}

func (h *heap[K]) pop() entry[K] {
	top := h.entries[0]
	n := len(h.entries) - 1
	last := h.entries[n]
	h.entries[n] = entry[K]{}
	h.entries = h.entries[:n]
	if n == 0 {
		return top
	}
	i := 0
	for {
		child := 2*i + 1
		if child >= n {
			break
		}
		if child+1 < n && h.entries[child+1].before(&h.entries[child]) {
			child++
		}
		if !h.entries[child].before(&last) {
			break
		}
		h.entries[i] = h.entries[child]
		i = child
	}
	h.entries[i] = last
	return top
}
