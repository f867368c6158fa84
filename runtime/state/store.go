package state

import (
	"github.com/millrace/millrace/checkpoint/snapshot"
	"github.com/millrace/millrace/runtime/keygroup"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Store holds the tables of one operator instance.
type Store struct {
	groups keygroup.Range
}

// NewStore returns an empty store for the key groups that a subtask owns.
func NewStore(r keygroup.Range) *Store { return &Store{groups: r} }

// Restore says how Load treats what it finds.
type Restore struct {
	// Declared are the states as the operator that wrote the runs declared
	// them: names and schemas.
	Declared []*pb.StateDecl
	// AllowUnmatched drops state that no table of this store has the name of.
	AllowUnmatched bool
}

// Load fills the tables from the runs of a restored checkpoint, which go from
// the oldest to the newest; entries of key groups that the store does not own
// are passed over. It is called after the tables were made, before any use.
func (s *Store) Load(readers []*snapshot.Reader, how Restore) error { panic("state: not yet") }

// Declared lists the store's states, by name.
func (s *Store) Declared() []*pb.StateDecl { panic("state: not yet") }

// Stats is the size of a store.
type Stats struct {
	Entries int
	// Bytes estimates the memory that entries take, pages not full included;
	// what values point to is not in it.
	Bytes int
}

// Stats returns the size of the store. It costs a step per table and
// namespace.
func (s *Store) Stats() Stats { panic("state: not yet") }

// Freeze is the barrier: it takes the changes since the last Freeze, and those
// of earlier ones that were not released. With full it takes all state. It
// costs the same whatever the size of the state and of the changes.
func (s *Store) Freeze(full bool) *Frozen { panic("state: not yet") }

// Frozen is the state of a store as of a barrier.
type Frozen struct{}

// Write writes the frozen changes to w, whose key groups must be the store's.
// It runs on any one goroutine, beside the task. Calling it again writes the
// same again.
func (f *Frozen) Write(w *snapshot.Writer) error { panic("state: not yet") }

// Full says that Write writes all state, not only changes.
func (f *Frozen) Full() bool { panic("state: not yet") }

// Release gives up the frozen pages because the checkpoint is durable (it has
// completed). Only the task's goroutine calls it, after Write returned.
func (f *Frozen) Release() { panic("state: not yet") }

// Abort says that the checkpoint failed: its changes will be part of the next
// Freeze. Only the task's goroutine calls it; Write may still run.
func (f *Frozen) Abort() { panic("state: not yet") }
