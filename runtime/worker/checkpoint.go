package worker

import (
	"github.com/millrace/millrace/internal/failpoint"
	"github.com/millrace/millrace/runtime/barrier"
	"github.com/millrace/millrace/runtime/graph"
	"github.com/millrace/millrace/runtime/task"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// start gives the sources their splits and lets the tasks run; oneRunning
// reports when all do.
func (a *attempt) start(s *pb.Start) {
	select {
	case <-a.ready:
	case <-a.ctx.Done():
		return
	}
	splits := make(map[place][]*pb.Split)
	for _, as := range s.GetSplits() {
		at := place{as.GetUid(), int(as.GetSubtask())}
		splits[at] = append(splits[at], as.GetSplits()...)
	}
	drain := positionsByUID(s.GetDrain())
	if err := failpoint.Hit("restore.before-start"); err != nil {
		a.fail("", 0, protoError(err, codeDeployFailed))
		return
	}
	a.waiting.Store(int64(len(a.tasks)) + 1)
	for _, t := range a.tasks {
		uid := t.vertex.Members[0].UID
		t.Start(task.Beginning{
			Splits: splits[place{uid, t.subtask}], Draining: len(s.GetDrain()) > 0, Drain: drain[uid],
		})
	}
	a.oneRunning() // so that a worker without tasks answers too
	_ = failpoint.Hit("restore.after-start")
}

func positionsByUID(positions []*pb.DrainPosition) map[string][]*pb.DrainPosition {
	byUID := make(map[string][]*pb.DrainPosition)
	for _, p := range positions {
		byUID[p.GetUid()] = append(byUID[p.GetUid()], p)
	}
	return byUID
}

// follow gives running sources the splits that follow finished ones.
func (a *attempt) follow(assigned []*pb.SplitAssignment) {
	for _, as := range assigned {
		for _, t := range a.tasks {
			if t.Source() != nil && t.vertex.Members[0].UID == as.GetUid() && t.subtask == int(as.GetSubtask()) {
				t.Follow(as.GetSplits(), as.GetReleased())
			}
		}
	}
}

// drainTo gives each source its end positions.
func (a *attempt) drainTo(positions []*pb.DrainPosition) {
	byUID := positionsByUID(positions)
	for _, t := range a.tasks {
		if t.Source() != nil {
			t.DrainTo(byUID[t.vertex.Members[0].UID])
		}
	}
}

func (a *attempt) trigger(t *pb.TriggerCheckpoint) {
	if !a.begun.Load() {
		a.decline(t, failf(codeDeclined, "not all tasks run yet")) // the master triggers what runs
		return
	}
	if err := failpoint.Hit("checkpoint.after-trigger"); err != nil {
		a.decline(t, err)
		return
	}
	a.held.Store(false)
	a.collect.trigger(t)
	b := barrier.Barrier{
		ID: t.GetCheckpointId(), TriggeredMillis: t.GetTriggeredMs(), Savepoint: t.GetSavepoint(), Terminal: t.GetTerminal(),
		Halt: t.GetHalt(),
	}
	for _, r := range a.tasks {
		r.Trigger(b)
	}
}

func (a *attempt) decline(t *pb.TriggerCheckpoint, err error) {
	a.report(&pb.WorkerReport{Body: &pb.WorkerReport_Declined{Declined: &pb.CheckpointDeclined{
		CheckpointId: t.GetCheckpointId(), Error: protoError(err, codeDeclined),
	}}})
}

func (a *attempt) aborted(c *pb.CheckpointAborted) {
	a.w.cfg.Log.Info("checkpoint aborted", "checkpoint", c.GetCheckpointId(), "reason", c.GetReason())
	a.collect.aborted(c.GetCheckpointId())
	for _, t := range a.tasks {
		t.Aborted(c.GetCheckpointId())
	}
}

// vertexOf is the vertex of a task's part.
func (a *attempt) vertexOf(p *task.Checkpoint) *graph.Vertex {
	for _, t := range a.tasks {
		if t.vertex.ID == p.VertexID {
			return t.vertex
		}
	}
	panic("worker: a checkpoint of a task that is not here")
}
