package state

import (
	"math"
	"math/bits"
	"reflect"
	"sync"
	"unsafe"
)

// page holds the entries of one contiguous range of hashes: an
// open-addressing table of groups of 8 slots. It is the head of one block of
// memory, laid out by layout:
//
//	page     the fields below, 64 bytes
//	tags     a byte a slot: 0 empty, 1 deleted, else 0x80 | 7 bits of hash
//	bitmaps  dirty, fresh, owned: only of pages with more than 64 slots
//	text     only where entries hold strings: the memory of those, see text.go
//	ages     only where entries expire: a word a slot, in descending order of
//	         slots, below them a lower bound of all
//	hashes   a word a slot, in descending order of slots
//	slots    key and value, side by side
//
// Invariants:
//
//  1. A page is in the list of its table's current changes, at pos, if and
//     only if its epoch is the store's; only such pages are written to.
//  2. dirty marks entries put since the epoch began; fresh marks those whose
//     key no earlier snapshot has, so that deleting them leaves no trace.
//  3. Memory that the value of an owned entry refers to belongs to this page
//     alone; other entries share it with a page that a snapshot may read.
//  4. At least one slot in 8 is empty, so every search ends.
//
// Tiered state has more of them, in tier.go. There the last two fields say
// whether a page is in memory; groups is 0 where a search must first ask.
type page struct {
	epoch, pos uint32
	live, used uint32 // entries; entries and deleted slots
	prefix     uint64 // the lowest hash
	groups     uint32 // of 8 slots, a power of two
	bitmaps    uint32 // offset of the bitmaps
	slots      uint32 // offset of the slots
	depth      uint8  // leading bits that all its hashes share
	retired    bool   // out of the tree: a copy took its place
	class      uint8  // logarithm of the capacity, 0 for a stub
	marks      uint8  // of tiered state
	dirty      uint64 // the bitmaps of pages with up to 64 slots
	fresh      uint64
	owned      uint64
}

const (
	headSize  = 64
	groupSize = 8

	// Classes of pages: none has fewer slots than a group, and few are large.
	leastClass = 3
	mostClass  = 31

	tagDeleted = 0x01
	tagFull    = 0x80

	lowBits  = 0x0101010101010101
	highBits = 0x8080808080808080
)

// The head has headSize bytes, or this does not compile.
var (
	_ [headSize - unsafe.Sizeof(page{})]struct{}
	_ [unsafe.Sizeof(page{}) - headSize]struct{}
)

func (p *page) capacity() int { return 1 << p.class &^ (groupSize - 1) }

// limit is the number of used slots at which the page is full.
func (p *page) limit() uint32 { return p.groups * (groupSize - 1) }

// tags reads those of a group.
func (p *page) tags(group uint32) uint64 {
	return *(*uint64)(unsafe.Add(unsafe.Pointer(p), headSize+group*groupSize))
}

func (p *page) tag(i uint32) *uint8 {
	return (*uint8)(unsafe.Add(unsafe.Pointer(p), headSize+i))
}

func (p *page) hash(i uint32) *uint64 {
	return (*uint64)(unsafe.Add(unsafe.Pointer(p), p.slots-8*(i+1)))
}

// age is when an entry was last used, in a layout that is timed.
func (p *page) age(i uint32) *int64 {
	return (*int64)(unsafe.Add(unsafe.Pointer(p), p.slots-8*(uint32(p.capacity())+i+1)))
}

// oldest is a lower bound of the ages, in a layout that is timed. Unlike the rest
// of a page only the task's goroutine reads it, and so writes it whenever it likes.
func (p *page) oldest() *int64 { return p.age(uint32(p.capacity())) }

// words is the number of words of each bitmap.
func (p *page) words() uint32 { return (1<<p.class + 63) / 64 }

func (p *page) dirtyWord(i uint32) *uint64 {
	return (*uint64)(unsafe.Add(unsafe.Pointer(p), p.bitmaps+i>>6<<3))
}

func (p *page) freshWord(i uint32) *uint64 {
	return (*uint64)(unsafe.Add(unsafe.Pointer(p), p.bitmaps+(p.words()+i>>6)<<3))
}

func (p *page) ownedWord(i uint32) *uint64 {
	return (*uint64)(unsafe.Add(unsafe.Pointer(p), p.bitmaps+(2*p.words()+i>>6)<<3))
}

// clearBits resets dirty and fresh, and owned too if asked to.
func (p *page) clearBits(owned bool) {
	n := 2 * p.words()
	if owned {
		n += p.words()
	}
	clear(unsafe.Slice((*uint64)(unsafe.Add(unsafe.Pointer(p), p.bitmaps)), n))
}

