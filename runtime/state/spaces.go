package state

// Spaces is a table per namespace, such as the start of a window slice.
type Spaces[K comparable, V any] struct{}

// NewSpaces adds a state with namespaces to a store; hash and types are as for
// NewTable.
func NewSpaces[K comparable, V any](s *Store, name string) (*Spaces[K, V], error) {
	panic("state: not yet")
}

// Space returns the table of a namespace, made if need be.
func (p *Spaces[K, V]) Space(ns int64) *Table[K, V] { panic("state: not yet") }

// Lookup returns the table of a namespace, or nil.
func (p *Spaces[K, V]) Lookup(ns int64) *Table[K, V] { panic("state: not yet") }

// Drop removes a namespace with all its keys, in O(1). Its table must not be
// used afterwards.
func (p *Spaces[K, V]) Drop(ns int64) { panic("state: not yet") }

// Namespaces lists the namespaces in ascending order. The slice is the
// caller's until the next Space or Drop.
func (p *Spaces[K, V]) Namespaces() []int64 { panic("state: not yet") }
