package worker

import (
	"fmt"

	"github.com/millrace/millrace/runtime/barrier"
	"github.com/millrace/millrace/runtime/graph"
	"github.com/millrace/millrace/runtime/task"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// start gives the sources their splits and lets the tasks run.
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
	for _, t := range a.tasks {
		src := t.Source()
		if src == nil {
			continue
		}
		uid := t.vertex.Members[0].UID
		err := protect(codeSourceFailed, func() error {
			return src.Assign(a.ctx, splits[place{uid, t.subtask}])
		})
		if err != nil {
			name := t.vertex.Members[0].Name
			e := protoError(fmt.Errorf("source %s, subtask %d: %w", name, t.subtask, err), codeSourceFailed)
			e.Operator, e.Subtask = name, uint32(t.subtask)
			a.fail(t.vertex.ID, t.subtask, e)
			return
		}
	}
	a.drainTo(s.GetDrain())
	for _, t := range a.tasks {
		t.Start()
	}
	a.report(&pb.WorkerReport{Body: &pb.WorkerReport_Running{Running: &pb.TasksRunning{}}})
}

// drainTo gives each source its end positions. It is by mail, so it comes
// before the first record where it is given with Start.
func (a *attempt) drainTo(positions []*pb.DrainPosition) {
	if len(positions) == 0 {
		return
	}
	byUID := make(map[string][]*pb.DrainPosition)
	for _, p := range positions {
		byUID[p.GetUid()] = append(byUID[p.GetUid()], p)
	}
	for _, t := range a.tasks {
		if t.Source() != nil {
			t.DrainTo(byUID[t.vertex.Members[0].UID])
		}
	}
}

func (a *attempt) trigger(t *pb.TriggerCheckpoint) {
	select {
	case <-a.ready:
	default:
		return // the master triggers what runs; this is of a task that failed
	}
	a.held.Store(false)
	a.collect.trigger(t)
	b := barrier.Barrier{
		ID: t.GetCheckpointId(), TriggeredMillis: t.GetTriggeredMs(), Savepoint: t.GetSavepoint(), Terminal: t.GetTerminal(),
	}
	for _, r := range a.tasks {
		r.Trigger(b)
	}
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
