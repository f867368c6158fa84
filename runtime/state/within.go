package state

// Within is the hash of what belongs to a stream's key, of which it is one of
// many: hash is the key's, sub that of which one. For NewTableHashed.
func Within(hash, sub uint64) uint64 { return within(hash, sub) }

// Parts finds what belongs to a stream's key in a table of MapKeys with hashes
// by Within.
type Parts[K, MK comparable, V any] struct{ c cursor[MapKey[K, MK], V] }

// PartsOf returns the Parts of a table.
func PartsOf[K, MK comparable, V any](t *Table[MapKey[K, MK], V]) *Parts[K, MK, V] {
	p := &Parts[K, MK, V]{}
	p.c.of, p.c.wanted = t, func(k *MapKey[K, MK]) bool { return k.Key == p.c.key.Key }
	return p
}

// Clear removes all that belongs to a key, and says how much that was. It looks at
// the pages that have entries with the key's hash: mostly at one. Values of other
// tables stay where they are.
func (p *Parts[K, MK, V]) Clear(hash uint64, key K) (n int) {
	s := p.c.of.s
	busy := s.busy
	s.busy = true
	defer func() { s.busy = busy }()
	p.c.key.Key = key
	p.c.begin(p.c.of, hash&^0xffffffff, hash|0xffffffff)
	for p.c.read() {
		for i := range p.c.keys {
			p.c.of.Delete(p.c.hashes[i], p.c.keys[i])
			n++
		}
	}
	p.c.reset()
	return n
}
