package worker

import (
	"context"
	"errors"

	"github.com/millrace/millrace/checkpoint/snapshot"
	"github.com/millrace/millrace/checkpoint/upgrade"
	"github.com/millrace/millrace/internal/failpoint"
	"github.com/millrace/millrace/internal/planted"
	"github.com/millrace/millrace/runtime/graph"
	"github.com/millrace/millrace/runtime/keygroup"
	"github.com/millrace/millrace/runtime/state"
	"github.com/millrace/millrace/runtime/task"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// checkRestore refuses a checkpoint that does not fit the graph, before any
// operator is opened, as the job manager did before it deployed.
func (a *attempt) checkRestore() error {
	report, err := upgrade.Compare(upgrade.Old{
		Graph: restoredGraph(a.deploy), Manifest: &pb.Manifest{Operators: a.deploy.GetRestore()},
	}, a.deploy.GetGraph())
	if err != nil {
		return failf(codeIncompatible, "%w", err)
	}
	var refused *upgrade.Refusal
	switch err := report.Check(a.deploy.GetAllowUnmatchedState()); {
	case errors.As(err, &refused) && refused.Verdict == upgrade.Removed:
		return failf(codeUnmatched, "the restored checkpoint: %w", err)
	case err != nil:
		return failf(codeIncompatible, "the restored checkpoint: %w", err)
	}
	return nil
}

// restoredGraph is that of the job which wrote the restored checkpoint.
func restoredGraph(d *pb.Deploy) *pb.JobGraph {
	if g := d.GetRestoreGraph(); len(g.GetVertices()) > 0 {
		return g
	}
	return d.GetGraph()
}

// restorer gives the operators of a subtask their state: of each subtask that
// wrote some, the key groups that it owned and this one owns now. They come from
// memory where an attempt in this process left them, else from the checkpoint.
func (a *attempt) restorer(v *graph.Vertex, subtask int) func(context.Context, int) (task.Restored, error) {
	declared := declaredStates(a.deploy)
	opener := a.opener()
	return func(ctx context.Context, op int) (task.Restored, error) {
		uid := v.Members[op].UID
		out := task.Restored{State: state.Restore{
			Declared: declared[uid], AllowUnmatched: a.deploy.GetAllowUnmatchedState(),
		}}
		mine := keygroup.RangeOf(subtask, v.Parallelism, v.MaxParallelism)
		if planted.GroupOffByOne {
			mine.Last--
		}
		var chains [][]*pb.RunRef
		for _, s := range a.deploy.GetRestore() {
			if s.GetUid() != uid {
				continue
			}
			out.Entries = append(out.Entries, s.GetEntries()...)
			theirs := keygroup.RangeOf(int(s.GetSubtask()), int(s.GetParallelism()), int(s.GetMaxParallelism()))
			first, last := max(mine.First, theirs.First), min(mine.Last, theirs.Last)
			if first > last {
				continue
			}
			out.State.WithoutTimers = out.State.WithoutTimers || planted.TimerLostOnRescale && theirs != mine
			chains = append(chains, s.GetRuns())
			if kept := a.kept[place{uid, int(s.GetSubtask())}]; kept != nil && kept.Groups() == theirs {
				out.Kept = append(out.Kept, kept)
				continue
			}
			runs, err := readRuns(ctx, opener, s.GetRuns(), first, last)
			if err != nil {
				for _, r := range out.Runs {
					_ = r.Close()
				}
				return task.Restored{}, err
			}
			out.Runs = append(out.Runs, runs...)
		}
		if chain, ok := joinChains(chains, mine); !ok {
			out.Rebase = true
		} else if len(chain) > 0 {
			a.collect.adopt(place{uid, subtask}, chain)
		}
		return out, nil
	}
}

func readRuns(ctx context.Context, opener *snapshot.Opener, chain []*pb.RunRef, first, last int) ([]*snapshot.Reader, error) {
	if err := failpoint.Hit("restore.before-read"); err != nil {
		return nil, err
	}
	return opener.Chain(ctx, chain, first, last)
}

// opener opens runs, from copies on this machine where it can.
func (a *attempt) opener() *snapshot.Opener {
	o := &snapshot.Opener{Bucket: a.w.cfg.Bucket, Pause: a.pause, Log: a.w.cfg.Log}
	if a.w.copies != nil {
		o.Local = a.w.copies
	}
	return o
}

// keepRestored removes the copies of what the restored checkpoint does not
// name: nobody else does.
func (a *attempt) keepRestored() {
	if a.w.copies == nil {
		return
	}
	objects := make(map[string]bool)
	for _, s := range a.deploy.GetRestore() {
		for _, ref := range s.GetRuns() {
			objects[ref.GetObject()] = true
		}
	}
	a.w.copies.keep(objects)
}

// declaredStates are the states of each operator as the restored checkpoint
// was written.
func declaredStates(d *pb.Deploy) map[string][]*pb.StateDecl {
	out := make(map[string][]*pb.StateDecl)
	for _, v := range restoredGraph(d).GetVertices() {
		for _, o := range v.GetOperators() {
			out[o.GetUid()] = o.GetStates()
		}
	}
	return out
}
