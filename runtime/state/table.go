package state

import (
	"math"
	"math/bits"
	"unsafe"

	"github.com/millrace/millrace/runtime/codec"
	"github.com/millrace/millrace/runtime/keygroup"
)

// Table maps keys to values.
type Table[K comparable, V any] struct {
	tree
	owning bool   // values are mutable: see page, invariant 3
	groups uint32 // of a page of full size, and
	slots  uint32 // where its slots begin
	count  int
	bytes  int
	now    *changes[K, V] // those of the current epoch, or older ones
	born   uint32
	// expired is told of an entry that expired, once it is removed; it may be nil.
	expired func(hash uint64, key *K)
	expect  int // keys that it may come to have
	ns      int64
	of      *kind[K, V]

	// With a tier:
	id      uint64  // on the disk, 0 when nothing of it was there yet
	adopted []piece // of other stores, on the disk
	place   int     // among the tables of the tier
	stored  int     // entries on the disk, and
	disk    int     // their bytes
	heap    int     // bytes that entries in memory point to
}

// kind is what the tables of one state share.
type kind[K comparable, V any] struct {
	*layout[K, V]
	name   string
	hash   func(*K) uint64
	keys   codec.Codec[K]
	values codec.Codec[V]
	packed packed[K, V] // for the task's goroutine
	life   lifetime     // of entries, see TTL
	// counted says that another table counts the entries, so that a snapshot
	// has those, too, that have expired and are still there.
	counted bool
	texts   bool     // values hold strings, see Put
	names   bool     // and keys do
	had     []string // of Put, reused
	heap    int      // see sample
	looked  uint32
	sample  []byte
}

func newKind[K comparable, V any](s *Store, name string, hash func(*K) uint64, ttl []TTL) (*kind[K, V], error) {
	k := &kind[K, V]{name: name, hash: hash}
	var err error
	if k.life, err = lifetimeOf(ttl); err != nil {
		return nil, stateError(name, err)
	}
	if k.hash == nil {
		if k.hash, err = keygroup.HasherOf[K](); err != nil {
			return nil, stateError(name, err)
		}
	}
	if k.keys, err = codec.Derive[K](); err != nil {
		return nil, stateError(name, err)
	}
	if k.values, err = codec.Derive[V](); err != nil {
		return nil, stateError(name, err)
	}
	k.layout = newLayout[K, V](s, k.life.span > 0)
	k.texts, k.names = len(k.values.Texts(nil, new(V))) > 0, len(k.keys.Texts(nil, new(K))) > 0
	return k, nil
}

func (k *kind[K, V]) table(s *Store, ns int64) *Table[K, V] {
	ages := 0
	if k.timed {
		ages = k.full + 1
	}
	t := &Table[K, V]{
		groups: uint32(k.full / groupSize), slots: uint32(headSize + k.full + 8*ages + 8*k.full),
		tree: tree{s: s, common: s.common}, owning: k.values.Mutable(),
		born: s.epoch, ns: ns, of: k,
	}
	if s.tier != nil {
		s.tier.enter(t)
	}
	return t
}

// NewTable adds a table to a store. The hash of a key is that of
// keygroup.HasherOf[K]. It refuses types that have no codec, and a name that
// the store has already. With a TTL, of which there is at most one, entries expire:
// Live and Renew then take the place of Get and Upsert.
func NewTable[K comparable, V any](s *Store, name string, ttl ...TTL) (*Table[K, V], error) {
	return NewTableHashed[K, V](s, name, nil, ttl...)
}

// NewTableHashed adds a table whose keys are hashed by hash, for keys made of
// the stream's key and more: the high 32 bits must be those of the stream key's
// hash, for they choose the key group.
func NewTableHashed[K comparable, V any](s *Store, name string, hash func(*K) uint64, ttl ...TTL) (*Table[K, V], error) {
	k, err := newKind[K, V](s, name, hash, ttl)
	if err != nil {
		return nil, err
	}
	t := k.table(s, 0)
	if k.timed {
		s.aging = append(s.aging, &broom{of: t, life: k.life, due: math.MinInt64})
		s.aged[k.life.domain] = true
	}
	if hash == nil {
		s.byKey = append(s.byKey, t)
	}
	return t, s.register(name, &single[K, V]{t})
}

// Len is the number of keys.
func (t *Table[K, V]) Len() int { return t.count }

// Bytes estimates the memory of the table's pages.
func (t *Table[K, V]) Bytes() int { return t.bytes }

func (t *Table[K, V]) size() Stats {
	return Stats{Entries: t.count, Bytes: t.bytes + t.heap, Disk: t.disk}
}

