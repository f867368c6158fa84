package state

import "unsafe"

// Stride is how many records ahead of an update Ahead reads.
const Stride = 16

// farBytes is the size of a table from which its pages are not in the nearest
// caches, so that reading ahead pays.
const farBytes = 1 << 20

// Ahead reads what an Upsert or a Get of these hashes will read, at most
// Stride of them, so that the memory of all comes at the same time instead of
// one after the other: an update of one key waits for three lines of memory,
// and what it does then depends on what they hold. Ahead changes nothing, and
// a table that the caches hold anyhow it leaves alone.
//
// An operator calls it every Stride records of a batch:
//
//	for i := range b.Values {
//		if i%state.Stride == 0 {
//			t.Ahead(b.Hashes[i:])
//		}
//		v, fresh := t.Upsert(b.Hashes[i], key(b.Values[i]))
//		...
//	}
func (t *Table[K, V]) Ahead(hashes []uint64) {
	if t.bytes < farBytes {
		return
	}
	t.ahead(hashes[:min(len(hashes), Stride)])
}

// Ahead is Table.Ahead of all tables whose hashes are those of the stream's key.
func (s *Store) Ahead(hashes []uint64) {
	for _, t := range s.byKey {
		t.Ahead(hashes)
	}
}

func (t *Table[K, V]) ahead(hashes []uint64) {
	var pages [Stride]*page
	var slots [Stride]uint32
	var sum uint32
	// Where a key's group lies follows from the page's head, and where the key
	// lies from the tags of the group. The tags of a page of full size are where
	// the first round reads them, together with the head; other pages are large
	// enough for the read. A table of farBytes has pages everywhere.
	for i, h := range hashes {
		p := t.leaf(t.relative(h))
		pages[i&(Stride-1)] = p
		sum += p.groups + uint32(*p.tag(uint32(h>>7) & uint32(t.of.full-1)))
	}
	for i, h := range hashes {
		p := pages[i&(Stride-1)]
		home := p.home(h)
		// Without a match it is whatever slot of the page.
		at := slotOf(home/groupSize, matching(p.tags(home/groupSize), uint8(h)|tagFull))
		slots[i&(Stride-1)] = at & (p.groups*groupSize - 1)
	}
	for i := range hashes {
		p, at := pages[i&(Stride-1)], slots[i&(Stride-1)]
		sum += uint32(*(*uint8)(unsafe.Pointer(t.of.at(p, at))))
	}
	if t.of.text { // comparing keys reads their text
		for i := range hashes {
			p, at := pages[i&(Stride-1)], slots[i&(Stride-1)]
			if key := *(*string)(unsafe.Pointer(t.of.at(p, at))); key != "" {
				sum += uint32(key[0])
			}
		}
	}
	// Kept, or the compiler would leave out the reads.
	t.touched = sum
}
