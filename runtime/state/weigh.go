package state

import "github.com/millrace/millrace/runtime/codec"

// weigh counts anew what the entries in memory point to.
func (t *table) weigh() {
	if !t.of.plain && t.s.tier != nil {
		w := (t.count - t.stored) * t.of.heap / heapUnit
		t.s.tier.grow(w - t.heap)
		t.heap = w
	}
}

// heapUnit is the unit of kind.heap: a fraction of a byte.
const heapUnit = 64

// weighOne looks at one entry of a page to learn what entries point to. There is
// no asking Go for the memory of a map or a slice, so it is taken for the size of
// the entry in its encoding; twice that for values that are mutable, as room to
// grow. The mean of the last entries looked at, some 64, counts for all.
func (t *table) weighOne(p *page) {
	k := t.of
	if k.plain || p.live == 0 {
		return
	}
	k.looked++
	for i := k.looked; ; i++ {
		if i &= uint32(p.capacity() - 1); *p.tag(i) >= tagFull {
			k.learn(k.sizeOf(p, i))
			break
		}
	}
	t.weigh()
}

// sizeOf is the size of an entry in its encoding, 0 if it has none: a snapshot
// will say why.
func (k *kind) sizeOf(p *page, i uint32) (n int) {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(*codec.MarshalError); !ok {
				panic(r)
			}
			n = 0
		}
	}()
	k.sample = k.values.Append(k.keys.Append(k.sample[:0], k.at(p, i)), k.val(p, i))
	return len(k.sample)
}

func (k *kind) learn(size int) {
	if k.values.Mutable() {
		size *= 2
	}
	if k.heap == 0 {
		k.heap = size * heapUnit
	}
	k.heap += size - k.heap/heapUnit
}
