package state

import (
	"fmt"
	"math/bits"
	"sort"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/checkpoint/snapshot"
	"github.com/millrace/millrace/runtime/keygroup"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Store holds the tables of one operator instance.
type Store struct {
	groups    keygroup.Range
	base, top uint64 // the hashes of the key groups, and
	common    uint8  // how many leading bits they share
	states    map[string]registered
	kinds     map[string]string // of states that say what they are
	byKey     []*table          // tables whose hashes are those of the stream's key

	// epoch counts barriers. Pages carry that of their last write.
	epoch   uint32
	changes []changeSet // of this epoch, one per table that changed
	drops   []place

	layers  []*layer  // those that a snapshot may read
	held    []*layer  // changes not yet in a durable checkpoint, oldest first
	flying  []*Frozen // neither released nor aborted
	zombies []*Frozen // aborted while they were being written
	// lost is the last epoch whose changes are neither held nor in a durable
	// checkpoint, 0 for none: until a full snapshot of that epoch or a later one
	// is durable, changes alone would not do.
	lost uint32

	// changed is how many entries changed between the last two barriers of which
	// one was written.
	changed atomic.Int64

	tier *tier // nil without a disk

	// Of state that expires: whether there is some in each time, the time of the
	// record in hand, and one that no later record is before.
	aging       []*broom
	aged        [domains]bool
	busy        bool // values are in hand: nothing leaves memory, see Ease
	now, passed [domains]int64
	clock       func() time.Time
}

// place is a namespace of a state.
type place struct {
	state string
	ns    int64
}

// registered is a state of a store.
type registered interface {
	// images lists all that the state holds, without reading it.
	images(into []changeSet) []changeSet
	// loader returns what takes entries, encoded by the schemas, on restore.
	loader(old *pb.StateDecl) (loader, error)
	// adopt takes over from stores, in the order of their key groups.
	adopt(old []*Store) error
	declaration() *pb.StateDecl
	types() *types
	size() Stats
}

// loader takes one entry of a restored run.
type loader func(e *snapshot.Entry, from *snapshot.Replay) error

// NewStore returns an empty store for the key groups that a subtask owns.
func NewStore(r keygroup.Range) *Store {
	s := &Store{groups: r, states: map[string]registered{}, kinds: map[string]string{}, epoch: 1, now: unknownTimes, passed: unknownTimes}
	s.base, _ = hashesOf(r.First, r.N)
	_, s.top = hashesOf(r.Last, r.N)
	s.common = uint8(bits.LeadingZeros64(s.base ^ s.top))
	return s
}

// Groups are the key groups that the store owns.
func (s *Store) Groups() keygroup.Range { return s.groups }

func (s *Store) register(name string, r registered) error {
	if name == "" {
		return fmt.Errorf("state without a name: give it one, it maps the state across restarts")
	}
	if _, ok := s.states[name]; ok {
		return fmt.Errorf("state %q is declared twice: names are unique in an operator", name)
	}
	s.states[name] = r
	return nil
}

func stateError(name string, err error) error { return fmt.Errorf("state %q: %w", name, err) }

// Declared lists the store's states, by name.
func (s *Store) Declared() []*pb.StateDecl {
	all := make([]*pb.StateDecl, 0, len(s.states))
	for name, r := range s.states {
		all = append(all, s.declaration(name, r))
	}
	sort.Slice(all, func(i, j int) bool { return all[i].GetName() < all[j].GetName() })
	return all
}

// Describe says what a state of the store is: value, list, map, window, join or
// timer.
// It shows in the job graph, and state of one kind never becomes another.
func (s *Store) Describe(name, kind string) { s.kinds[name] = kind }

func (s *Store) declaration(name string, r registered) *pb.StateDecl {
	d := r.declaration()
	if kind := s.kinds[name]; kind != "" {
		d.Kind = kind
	}
	return d
}

// Stats is the size of a store.
type Stats struct {
	Entries int
	// Bytes estimates the memory that entries take, pages not full included.
	// What values point to is in it only if the store has a disk.
	Bytes int
	// Disk is the size of the entries that are on the disk.
	Disk int
	// Evicted and Read count pages that left memory for the disk and came back
	// from it, for whatever reason.
	Evicted, Read uint64
}

// Stats returns the size of the store. It costs a step per table and
// namespace.
func (s *Store) Stats() Stats {
	var sum Stats
	for _, r := range s.states {
		size := r.size()
		sum.Entries += size.Entries
		sum.Bytes += size.Bytes
		sum.Disk += size.Disk
	}
	if s.tier != nil {
		sum.Evicted, sum.Read = s.tier.evicted, s.tier.read.Load()
	}
	return sum
}

// pinned says whether a snapshot may still read a page.
func (s *Store) pinned(p *page) bool {
	for _, l := range s.layers {
		if p.epoch == l.epoch || p.epoch < l.epoch && l.full {
			return true
		}
	}
	return false
}

// shared says whether a snapshot may still read a node.
func (s *Store) shared(n *node) bool {
	for _, l := range s.layers {
		if l.full && n.epoch <= l.epoch {
			return true
		}
	}
	return false
}