// find returns the slot of a key in a page.
func (t *Table[K, V]) find(p *page, hash uint64, key *K) (uint32, bool) {
	l := t.of.layout
	tag := uint8(hash) | tagFull
	for g := p.home(hash) / groupSize; ; g = (g + 1) & (p.groups - 1) {
		w := p.tags(g)
		for m := matching(w, tag); m != 0; m &= m - 1 {
			if i := slotOf(g, m); l.at(p, i).key == *key {
				return i, true
			}
		}
		if empties(w) != 0 {
			return 0, false
		}
	}
}

// Get returns the value of a key, to be read only, until the next call of any
// method of the store's tables.
func (t *Table[K, V]) Get(hash uint64, key K) (*V, bool) {
	p := t.leaf(hash)
	if p == nil {
		return nil, false
	}
	if p.groups == t.groups && !t.owning {
		i := uint32(hash>>7) & (t.groups*groupSize - 1)
		if s := t.slot(p, i); *p.tag(i) == uint8(hash)|tagFull && s.key == key {
			return &s.val, true
		}
	}
	if p.groups == 0 {
		p = t.awake(p)
	}
	i, ok := t.find(p, hash, &key)
	if !ok {
		return nil, false
	}
	if t.owning && len(t.s.layers) > 0 {
		p = t.own(p, i)
	}
	return &t.of.at(p, i).val, true
}

// Upsert returns the value of a key for writing, until the next call; fresh
// says that the key had none and the value is zero.
func (t *Table[K, V]) Upsert(hash uint64, key K) (v *V, fresh bool) {
	p := t.leaf(hash)
	if p != nil && p.epoch == t.s.epoch && p.groups == t.groups && !t.owning {
		// Mostly the key is at home in a page of full size. Where that is
		// follows from the table, so the page's head, the tag and the slot come
		// from memory at the same time.
		i := uint32(hash>>7) & (t.groups*groupSize - 1)
		s := t.slot(p, i)
		if *p.tag(i) == uint8(hash)|tagFull && s.key == key {
			p.dirty |= 1 << (i & 63)
			return &s.val, false
		}
	}
	return t.search(p, hash, key)
}

// slot is that of a page of full size.
func (t *Table[K, V]) slot(p *page, i uint32) *slot[K, V] {
	return (*slot[K, V])(unsafe.Add(unsafe.Pointer(p), uintptr(t.slots)+uintptr(i)*unsafe.Sizeof(slot[K, V]{})))
}

// search is Upsert in whatever page, at whatever slot.
func (t *Table[K, V]) search(p *page, hash uint64, key K) (v *V, fresh bool) {
	if p == nil {
		p = t.plant()
		if t.expect > t.of.full {
			// Else all keys of it would move at each of many splits.
			t.spread(t.s.base, t.s.top, min(t.expect, mostSpread))
			p = t.leaf(hash)
		}
	}
	if p.groups == 0 {
		p = t.awake(p)
	}
	if p.epoch != t.s.epoch {
		p = t.touch(p)
	}
	i, ok := t.find(p, hash, &key)
	if !ok {
		return t.insert(p, hash, &key), true
	}
	*p.dirtyWord(i) |= 1 << (i & 63)
	if t.owning {
		p = t.own(p, i)
	}
	return &t.of.at(p, i).val, false
}

// Put sets the value of a key, as Set does, and says whether it had none.
func (t *Table[K, V]) Put(hash uint64, key K, v V) (fresh bool) {
	p, fresh := t.Upsert(hash, key)
	t.Set(p, v)
	return fresh
}

// Set sets a value that Upsert returned. The table keeps strings of v in memory
// of its own: those of records are often pieces of a batch's, all of which one
// of them would keep.
func (t *Table[K, V]) Set(p *V, v V) {
	if !t.of.texts {
		*p = v
		return
	}
	k := t.of
	k.had = k.values.Texts(k.had[:0], p)
	*p = v
	k.values.Detach(p, k.had)
	clear(k.had)
}

// Delete removes a key and says whether it was there.
func (t *Table[K, V]) Delete(hash uint64, key K) bool {
	p := t.leaf(hash)
	if p == nil {
		return false
	}
	if p.groups == 0 {
		p = t.awake(p)
	}
	i, ok := t.find(p, hash, &key)
	if !ok {
		return false
	}
	if p.epoch != t.s.epoch {
		p = t.touch(p) // slots keep their places
	}
	t.remove(p, i, hash)
	return true
}

