package worker

import (
	"context"

	"github.com/millrace/millrace/checkpoint/snapshot"
	"github.com/millrace/millrace/runtime/graph"
	"github.com/millrace/millrace/runtime/keygroup"
	"github.com/millrace/millrace/runtime/state"
	"github.com/millrace/millrace/runtime/task"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// checkRestore refuses a checkpoint that does not fit the graph, before any
// operator is opened.
func (a *attempt) checkRestore(vertices []*graph.Vertex) error {
	groups := make(map[string]int)
	for _, v := range vertices {
		for _, m := range v.Members {
			groups[m.UID] = v.MaxParallelism
		}
	}
	for _, s := range a.deploy.GetRestore() {
		n, ok := groups[s.GetUid()]
		switch {
		case !ok && a.deploy.GetAllowUnmatchedState():
		case !ok && (len(s.GetRuns()) > 0 || len(s.GetEntries()) > 0):
			return failf(codeUnmatched, "the checkpoint has state of operator %q, which the job does not have: name the operator so again, or allow unmatched state", s.GetUid())
		case ok && len(s.GetRuns()) > 0 && int(s.GetMaxParallelism()) != n:
			return failf(codeIncompatible, "operator %q has a max parallelism of %d, its state was written with %d: set it back",
				s.GetUid(), n, s.GetMaxParallelism())
		}
	}
	return nil
}

// restorer gives the operators of a subtask their state: of each subtask that
// wrote some, the key groups that it owned and this one owns now.
func (a *attempt) restorer(v *graph.Vertex, subtask int) func(context.Context, int) (task.Restored, error) {
	declared := declaredStates(a.deploy)
	return func(ctx context.Context, op int) (task.Restored, error) {
		uid := v.Members[op].UID
		out := task.Restored{State: state.Restore{
			Declared: declared[uid], AllowUnmatched: a.deploy.GetAllowUnmatchedState(),
		}}
		mine := keygroup.RangeOf(subtask, v.Parallelism, v.MaxParallelism)
		for _, s := range a.deploy.GetRestore() {
			if s.GetUid() != uid {
				continue
			}
			out.Entries = append(out.Entries, s.GetEntries()...)
			if len(s.GetRuns()) == 0 {
				continue
			}
			theirs := keygroup.RangeOf(int(s.GetSubtask()), int(s.GetParallelism()), int(s.GetMaxParallelism()))
			first, last := max(mine.First, theirs.First), min(mine.Last, theirs.Last)
			if first > last {
				continue
			}
			runs, err := snapshot.OpenChain(ctx, a.w.cfg.Bucket, s.GetRuns(), first, last)
			if err != nil {
				return task.Restored{}, err
			}
			out.Runs = append(out.Runs, runs...)
			if theirs == mine {
				a.collect.adopt(place{uid, subtask}, s.GetRuns())
			} else {
				out.Rebase = true
			}
		}
		return out, nil
	}
}

// declaredStates are the states of each operator as the restored checkpoint
// was written.
func declaredStates(d *pb.Deploy) map[string][]*pb.StateDecl {
	g := d.GetRestoreGraph()
	if len(g.GetVertices()) == 0 {
		g = d.GetGraph()
	}
	out := make(map[string][]*pb.StateDecl)
	for _, v := range g.GetVertices() {
		for _, o := range v.GetOperators() {
			out[o.GetUid()] = o.GetStates()
		}
	}
	return out
}
