package worker

import (
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/millrace/millrace/runtime/keygroup"
	"github.com/millrace/millrace/runtime/state"
	"github.com/millrace/millrace/runtime/tier"
)

// This chapter is state larger than memory: one disk for all tasks of the
// worker, one budget for each slot.

const (
	tierFolder    = "tier"
	backendTiered = "tiered"
	// defaultSlotMemory is taken for a slot's memory where nobody says it.
	defaultSlotMemory = 512 << 20
	// diskShare is the part of the budgets that is the disk's, for what it has not
	// written yet and for a cache of what it has.
	diskShare = 8
)

// openTier makes the disk ready, where the job's state is tiered: empty, or
// as it was where state is kept on it. The attempt before has ended.
func (a *attempt) openTier() error {
	w := a.w
	if len(a.kept) == 0 {
		w.closeTier()
	}
	c := a.deploy.GetGraph().GetConfig()
	if c.GetStateBackend() != backendTiered {
		return nil
	}
	memory := int64(c.GetStateMemoryBytes())
	if memory == 0 {
		memory = w.cfg.SlotMemory / 2 // the rest is for records, snapshots and the collector's slack
	}
	slots := int64(0)
	for _, holder := range a.deploy.GetSlotWorker() {
		if holder == a.deploy.GetSelf() {
			slots++
		}
	}
	a.slotState = memory - memory/diskShare
	if w.disk != nil {
		return nil
	}
	folder := filepath.Join(w.cfg.LocalDir, tierFolder)
	if w.cfg.LocalDir == "" {
		var err error
		if folder, err = os.MkdirTemp("", "millrace-state-"); err != nil {
			return failf(codeStateDisk, "a folder for tiered state: %w", err)
		}
	}
	disk, err := tier.Open(folder, tier.Options{Memory: slots * memory / diskShare, Log: w.cfg.Log})
	if err != nil {
		return failf(codeStateDisk, "%w", err)
	}
	w.disk = disk
	return nil
}

// forsake gives up what the tasks before left in memory, and what of it is on
// the disk and has moved to another worker. All tasks have taken theirs.
func (a *attempt) forsake() {
	old := slices.Collect(maps.Values(a.kept))
	a.kept = nil
	if a.w.disk == nil || len(old) == 0 {
		return
	}
	var now []*state.Store
	for _, t := range a.tasks {
		now = append(now, t.States()...)
	}
	if err := state.Forsake(old, now); err != nil {
		a.fail("", 0, protoError(err, codeStateDisk))
	}
}

// closeTier gives up what is on the disk.
func (w *Worker) closeTier() {
	if w.disk == nil {
		return
	}
	if err := w.disk.Close(); err != nil {
		w.cfg.Log.Warn("tiered state was not removed", "error", err)
	}
	w.disk = nil
}

// store makes the store of an operator in a slot.
func (a *attempt) store(groups keygroup.Range, slot int) *state.Store {
	s := state.NewStore(groups)
	s.UseClock(a.w.cfg.Clock.Now)
	if a.w.disk != nil {
		if a.budgets[slot] == nil {
			a.budgets[slot] = state.NewBudget(a.slotState)
		}
		s.UseDisk(a.w.disk, a.budgets[slot])
	}
	return s
}
