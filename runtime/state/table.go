package state

import (
	"math"
	"unsafe"
)

// Table maps keys to values.
type Table[K comparable, V any] struct{ table }

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
	t, err := k.single(s, hash == nil)
	return typedTable[K, V](t), err
}

// typedTable is a table with its types, nil for nil.
func typedTable[K comparable, V any](t *table) *Table[K, V] {
	return (*Table[K, V])(unsafe.Pointer(t))
}

// single adds a table to a store that is a state by itself; byKey says that its
// hashes are those of the stream's key.
func (k *kind) single(s *Store, byKey bool) (*table, error) {
	t := k.table(s, 0)
	if k.timed {
		s.aging = append(s.aging, &broom{of: t, life: k.life, due: math.MinInt64})
		s.aged[k.life.domain] = true
	}
	if byKey {
		s.byKey = append(s.byKey, t)
	}
	return t, s.register(k.name, &single{t})
}

// find returns the slot of a key in a page.
func (t *Table[K, V]) find(p *page, hash uint64, key *K) (uint32, bool) {
	tag := uint8(hash) | tagFull
	for g := p.home(hash) / groupSize; ; g = (g + 1) & (p.groups - 1) {
		w := p.tags(g)
		for m := matching(w, tag); m != 0; m &= m - 1 {
			if i := slotOf(g, m); t.at(p, i).key == *key {
				return i, true
			}
		}
		if empties(w) != 0 {
			return 0, false
		}
	}
}

func (t *Table[K, V]) at(p *page, i uint32) *slot[K, V] {
	return (*slot[K, V])(unsafe.Add(unsafe.Pointer(p), uintptr(p.slots)+uintptr(i)*unsafe.Sizeof(slot[K, V]{})))
}

// slot is that of a page of full size.
func (t *Table[K, V]) slot(p *page, i uint32) *slot[K, V] {
	return (*slot[K, V])(unsafe.Add(unsafe.Pointer(p), uintptr(t.slots)+uintptr(i)*unsafe.Sizeof(slot[K, V]{})))
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
	return &t.at(t.found(p, i), i).val, true
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

// search is Upsert in whatever page, at whatever slot.
func (t *Table[K, V]) search(p *page, hash uint64, key K) (v *V, fresh bool) {
	p = t.writable(p, hash)
	i, ok := t.find(p, hash, &key)
	if ok {
		return &t.at(t.changed(p, i), i).val, false
	}
	return t.add(p, hash, key), true
}

// add adds a key that is not there, to a page of this epoch.
func (t *Table[K, V]) add(p *page, hash uint64, key K) *V {
	p, at := t.insert(p, hash)
	s := (*slot[K, V])(at)
	*s = slot[K, V]{key: key}
	if len(t.of.keyTexts) > 0 {
		t.of.keep(p, at, t.of.keyTexts, nil)
	}
	return &s.val
}

// Live is Get of an entry that has not expired. Where entries live on when they
// are read, it is a use.
func (t *Table[K, V]) Live(hash uint64, key K) (*V, bool) {
	if !t.of.timed {
		return t.Get(hash, key)
	}
	p := t.seat(hash)
	if p == nil {
		return nil, false
	}
	i, ok := t.find(p, hash, &key)
	if !ok || t.gone(p, i) {
		return nil, false
	}
	return &t.at(t.read(p, i), i).val, true
}

// alive says whether a key has a value that has not expired; that is no use of it.
func (t *Table[K, V]) alive(hash uint64, key K) bool {
	p := t.seat(hash)
	if p == nil {
		return false
	}
	i, ok := t.find(p, hash, &key)
	return ok && !(t.of.timed && t.gone(p, i))
}

// Renew is Upsert and a use of the entry. One that has expired is removed first,
// and comes again fresh.
func (t *Table[K, V]) Renew(hash uint64, key K) (v *V, fresh bool) {
	if !t.of.timed {
		return t.Upsert(hash, key)
	}
	p := t.writable(t.leaf(hash), hash)
	i, ok := t.find(p, hash, &key)
	if ok && t.gone(p, i) {
		t.expire(p, i)
		ok = false
	}
	if !ok {
		return t.add(p, hash, key), true
	}
	return &t.at(t.renewed(p, i), i).val, false
}

// reap removes the value of a key if it has expired.
func (t *Table[K, V]) reap(hash uint64, key K) {
	if !t.of.timed {
		return
	}
	p := t.seat(hash)
	if p == nil {
		return
	}
	if i, ok := t.find(p, hash, &key); ok && t.gone(p, i) {
		if p.epoch != t.s.epoch {
			p = t.touch(p)
		}
		t.expire(p, i)
		if p.sparse() {
			t.shrink(p)
		}
	}
}

// Put sets the value of a key, as Set does, and says whether it had none.
func (t *Table[K, V]) Put(hash uint64, key K, v V) (fresh bool) {
	p, fresh := t.Upsert(hash, key)
	t.Set(hash, p, v)
	return fresh
}

// Set sets a value that Upsert returned for a hash. The table keeps strings of v
// in memory of its own: those of records are often pieces of a batch's, all of
// which one of them would keep.
func (t *Table[K, V]) Set(hash uint64, p *V, v V) {
	if len(t.of.valueTexts) == 0 {
		*p = v
		return
	}
	had := t.had(unsafe.Pointer(p))
	*p = v
	t.of.keep(t.leaf(hash), unsafe.Pointer(p), t.of.valueTexts, had)
	clear(had)
}

// Delete removes a key and says whether it was there.
func (t *Table[K, V]) Delete(hash uint64, key K) bool {
	p := t.seat(hash)
	if p == nil {
		return false
	}
	i, ok := t.find(p, hash, &key)
	if ok {
		t.drop(p, i)
	}
	return ok
}

// Scan calls f for the keys whose hash is at least from, page by page in
// ascending hash order (so in ascending key groups; within a page in no
// order), until f returns false or a page ends after at least limit calls.
// Entries that have expired do not come. done says that it reached the end; else a Scan from next goes on there,
// also after a restore. When f returned false the rest of that page comes again.
// v is for reading. f may change other tables, and Upsert the key that it was
// called with, but nothing else of this table.
func (t *Table[K, V]) Scan(from uint64, limit int, f func(hash uint64, key *K, v *V) bool) (next uint64, done bool) {
	return t.scan(from, limit, func(hash uint64, entry unsafe.Pointer) bool {
		s := (*slot[K, V])(entry)
		return f(hash, &s.key, &s.val)
	})
}
