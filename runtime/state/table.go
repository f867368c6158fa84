package state

// Table maps keys to values.
type Table[K comparable, V any] struct{}

// NewTable adds a table to a store. The hash of a key is that of
// keygroup.HasherOf[K]. It refuses types that have no codec, and a name that
// the store has already.
func NewTable[K comparable, V any](s *Store, name string) (*Table[K, V], error) {
	return NewTableHashed[K, V](s, name, nil)
}

// NewTableHashed adds a table whose keys are hashed by hash, for keys made of
// the stream's key and more: the high 32 bits must be those of the stream key's
// hash, for they choose the key group.
func NewTableHashed[K comparable, V any](s *Store, name string, hash func(*K) uint64) (*Table[K, V], error) {
	panic("state: not yet")
}

// Get returns the value of a key, to be read only, until the next call of any
// method of the store's tables.
func (t *Table[K, V]) Get(hash uint64, key K) (*V, bool) { panic("state: not yet") }

// Upsert returns the value of a key for writing, until the next call; fresh
// says that the key had none and the value is zero.
func (t *Table[K, V]) Upsert(hash uint64, key K) (v *V, fresh bool) { panic("state: not yet") }

// Delete removes a key and says whether it was there.
func (t *Table[K, V]) Delete(hash uint64, key K) bool { panic("state: not yet") }

// Len is the number of keys.
func (t *Table[K, V]) Len() int { panic("state: not yet") }

// Bytes estimates the memory of the table's pages.
func (t *Table[K, V]) Bytes() int { panic("state: not yet") }

// Scan calls f for the keys whose hash is at least from, page by page in
// ascending hash order (so in ascending key groups; within a page in no
// order), until f returns false or a page ends after at least max calls.
// done says that it reached the end; else a Scan from next goes on there,
// also after a restore. When f returned false the rest of that page comes again.
// f may change the value through v only if it called Upsert for it before;
// it may change other tables, not this one.
func (t *Table[K, V]) Scan(from uint64, max int, f func(hash uint64, key *K, v *V) bool) (next uint64, done bool) {
	panic("state: not yet")
}
