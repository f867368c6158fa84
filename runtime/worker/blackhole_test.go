package worker

import (
	"context"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/checkpoint/snapshot"
	"github.com/millrace/millrace/runtime/graph"
	"github.com/millrace/millrace/runtime/task"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// blackHole is a bucket that takes writes in and never answers.
type blackHole struct {
	blob.Bucket
	dark    atomic.Bool
	waiting atomic.Int64
}

func (b *blackHole) Put(ctx context.Context, key string, r io.Reader, size int64) error {
	if !b.dark.Load() {
		return b.Bucket.Put(ctx, key, r, size)
	}
	b.waiting.Add(1)
	defer b.waiting.Add(-1)
	<-ctx.Done()
	return ctx.Err()
}

// A checkpoint whose upload never ends is aborted: the upload ends then, nothing
// of it is kept, and the next checkpoint is written as soon as the bucket answers.
func TestAnUploadIntoABlackHoleEndsWithItsCheckpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bucket := &blackHole{Bucket: blob.NewMemory()}
		w, err := New(Config{
			Graph: job(t, &feed{}, newLedger()), Bucket: bucket, JobID: "j", WorkerID: "w", Send: func(*pb.WorkerReport) {}, InlineLimit: 1,
		})
		if err != nil {
			t.Fatal(err)
		}
		a := newAttempt(w, 1, &pb.Deploy{StatePrefix: "jobs/j/state/1-"})
		a.begun.Store(true)
		a.tasks = []*running{{vertex: &graph.Vertex{ID: "v", Parallelism: 1, MaxParallelism: 16}}}
		c := a.collect
		a.spawn(func() { c.run(a.ctx) })
		checkpoint := func(id uint64) {
			c.trigger(&pb.TriggerCheckpoint{CheckpointId: id})
			p := &task.Checkpoint{VertexID: "v", Operators: []task.OperatorCheckpoint{{UID: "sum", Run: someRun(t)}}}
			p.Barrier.ID = id
			c.part(p)
			synctest.Wait()
		}
		reports := func() (got []*pb.WorkerReport) {
			for {
				select {
				case r := <-w.reports:
					got = append(got, r)
				default:
					return got
				}
			}
		}

		bucket.dark.Store(true)
		for id := uint64(1); id <= 3; id++ {
			checkpoint(id)
			if n := bucket.waiting.Load(); n != 1 {
				t.Fatalf("checkpoint %d: %d uploads wait for the bucket, want 1", id, n)
			}
			c.aborted(id)
			synctest.Wait()
			if n := bucket.waiting.Load(); n != 0 {
				t.Fatalf("checkpoint %d was aborted, and %d uploads still wait", id, n)
			}
			if len(c.collecting) != 0 {
				t.Fatalf("checkpoint %d was aborted, and is kept", id)
			}
		}
		// The abort of one may overtake what it is about.
		c.aborted(4)
		checkpoint(4)
		if n := bucket.waiting.Load(); n != 0 {
			t.Errorf("%d uploads of a checkpoint that was given up before", n)
		}
		if got := reports(); len(got) != 0 {
			t.Errorf("reports of checkpoints that the master has given up: %v", got)
		}

		bucket.dark.Store(false)
		checkpoint(5)
		got := reports()
		if len(got) != 1 || got[0].GetAck().GetCheckpointId() != 5 {
			t.Fatalf("reports %v, want the ack of checkpoint 5", got)
		}
		if key := got[0].GetAck().GetOperators()[0].GetRuns()[0].GetObject(); !strings.HasPrefix(key, "jobs/j/state/1-5-") {
			t.Errorf("the run is in %q", key)
		}
		a.cancel()
		a.group.Wait()
	})
}

func someRun(t *testing.T) snapshot.Run {
	w := snapshot.NewWriter(16)
	w.Full()
	w.Put(3, "last", 0, []byte("k"), []byte("v"))
	run, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return run
}