// matching marks, by their high bits, the tags of a group that equal tag. It
// may also mark the tag above one that does, if only the lowest bit differs:
// that slot is full as well, so comparing keys settles it.
func matching(group uint64, tag uint8) uint64 {
	x := group ^ lowBits*uint64(tag)
	return (x - lowBits) &^ x & highBits
}

// empties marks empty slots of a group; the lowest mark is exact.
func empties(group uint64) uint64 { return (group - lowBits) &^ group & highBits }

// slotOf is the slot that the lowest mark stands for.
func slotOf(group uint32, marks uint64) uint32 {
	return group*groupSize + uint32(bits.TrailingZeros64(marks))>>3
}

// home is the slot that an entry has if it is free when the entry comes.
func (p *page) home(hash uint64) uint32 { return uint32(hash>>7) & (p.groups*groupSize - 1) }

// free finds a slot for a new entry; there is one by invariant 4.
func (p *page) free(hash uint64) uint32 {
	home := p.home(hash)
	if *p.tag(home) < tagFull {
		return home
	}
	for g := home / groupSize; ; g = (g + 1) & (p.groups - 1) {
		// Slots that are not full have no high bit.
		if m := ^p.tags(g) & highBits; m != 0 {
			return slotOf(g, m)
		}
	}
}

// last is the page's highest hash.
func (p *page) last() uint64 { return lastOf(p.prefix, p.depth) }

// layout makes pages for a pair of types and recycles them. It is shared by
// all tables of a state.
type layout struct {
	types
	s *Store
	// full is the capacity of a page that splits, in slots.
	full int
	// plain says that slots hold no pointers.
	plain bool
	// lasting says that pages are used again: what entries refer to never changes,
	// so that a copy of a page shares it, and a page that waits for its next use
	// keeps little alive that its copy does not.
	lasting bool
	named   bool // keys are strings
	timed   bool // entries have ages
	texted  bool // entries hold strings, see text.go
	disk    Disk // nil without a tier
	pages   pageTypes

	spare    [32][]*page
	dropped  []walk
	released []released
}

func (l *layout) init(s *Store, t types, timed, texted bool) {
	l.types, l.s, l.full, l.timed, l.texted = t, s, 64, timed, texted
	if s != nil && s.tier != nil {
		l.disk = s.tier.disk
	}
	for l.full > groupSize && uintptr(l.full)*l.entrySize > 4096 {
		l.full /= 2
	}
	l.named = l.key.Kind() == reflect.String
	l.plain = !hasPointers(l.entry)
}

// at is the address of an entry.
func (l *layout) at(p *page, i uint32) unsafe.Pointer {
	return unsafe.Add(unsafe.Pointer(p), uintptr(p.slots)+uintptr(i)*l.entrySize)
}

// val is the address of an entry's value.
func (l *layout) val(p *page, i uint32) unsafe.Pointer { return unsafe.Add(l.at(p, i), l.valueAt) }

// copyEntries copies n entries.
func (l *layout) copyEntries(to, from unsafe.Pointer, n int) {
	if l.plain {
		size := uintptr(n) * l.entrySize
		copy(unsafe.Slice((*byte)(to), size), unsafe.Slice((*byte)(from), size))
		return
	}
	l.moveEntries(to, from, n)
}

// show is a key for an error message.
func (l *layout) show(key unsafe.Pointer) any { return reflect.NewAt(l.key, key).Elem().Interface() }

// size is the memory that a page takes.
func (l *layout) size(p *page) int { return int(p.slots) + p.capacity()*int(l.entrySize) }

// make returns an empty page.
func (l *layout) make(capacity int, prefix uint64, depth uint8) *page {
	class := bits.TrailingZeros(uint(capacity))
	p := l.recycled(class)
	if p == nil {
		p = l.allocate(class)
	}
	p.prefix, p.depth, p.epoch = prefix, depth, l.s.epoch
	p.groups = uint32(capacity / groupSize)
	return p
}

// pageTypes are the types of pages as the collector sees them, by the logarithm
// of the capacity. Any goroutine may ask for one.
type pageTypes struct {
	mu sync.Mutex
	of [32]reflect.Type
}

