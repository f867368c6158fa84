package state

import (
	"slices"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Spaces is a table per namespace, such as the start of a window slice. The
// tables share their spare pages.
type Spaces[K comparable, V any] struct{ spaces }

// spaces is a Spaces of whatever types.
type spaces struct {
	s      *Store
	of     *kind
	tables map[int64]*table
	order  []int64
	last   *table // asked for most recently
	newest *table // made most recently
	means  string // what a namespace stands for
}

// NewSpaces adds a state with namespaces to a store; hash and types are as for
// NewTable.
func NewSpaces[K comparable, V any](s *Store, name string) (*Spaces[K, V], error) {
	return NewSpacesHashed[K, V](s, name, nil)
}

// NewSpacesHashed is NewSpaces with a hash function, as of NewTableHashed.
func NewSpacesHashed[K comparable, V any](s *Store, name string, hash func(*K) uint64) (*Spaces[K, V], error) {
	k, err := newKind[K, V](s, name, hash, nil)
	if err != nil {
		return nil, err
	}
	p := &Spaces[K, V]{spaces{s: s, of: k, tables: map[int64]*table{}, means: "int64"}}
	return p, s.register(name, &p.spaces)
}

// Space returns the table of a namespace, made if need be.
func (p *Spaces[K, V]) Space(ns int64) *Table[K, V] { return typedTable[K, V](p.space(ns)) }

// Lookup returns the table of a namespace, or nil.
func (p *Spaces[K, V]) Lookup(ns int64) *Table[K, V] { return typedTable[K, V](p.lookup(ns)) }

// Means says what a namespace stands for, beyond a number: a checkpoint where it
// stood for something else is refused. It is called once, at Open.
func (p *spaces) Means(what string) { p.means = "int64: " + what }

func (p *spaces) space(ns int64) *table {
	if t := p.lookup(ns); t != nil {
		return t
	}
	t := p.of.table(p.s, ns)
	if p.newest != nil {
		t.expect = p.newest.count // one slice is much like the other
	}
	p.newest = t
	p.tables[ns] = t
	i, _ := slices.BinarySearch(p.order, ns)
	p.order = slices.Insert(p.order, i, ns)
	p.last = t
	return t
}

func (p *spaces) lookup(ns int64) *table {
	if p.last != nil && p.last.ns == ns {
		return p.last
	}
	t := p.tables[ns]
	if t != nil {
		p.last = t
	}
	return t
}

// Drop removes a namespace with all its keys, in O(1). Its table must not be
// used afterwards.
func (p *spaces) Drop(ns int64) {
	t := p.tables[ns]
	if t == nil {
		return
	}
	delete(p.tables, ns)
	i, _ := slices.BinarySearch(p.order, ns)
	p.order = slices.Delete(p.order, i, i+1)
	if p.last == t {
		p.last = nil
	}
	if p.newest == t {
		p.newest = nil // it keeps pages and changes alive
	}
	if t.now != nil && t.now.epoch == p.s.epoch {
		t.now.discard()
	}
	if t.born != p.s.epoch {
		p.s.drops = append(p.s.drops, place{p.of.name, ns})
	}
	if p.s.tier != nil {
		t.leave()
	}
	p.of.drop(t.root)
	t.root = nil
}

// Namespaces lists the namespaces in ascending order. The slice is valid until
// the next Space or Drop.
func (p *spaces) Namespaces() []int64 { return p.order }

func (p *spaces) images(into []changeSet) []changeSet {
	for ns, t := range p.tables {
		into = append(into, &image{p.of, ns, t.root, t.bytes})
	}
	return into
}

func (p *spaces) loader(old *pb.StateDecl) (loader, error) {
	return p.of.loader(old, p.s.groups, p.space, p.lookup)
}

func (p *spaces) types() *types { return &p.of.types }

func (p *spaces) declaration() *pb.StateDecl { return p.of.declare(p.of.name, p.means) }

func (p *spaces) size() Stats {
	var sum Stats
	for _, t := range p.tables {
		size := t.size()
		sum.Entries += size.Entries
		sum.Bytes += size.Bytes
		sum.Disk += size.Disk
	}
	return sum
}
