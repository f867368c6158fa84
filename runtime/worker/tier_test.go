package worker

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/runtime/keygroup"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// tieredAttempt is an attempt of a job whose state is tiered, two of the three
// slots are this worker's.
func tieredAttempt(w *Worker, memory uint64) *attempt {
	return newAttempt(w, 1, &pb.Deploy{
		Graph:      &pb.JobGraph{Config: &pb.JobConfig{StateBackend: backendTiered, StateMemoryBytes: memory}},
		SlotWorker: []uint32{0, 1, 0},
	})
}

func TestASlotHasItsBudgetAndTheWorkerOneFolder(t *testing.T) {
	w := &Worker{cfg: Config{LocalDir: t.TempDir(), SlotMemory: 64 << 20}.withDefaults()}
	folder := filepath.Join(w.cfg.LocalDir, tierFolder)
	if err := os.MkdirAll(filepath.Join(folder, "left"), 0o755); err != nil {
		t.Fatal(err)
	}
	a := tieredAttempt(w, 0)
	if err := a.openTier(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(folder, "left")); !os.IsNotExist(err) {
		t.Errorf("what a worker before left in the folder: %v", err)
	}
	if a.slotState != 28<<20 { // half of the slot's, less an eighth for the disk
		t.Errorf("%d bytes of state in a slot of 64 MiB", a.slotState)
	}
	for _, slot := range []int{0, 2, 0} {
		a.store(keygroup.RangeOf(0, 1, 128), slot)
	}
	if len(a.budgets) != 2 {
		t.Errorf("%d budgets in 2 slots", len(a.budgets))
	}
	first := w.disk
	next := tieredAttempt(w, 8<<20)
	if err := next.openTier(); err != nil {
		t.Fatal(err)
	}
	if w.disk == first || next.slotState != 7<<20 {
		t.Errorf("the next attempt has the disk of the last one, or %d bytes", next.slotState)
	}
	w.closeTier()
	if _, err := os.Stat(folder); !os.IsNotExist(err) {
		t.Errorf("the folder after the end: %v", err)
	}
}

func TestAFolderThatCannotBeMadeIsNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	err := tieredAttempt(&Worker{cfg: Config{LocalDir: file}.withDefaults()}, 0).openTier()
	if e := protoError(err, "other"); err == nil || e.GetCode() != codeStateDisk || !strings.Contains(e.GetMessage(), filepath.Join(file, tierFolder)) {
		t.Fatalf("%v: code %s, want %s and the folder", err, e.GetCode(), codeStateDisk)
	}
}
