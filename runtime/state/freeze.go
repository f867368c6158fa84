package state

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/millrace/millrace/checkpoint/snapshot"
	"github.com/millrace/millrace/runtime/codec"
	"github.com/millrace/millrace/runtime/keygroup"
)

// layer is what a barrier froze: the changes of one epoch or, when full, all
// state as of its end. Its pages and, when full, its nodes do not change as long
// as it is referenced.
type layer struct {
	epoch   uint32
	full    bool
	changes []changeSet
	drops   []place
	refs    int // frozen snapshots, and one while it is held
}

// changeSet is the part of a layer that belongs to one table.
type changeSet interface {
	place() place
	size() int // pages, about
	begin(f *Frozen, of steps) writing
	// release gives back pages that nobody reads any more.
	release()
}

// writing is how far a change set is written.
type writing interface {
	// write writes what there is of a step, and counts what changed in the last epoch.
	write(s *step) error
}

// maxHeld is how many barriers' changes are kept for checkpoints that did not
// complete; beyond it the next one that does is full.
const maxHeld = 8

// Freeze is the barrier: it takes the changes since the last Freeze, and those
// of earlier ones that were not released. With full it takes all state, and where
// nearly all of it changes from one barrier to the next anyhow, so that there is
// nothing to merge later. It costs a step per table and namespace.
func (s *Store) Freeze(full bool) *Frozen {
	s.bury()
	if len(s.aging) > 0 { // a task without input does so only here
		s.Tick()
		s.sweep(sweptAtBarrier)
	}
	if s.tier != nil && s.tier.over() {
		s.tier.ease(easedIdle) // a task without input does so only here
	}
	f := &Frozen{groups: s.groups, store: s, epoch: s.epoch, passed: s.passed}
	if n := len(s.held); n >= maxHeld {
		s.lost = s.held[n-1].epoch
		s.unhold(s.lost)
	}
	l := &layer{epoch: s.epoch, changes: s.changes, drops: s.drops, refs: 1}
	s.held, s.layers = append(s.held, l), append(s.layers, l)
	if full || s.lost > 0 || s.restless() {
		f.full = true
		l := &layer{epoch: s.epoch, full: true}
		for _, r := range s.states {
			l.changes = r.images(l.changes)
		}
		s.layers = append(s.layers, l)
		f.layers = []*layer{l}
	} else {
		f.layers = slices.Clone(s.held)
	}
	for _, l := range f.layers {
		l.refs++
	}
	s.changes, s.drops = nil, nil
	s.epoch++
	s.flying = append(s.flying, f)
	return f
}

// restless says that at least three in four entries changed before the last
// barrier whose changes are known.
func (s *Store) restless() bool {
	size := s.Stats()
	return size.Entries > 0 && size.Disk == 0 && 4*s.changed.Load() >= 3*int64(size.Entries)
}

// Frozen is the state of a store as of a barrier.
type Frozen struct {
	groups keygroup.Range
	store  *Store
	layers []*layer // oldest first
	epoch  uint32
	passed [domains]int64 // the times as of the barrier
	full   bool
	gone   bool // released or aborted, as the task knows
	phase  atomic.Int32
}

// The phases of a Frozen. Write runs in writing; Abort ends ready at once, and
// leaves the pages of a Write that runs alone until it has returned.
//
//	ready ──▶ writing ──▶ written ──▶ (writing again)
//	  └───────────┴──────────┴──▶ aborted
const (
	phaseReady int32 = iota
	phaseWriting
	phaseWritten
	phaseAborted
)

// ErrAborted is returned by Write of a Frozen that was aborted or released.
var ErrAborted = errors.New("snapshot was given up")

// Write writes the frozen changes to w, whose key groups must be the store's,
// and marks it full if this is. It runs on any one goroutine, beside the task.
func (f *Frozen) Write(w *snapshot.Writer) (err error) {
	if !f.phase.CompareAndSwap(phaseReady, phaseWriting) && !f.phase.CompareAndSwap(phaseWritten, phaseWriting) {
		return ErrAborted
	}
	defer f.phase.Store(phaseWritten)
	defer func() {
		switch r := recover().(type) {
		case nil:
		case *codec.MarshalError: // the value's own encoding failed
			err = fmt.Errorf("write state: %w", r)
		default:
			panic(r)
		}
	}()
	if f.full {
		w.Full()
	}
	pages, sets := 0, 0
	gone := map[place]int{}
	for i, l := range f.layers {
		for _, d := range l.drops {
			w.Drop(d.state, d.ns)
			gone[d] = i
		}
		for _, c := range l.changes {
			w.State(c.place().state)
			pages, sets = pages+c.size(), sets+1
		}
	}
	steps := stepsFor(f.groups, pages)
	all := make([]writing, 0, sets)
	for i, l := range f.layers {
		for _, c := range l.changes {
			if last, ok := gone[c.place()]; ok && last > i {
				continue // dropped by a later barrier
			}
			all = append(all, c.begin(f, steps))
		}
	}
	s := step{w: w, groups: f.groups}
	for n := range steps.n {
		group := steps.begin(&s, n)
		for _, c := range all {
			if err := c.write(&s); err != nil {
				return err
			}
		}
		w.Done(group)
	}
	f.store.changed.Store(int64(s.changed))
	return nil
}

// Full says that Write writes all state, not only changes.
func (f *Frozen) Full() bool { return f.full }

// Release gives up the frozen pages because the checkpoint is durable, and the
// next one will build on it. Only the task's goroutine calls it, after Write
// returned.
func (f *Frozen) Release() {
	if f.gone {
		return
	}
	f.end()
	f.phase.Store(phaseAborted)
	f.store.unhold(f.epoch)
	f.store.unref(f.layers)
	if f.full && f.epoch >= f.store.lost {
		f.store.lost = 0 // changes alone do again: the later ones are held
	}
}

// Abort says that no later checkpoint builds on this one, because it failed or
// because it is a savepoint: its changes will be part of the next Freeze, too.
// Only the task's goroutine calls it; Write may still run.
func (f *Frozen) Abort() {
	if f.gone {
		return
	}
	f.end()
	for {
		switch p := f.phase.Load(); {
		case p == phaseWriting:
			f.store.zombies = append(f.store.zombies, f)
			return
		case f.phase.CompareAndSwap(p, phaseAborted):
			f.store.unref(f.layers)
			return
		}
	}
}

// end takes the snapshot off the store's list.
func (f *Frozen) end() {
	f.gone = true
	f.store.flying = slices.DeleteFunc(f.store.flying, func(other *Frozen) bool { return other == f })
}

// bury gives up what aborted snapshots read while they were still writing.
func (s *Store) bury() {
	s.zombies = slices.DeleteFunc(s.zombies, func(f *Frozen) bool {
		if !f.phase.CompareAndSwap(phaseWritten, phaseAborted) {
			return false
		}
		s.unref(f.layers)
		return true
	})
}

// unhold forgets the changes up to an epoch: a durable checkpoint has them.
func (s *Store) unhold(epoch uint32) {
	n := 0
	for n < len(s.held) && s.held[n].epoch <= epoch {
		n++
	}
	s.unref(s.held[:n])
	s.held = slices.Delete(s.held, 0, n)
}

func (s *Store) unref(layers []*layer) {
	for _, l := range layers {
		if l.refs--; l.refs == 0 {
			s.layers = slices.DeleteFunc(s.layers, func(other *layer) bool { return other == l })
			for _, c := range l.changes {
				c.release()
			}
		}
	}
}