func (t *Table[K, V]) remove(p *page, i uint32, hash uint64) {
	bit := uint64(1) << (i & 63)
	if *p.freshWord(i)&bit == 0 {
		t.now.deleted = append(t.now.deleted, deletedKey[K]{hash, t.of.at(p, i).key})
	}
	*p.dirtyWord(i) &^= bit
	*p.freshWord(i) &^= bit
	*p.ownedWord(i) &^= bit
	*t.of.at(p, i) = slot[K, V]{}
	if empties(p.tags(i/groupSize)) != 0 {
		*p.tag(i) = 0 // no search goes on beyond this group
		p.used--
	} else {
		*p.tag(i) = tagDeleted
	}
	p.live--
	t.count--
}

// insert adds a key that is not there, to a page of this epoch.
func (t *Table[K, V]) insert(p *page, hash uint64, key *K) *V {
	for p.used >= p.limit() {
		t.makeRoom(p)
		p = t.leaf(hash)
	}
	i := p.free(hash)
	if *p.tag(i) == 0 {
		p.used++
	}
	p.live++
	t.count++
	*p.tag(i) = uint8(hash) | tagFull
	*p.hash(i) = hash
	bit := uint64(1) << (i & 63)
	*p.dirtyWord(i) |= bit
	*p.freshWord(i) |= bit
	*p.ownedWord(i) |= bit
	if t.of.timed {
		t.of.stamp(p, i, t.s.now[t.of.life.domain])
	}
	s := t.of.at(p, i)
	var zero V
	s.key, s.val = *key, zero
	if t.of.names {
		t.of.keys.Detach(&s.key, nil)
	}
	return &s.val
}

// plant makes the first page, for all hashes of the store: large enough for the
// keys expected or of full size.
func (t *Table[K, V]) plant() *page {
	capacity := groupSize
	for capacity < t.of.full && capacity*(groupSize-1)/groupSize < t.expect {
		capacity *= 2
	}
	p := t.of.make(capacity, t.s.base&^lastOf(0, t.common), t.common)
	t.add(t.of.size(p))
	t.root = ref(p)
	t.list(p)
	return p
}

// touch makes a page of an earlier epoch ready for writing: a copy takes its
// place if a snapshot may still read it.
func (t *Table[K, V]) touch(p *page) *page {
	q := p
	if t.s.tier != nil {
		t.weighOne(p)
	}
	if p.epoch == 0 {
		t.s.tier.forget(p.key())
	}
	if t.s.pinned(p) {
		q = t.of.copyOf(p)
		t.replace(p, q)
		p.retired = true
		if t.s.tier != nil {
			t.s.tier.retire(t, p, t.of.size(p))
		}
	} else {
		q.clearBits(false)
		q.epoch = t.s.epoch
	}
	t.list(q)
	return q
}

// list adds a page of this epoch to the current changes.
func (t *Table[K, V]) list(p *page) {
	if t.now == nil || t.now.epoch != t.s.epoch {
		t.now = t.newChanges()
		t.s.changes = append(t.s.changes, t.now)
	}
	p.pos = uint32(len(t.now.pages))
	t.now.pages = append(t.now.pages, p)
}

// own makes the memory that a value refers to the table's alone, by a copy if
// a snapshot may read it. It returns the page that holds the value now.
func (t *Table[K, V]) own(p *page, i uint32) *page {
	if p.epoch != t.s.epoch && t.s.pinned(p) {
		p = t.touch(p)
	}
	if w, bit := p.ownedWord(i), uint64(1)<<(i&63); *w&bit == 0 {
		*w |= bit
		v := &t.of.at(p, i).val
		*v = t.of.values.Clone(v)
	}
	return p
}

// makeRoom grows, cleans or splits a page that is full.
func (t *Table[K, V]) makeRoom(p *page) {
	if t.s.tier != nil {
		t.weighOne(p)
	}
	capacity := p.capacity()
	switch {
	case p.live <= p.limit()*3/4: // many deleted slots
		t.rebuild(p, capacity)
	case capacity < t.of.full || !t.worthSplitting(p):
		t.rebuild(p, 2*capacity)
	default:
		t.split(p)
	}
}

// mostSpread bounds the keys for which a new table gets its pages at once, which
// is a pause: some hundred pages.
const mostSpread = 1 << 14

const (
	// easySplit is how many levels of the tree a split may always add.
	easySplit = 2
	// largePage is the capacity at which a page splits however many
	// levels that adds; the nodes are small beside it.
	largePage = 4096
)

