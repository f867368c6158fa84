package checkpoint

import (
	"slices"
	"strings"
	"testing"
	"time"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// calm serves everything at once and without a fault.
func (w *world) calm() {
	for len(w.pendingActs) > 0 {
		acts := w.pendingActs
		w.pendingActs = nil
		for _, a := range acts {
			switch a := a.(type) {
			case Trigger:
				id := ID(a.Command.GetCheckpointId())
				for _, worker := range w.workers {
					w.acks[id][worker] = true
					w.step(w.ack(id, worker))
				}
			case Write:
				w.objects[a.Key] = true
				w.step(Written{ID: a.ID})
			case Journal:
				id := ID(a.Done.GetCheckpointId())
				w.answered[id], w.journalOK[id] = true, true
				w.step(Journaled{ID: id})
			case List:
				w.step(Listed{Keys: w.list(a.Prefix)})
			case Complete:
				id := ID(a.Done.GetCheckpointId())
				w.committed[id] = true
				w.step(Committed{ID: id})
			}
		}
	}
}

// After leaders and workers that died between any two steps, an attempt that
// completes as many checkpoints as are retained leaves nothing of the epochs
// before that no manifest names; and never deletes what one names, which world
// checks.
func TestWhatDeadAttemptsLeftIsSwept(t *testing.T) {
	swept, worlds := 0, 0
	for seed := range uint64(1000) {
		w := newWorld(t, seed)
		w.run(150)
		if w.running {
			w.running = false
			w.step(Stopped{})
		}
		w.late = nil
		if w.terminal || w.journal[w.lastID] != nil && !w.answered[w.lastID] {
			continue // it ends, or the journal has to answer first
		}
		if w.r.IntN(2) == 0 {
			// Another leader: it knows what the journal retains, and nothing else.
			cfg := w.c.cfg
			cfg.NextID, cfg.Kept = w.lastID+1, nil
			for _, m := range w.retained[max(0, len(w.retained)-max(cfg.Retained, 1)):] {
				cfg.Kept = append(cfg.Kept, Kept{Done: w.journal[m.ID], Manifest: m.Manifest})
			}
			w.c = New(cfg)
		}
		w.pendingActs = nil
		w.now = w.now.Add(time.Minute)
		before := len(w.objects)
		w.restart()
		for range max(w.c.cfg.Retained, 1) + 1 {
			w.nextToken++
			w.asked[w.nextToken] = 1
			w.now = w.now.Add(3 * time.Minute)
			w.step(Asked{Request: Request{Token: w.nextToken}})
			w.calm()
		}
		worlds++
		for key := range w.objects {
			epoch, ok := epochOf("j", key)
			if !ok || !strings.HasPrefix(key, "jobs/j/") || epoch >= w.epoch {
				continue
			}
			if !slices.ContainsFunc(w.c.kept, func(k kept) bool { return k.key == key || k.objects[key] }) {
				w.fatalf("%s is left in epoch %d", key, w.epoch)
			}
		}
		swept += max(before-len(w.objects), 0)
	}
	t.Logf("%d worlds, %d objects swept", worlds, swept)
	if worlds < 500 || swept == 0 {
		t.Errorf("%d worlds and %d objects prove nothing", worlds, swept)
	}
}

// An attempt that merges for months does not remember all that it let go, but what
// it let go last is not taken for new.
func TestMergedObjectsAreNotRememberedForGood(t *testing.T) {
	w := newWorld(t, 1)
	w.restart()
	worker := w.workers[0]
	checkpoint := func() {
		w.nextToken++
		w.asked[w.nextToken] = 1
		w.now = w.now.Add(time.Second)
		w.step(Asked{Request: Request{Token: w.nextToken}})
		w.calm()
	}
	checkpoint()
	names, last := 0, ""
	for range 3 * mostMerged {
		w.merges++
		last = MergedObject(StatePrefix("j", w.epoch), w.lastID, 0, w.merges)
		w.objects[last], w.ready[worker] = true, last
		checkpoint()
		if len(w.c.merged) > mostMerged {
			t.Fatalf("%d merged objects are remembered", len(w.c.merged))
		}
		names++
	}
	if w.completed == nil || len(w.c.merged) < mostMerged {
		t.Fatalf("%d checkpoints with %d merged objects, of which %d are remembered: this proves nothing", len(w.completed), names, len(w.c.merged))
	}
	gone := w.c.merged[len(w.c.merged)-1]
	if w.objects[gone] {
		t.Fatalf("%s is there still", gone)
	}
	w.now = w.now.Add(time.Second)
	w.step(Asked{Request: Request{}})
	w.pendingActs = nil
	w.c.Step(Acked{Worker: worker, Epoch: w.epoch, Ack: &pb.CheckpointAck{CheckpointId: uint64(w.lastID), Operators: []*pb.OperatorSnapshot{{
		Uid: "op", Runs: []*pb.RunRef{{Object: gone}}}}}}, w.now)
	if w.c.phase == writing || w.c.pending.acked[worker] {
		t.Errorf("a checkpoint may name %s, which was deleted", gone)
	}
}
