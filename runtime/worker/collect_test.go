package worker

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/checkpoint/snapshot"
	"github.com/millrace/millrace/runtime/barrier"
	"github.com/millrace/millrace/runtime/keygroup"
	"github.com/millrace/millrace/runtime/state"
	"github.com/millrace/millrace/runtime/task"
	"github.com/millrace/millrace/runtime/tier"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// An upload hangs and the tasks' parts fill the queue behind it. The worker
// must get past the next orders, to the one that cancels all this.
func TestASlowUploadDoesNotHoldUpTheWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, err := New(Config{
			Graph: job(t, &feed{}, newLedger()), Bucket: blob.NewMemory(), JobID: "j", WorkerID: "w", Send: func(*pb.WorkerReport) {},
		})
		if err != nil {
			t.Fatal(err)
		}
		a := newAttempt(w, 1, &pb.Deploy{})
		a.begun.Store(true)
		uploading := make(chan struct{})
		a.spawn(func() { a.collect.run(a.ctx) })
		a.collect.post(func(ctx context.Context) {
			close(uploading)
			<-ctx.Done()
		})
		<-uploading
		for range collectQueue {
			a.collect.part(&task.Checkpoint{})
		}
		obeyed := make(chan struct{})
		go func() {
			defer close(obeyed)
			a.take(&pb.WorkerCommand{Epoch: 1, Body: &pb.WorkerCommand_Trigger{Trigger: &pb.TriggerCheckpoint{CheckpointId: 2}}})
			a.take(&pb.WorkerCommand{Epoch: 1, Body: &pb.WorkerCommand_Aborted{Aborted: &pb.CheckpointAborted{CheckpointId: 2}}})
			a.take(&pb.WorkerCommand{Epoch: 1, Body: &pb.WorkerCommand_Completed{Completed: &pb.CheckpointCompleted{CheckpointId: 1}}})
		}()
		synctest.Wait()
		select {
		case <-obeyed:
		default:
			t.Error("the worker waits for an upload")
		}
		for id := range uint64(collectQueue) {
			a.collect.aborted(id)
		}
		synctest.Wait()
		select {
		case r := <-w.reports:
			if r.GetFailed().GetError().GetCode() != "bucket-unavailable" {
				t.Errorf("report %v, want the failure of the attempt", r)
			}
		default:
			t.Error("orders beyond the queue were lost without a word")
		}
		a.cancel()
		<-obeyed
		a.group.Wait()
	})
}

// unreadable is a disk that takes what it is given, and fails to read it.
type unreadable struct{ *tier.Disk }

var errUnreadable = errors.New("input/output error")

func (unreadable) Read(state.PageKey, func([]byte) error) error { return errUnreadable }

// snapshotOf is what comes of a snapshot whose pages are on a disk.
func snapshotOf(t *testing.T, disk state.Disk) error {
	s := state.NewStore(keygroup.RangeOf(0, 1, 64))
	s.UseDisk(disk, state.NewBudget(1))
	tab, err := state.NewTable[uint64, uint64](s, "t")
	if err != nil {
		t.Fatal(err)
	}
	hash, err := keygroup.HasherOf[uint64]()
	if err != nil {
		t.Fatal(err)
	}
	for k := range uint64(30) { // of one page, which leaves at the barrier
		tab.Upsert(hash(&k), k)
	}
	s.Ease()
	w := snapshot.NewWriter(64)
	w.Own(0, 63)
	return s.Freeze(false).Write(w)
}

// A page that a snapshot cannot read is lost: no checkpoint without it will
// ever complete. What else goes wrong with a snapshot may go well the next time.
func TestAPageThatASnapshotCannotReadEndsTheAttempt(t *testing.T) {
	w, err := New(Config{
		Graph: job(t, &feed{}, newLedger()), Bucket: blob.NewMemory(), JobID: "j", WorkerID: "w", Send: func(*pb.WorkerReport) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	a := newAttempt(w, 1, &pb.Deploy{})
	a.spawn(func() { a.collect.run(a.ctx) })
	part := func(id uint64, cause error) {
		a.collect.part(&task.Checkpoint{
			Barrier: barrier.Barrier{ID: id}, VertexID: "v", Subtask: 3, Err: &task.Failure{Operator: "count", Subtask: 3, Err: cause},
		})
	}
	disk, err := tier.Open(filepath.Join(t.TempDir(), "tier"), tier.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = disk.Close() }()
	if err := snapshotOf(t, disk); err != nil {
		t.Fatal(err)
	}
	part(1, errors.New("no such encoding"))
	part(2, snapshotOf(t, unreadable{disk}))
	if r := <-w.reports; r.GetDeclined().GetCheckpointId() != 1 || r.GetDeclined().GetError().GetCode() == codeStateDisk {
		t.Errorf("report %v, want that checkpoint 1 is declined", r)
	}
	r := (<-w.reports).GetFailed()
	if e := r.GetError(); r.GetVertexId() != "v" || r.GetSubtask() != 3 || e.GetCode() != codeStateDisk || e.GetOperator() != "count" {
		t.Errorf("report %v, want the failure of the attempt", r)
	}
	if m := r.GetError().GetMessage(); !strings.Contains(m, errUnreadable.Error()) {
		t.Errorf("message %q does not say why", m)
	}
	a.cancel()
	a.group.Wait()
}