// worthSplitting says whether a split parts the entries without many new nodes
// for few pages; if not, hashes are crowded here, and a larger page is better.
// Levels that part the page's share of the store's hashes from those of others
// do not count: there are few such pages.
func (t *Table[K, V]) worthSplitting(p *page) bool {
	common := commonBits(p)
	if common == 64 {
		return false // one hash for all: nothing can part them
	}
	first, last := max(p.prefix, t.s.base), min(p.last(), t.s.top)
	depth := max(int(p.depth), bits.LeadingZeros64(first^last))
	return common-depth < easySplit || p.capacity() >= largePage
}

// rebuild moves the entries of a page to one of another capacity.
func (t *Table[K, V]) rebuild(p *page, capacity int) {
	q := t.of.make(capacity, p.prefix, p.depth)
	for i := range uint32(p.capacity()) {
		if *p.tag(i) >= tagFull {
			t.of.move(q, p, i)
		}
	}
	t.replace(p, q)
	t.swap(p, q)
}

// swap puts q in the place of p in the current changes, and recycles p.
func (t *Table[K, V]) swap(p, q *page) {
	q.pos = p.pos
	t.now.pages[p.pos] = q
	t.add(t.of.size(q) - t.of.size(p))
	t.of.recycle(p)
}

// split puts two pages, each for half of the hashes, in the place of one.
func (t *Table[K, V]) split(p *page) {
	bit := uint64(1) << (63 - p.depth)
	high := uint32(0)
	for i := range uint32(p.capacity()) {
		if *p.tag(i) >= tagFull && *p.hash(i)&bit != 0 {
			high++
		}
	}
	left := t.of.make(t.fitting(p, p.live-high), p.prefix, p.depth+1)
	right := t.of.make(t.fitting(p, high), p.prefix|bit, p.depth+1)
	for i := range uint32(p.capacity()) {
		if *p.tag(i) < tagFull {
			continue
		}
		if *p.hash(i)&bit == 0 {
			t.of.move(left, p, i)
		} else {
			t.of.move(right, p, i)
		}
	}
	t.divide(p, left, right)
	t.swap(p, left)
	t.add(t.of.size(right))
	t.list(right)
	// Where a page had become large, its entries are parted at last, down to
	// pages of full size: a large one costs as much to copy and to evict.
	for _, half := range [...]*page{left, right} {
		if half.capacity() > t.of.full && half.live > 0 && t.worthSplitting(half) {
			t.split(half)
		}
	}
}

// fitting is a capacity for entries of a page that splits: smaller than the
// page's if they would fill no quarter of it.
func (t *Table[K, V]) fitting(p *page, entries uint32) int {
	capacity := p.capacity()
	for capacity > groupSize && entries <= uint32(capacity)/4 {
		capacity /= 2
	}
	return capacity
}

// Scan calls f for the keys whose hash is at least from, page by page in
// ascending hash order (so in ascending key groups; within a page in no
// order), until f returns false or a page ends after at least limit calls.
// Entries that have expired do not come. done says that it reached the end; else a Scan from next goes on there,
// also after a restore. When f returned false the rest of that page comes again.
// v is for reading. f may change other tables, and Upsert the key that it was
// called with, but nothing else of this table.
func (t *Table[K, V]) Scan(from uint64, limit int, f func(hash uint64, key *K, v *V) bool) (next uint64, done bool) {
	if t.root == nil {
		return math.MaxUint64, true
	}
	if from = max(from, t.s.base); from > t.s.top {
		return math.MaxUint64, true
	}
	for calls := 0; ; {
		p := t.leaf(from)
		peeked := false
		if p.groups == 0 {
			// The first page may be all that is asked for, the next ones are likely
			// to be passed once.
			if peeked = calls > 0 && p.class == 0; peeked {
				p = t.peek(p)
			} else {
				p = t.awake(p)
			}
		}
		for g := range p.capacity() / groupSize {
			for m := p.tags(uint32(g)) & highBits; m != 0; m &= m - 1 {
				i := slotOf(uint32(g), m)
				if *p.hash(i) < from || t.of.timed && t.gone(p, i) {
					continue
				}
				if t.owning && len(t.s.layers) > 0 && !peeked {
					p = t.own(p, i)
				}
				s := t.of.at(p, i)
				calls++
				if !f(*p.hash(i), &s.key, &s.val) {
					return from, false
				}
			}
		}
		last := p.last()
		if peeked {
			t.of.recycle(p)
		}
		if last >= t.s.top {
			return math.MaxUint64, true
		}
		from = last + 1
		if calls >= limit {
			return from, false
		}
	}
}
