package state

import "unsafe"

// Stride is how many records Ahead takes at a time.
const Stride = 16

// farBytes is the size of a table from which its pages are not in the nearest
// caches, so that reading ahead pays.
const farBytes = 1 << 20

// Ahead asks memory for what an Upsert or a Get of the hashes after i will
// read, so that the waits of many records pass at the same time. It changes
// nothing; a table that the caches hold anyhow it leaves alone. It is a moment
// between records, see Ease. An operator calls it each Stride records of a batch:
//
//	for i := range b.Values {
//		if i%state.Stride == 0 {
//			t.Ahead(b.Hashes, i)
//		}
//		v, fresh := t.Upsert(b.Hashes[i], key(b.Values[i]))
//		...
//	}
//
// An update reads the head of a page, the tags of the key's group in it, then the
// slot that the tags tell, and the text of a key that is a string. So there are
// stages, each at a Stride of records of its own:
//
//	records    i..       i+16..   i+32..            i+48..
//	stage      (Upsert)  text     slots, from tags  heads and tags
func (t *table) Ahead(hashes []uint64, i int) {
	t.s.between()
	t.ahead(hashes, i)
}

// Far says that the table is so large that reading ahead pays.
func (t *table) Far() bool { return t.bytes >= farBytes }

func (t *table) ahead(hashes []uint64, i int) {
	if !t.Far() {
		return
	}
	if i == 0 { // nobody has asked for these yet
		t.aheadHeads(stretch(hashes, 0))
		t.aheadHeads(stretch(hashes, Stride))
		t.aheadHeads(stretch(hashes, 2*Stride))
		t.aheadSlots(stretch(hashes, 0))
		t.aheadSlots(stretch(hashes, Stride))
	}
	t.aheadHeads(stretch(hashes, i+3*Stride))
	t.aheadSlots(stretch(hashes, i+2*Stride))
	if t.of.named {
		t.aheadText(stretch(hashes, i+Stride))
	}
}

// stretch is up to a Stride of hashes from i on.
func stretch(hashes []uint64, i int) []uint64 {
	return hashes[min(i, len(hashes)):min(i+Stride, len(hashes))]
}

// Ahead is Table.Ahead of all tables whose hashes are those of the stream's key.
func (s *Store) Ahead(hashes []uint64, i int) {
	s.between()
	for _, t := range s.byKey {
		t.ahead(hashes, i)
	}
}

// aheadHeads asks for the pages' heads and for the tags that follow them.
func (t *table) aheadHeads(hashes []uint64) {
	var at [2 * Stride]unsafe.Pointer
	for i, h := range hashes {
		p := unsafe.Pointer(t.leaf(h))
		at[2*i&(2*Stride-1)], at[(2*i+1)&(2*Stride-1)] = p, unsafe.Add(p, headSize)
	}
	prefetch(&at[0], 2*len(hashes))
}

// aheadSlots asks for the slots.
func (t *table) aheadSlots(hashes []uint64) {
	var at [Stride]unsafe.Pointer
	for i, h := range hashes {
		at[i&(Stride-1)] = t.likely(h)
	}
	prefetch(&at[0], len(hashes))
}

// likely is the slot of a hash, if it has one and tags do not mislead; it is
// one of the same page always, nil for a page that a search must ask for.
func (t *table) likely(hash uint64) unsafe.Pointer {
	p := t.leaf(hash)
	if p.groups == 0 { // not in memory, or not for long
		return nil
	}
	group := p.home(hash) / groupSize
	i := slotOf(group, matching(p.tags(group), uint8(hash)|tagFull))
	return t.of.at(p, i&(p.groups*groupSize-1))
}

// aheadText asks for the text of keys that are strings.
func (t *table) aheadText(hashes []uint64) {
	var at [Stride]unsafe.Pointer
	for i, h := range hashes {
		if s := t.likely(h); s != nil {
			at[i&(Stride-1)] = unsafe.Pointer(unsafe.StringData(*(*string)(s)))
		}
	}
	prefetch(&at[0], len(hashes))
}