func (l *layout) pageType(class int) reflect.Type {
	l.pages.mu.Lock()
	defer l.pages.mu.Unlock()
	if l.pages.of[class] == nil {
		capacity := 1 << class
		l.pages.of[class] = reflect.StructOf([]reflect.StructField{
			{Name: "Head", Type: reflect.TypeFor[page]()},
			{Name: "Tags", Type: reflect.ArrayOf(capacity, reflect.TypeFor[uint8]())},
			{Name: "Bitmaps", Type: reflect.ArrayOf(l.bitmaps(capacity), reflect.TypeFor[uint64]())},
			{Name: "Text", Type: reflect.ArrayOf(l.texts(), reflect.TypeFor[text]())},
			{Name: "Ages", Type: reflect.ArrayOf(l.ages(capacity), reflect.TypeFor[int64]())},
			{Name: "Hashes", Type: reflect.ArrayOf(capacity, reflect.TypeFor[uint64]())},
			{Name: "Slots", Type: reflect.ArrayOf(capacity, l.entry)},
		})
	}
	return l.pages.of[class]
}

// bitmaps is the number of their words beside the head.
func (l *layout) bitmaps(capacity int) int {
	if capacity > 64 {
		return 3 * capacity / 64
	}
	return 0
}

// ages is the number of their words.
func (l *layout) ages(capacity int) int {
	if l.timed {
		return capacity + 1
	}
	return 0
}

// texts is the number of references to texts.
func (l *layout) texts() int {
	if l.texted {
		return 1
	}
	return 0
}

// slotsAt is where the slots of a page begin.
func (l *layout) slotsAt(capacity int) int {
	return headSize + capacity + 8*l.bitmaps(capacity) + textHead*l.texts() + 8*l.ages(capacity) + 8*capacity
}

// allocate makes a page in new memory. Any goroutine may call it.
func (l *layout) allocate(class int) *page {
	capacity := 1 << class
	p := (*page)(reflect.New(l.pageType(class)).UnsafePointer())
	p.class = uint8(class)
	p.groups = uint32(capacity / groupSize)
	p.bitmaps = uint32(unsafe.Offsetof(p.dirty))
	if l.bitmaps(capacity) > 0 {
		p.bitmaps = uint32(headSize + capacity)
	}
	p.slots = uint32(l.slotsAt(capacity))
	if l.timed {
		*p.oldest() = math.MaxInt64
	}
	return p
}

// empty makes a page that is in use nowhere like one that was just allocated, but
// for what is left in slots without pointers.
func (l *layout) empty(p *page) {
	p.live, p.used, p.retired, p.marks = 0, 0, false, 0
	p.clearBits(true)
	if l.timed {
		*p.oldest() = math.MaxInt64
	}
	clear(unsafe.Slice(p.tag(0), p.capacity()))
	if !l.plain {
		l.clearEntries(l.at(p, 0), p.capacity())
	}
	if l.texted {
		*l.textOf(p) = text{}
	}
}

// copyOf returns a copy of a page in the current epoch, with no entry dirty,
// fresh or owned.
func (l *layout) copyOf(p *page) *page {
	q := l.make(p.capacity(), p.prefix, p.depth)
	q.live, q.used = p.live, p.used
	n := p.capacity()
	copy(unsafe.Slice(q.tag(0), n), unsafe.Slice(p.tag(0), n))
	copy(unsafe.Slice(q.hash(uint32(n-1)), n), unsafe.Slice(p.hash(uint32(n-1)), n))
	if l.timed {
		copy(unsafe.Slice(q.oldest(), n+1), unsafe.Slice(p.oldest(), n+1))
	}
	l.copyEntries(l.at(q, 0), l.at(p, 0), n)
	if l.texted {
		*l.textOf(q) = *l.textOf(p) // nobody writes to p any more
	}
	return q
}

// move copies an entry to another page, which has room and not that key.
func (l *layout) move(to, from *page, i uint32) {
	h := *from.hash(i)
	j := to.free(h)
	*to.tag(j), *to.hash(j) = *from.tag(i), h
	l.copyEntries(l.at(to, j), l.at(from, i), 1)
	if l.timed {
		l.stamp(to, j, *from.age(i))
	}
	to.live++
	to.used++
	*to.dirtyWord(j) |= *from.dirtyWord(i) >> (i & 63) & 1 << (j & 63)
	*to.freshWord(j) |= *from.freshWord(i) >> (i & 63) & 1 << (j & 63)
	*to.ownedWord(j) |= *from.ownedWord(i) >> (i & 63) & 1 << (j & 63)
}

// stamp says when an entry was last used.
func (l *layout) stamp(p *page, i uint32, at int64) {
	*p.age(i) = at
	if o := p.oldest(); at < *o {
		*o = at
	}
}

// hasPointers says whether the memory of a type holds pointers.
func hasPointers(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Array:
		return t.Len() > 0 && hasPointers(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if hasPointers(t.Field(i).Type) {
				return true
			}
		}
		return false
	case reflect.String, reflect.Slice, reflect.Map, reflect.Pointer, reflect.Chan, reflect.Func, reflect.Interface, reflect.UnsafePointer:
		return true
	}
	return false
}
