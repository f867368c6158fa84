package worker

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/runtime/task"

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
