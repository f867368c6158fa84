package worker

import (
	"cmp"
	"slices"

	"github.com/millrace/millrace/runtime/graph"
	"github.com/millrace/millrace/runtime/keygroup"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// This chapter is what an attempt has from the one before it, in a job that is
// rescaled: the parallelism in force, state that is still in memory, and chains
// of runs that other subtasks began.

// keepState takes the keyed state of tasks that halted at the restored
// checkpoint. Nothing of theirs runs any more.
func (a *attempt) keepState(halted []*running) {
	if !a.deploy.GetKeepState() {
		return
	}
	for _, t := range halted {
		for uid, s := range t.Kept(a.deploy.GetRestoreCheckpoint()) {
			a.kept[place{uid, t.subtask}] = s
		}
	}
	a.w.cfg.Log.Info("state kept in memory", "epoch", a.epoch, "checkpoint", a.deploy.GetRestoreCheckpoint(), "stores", len(a.kept))
}

// rescale gives the vertices of the submitted graph the parallelism in force,
// which the deployed graph has. Chains stay as they were planned.
func rescale(vertices []*graph.Vertex, deployed *pb.JobGraph) error {
	now := make(map[string]int)
	for _, v := range deployed.GetVertices() {
		now[v.GetId()] = int(v.GetParallelism())
	}
	for _, v := range vertices {
		p, ok := now[v.ID]
		if !ok {
			return failf(codePlanDiffers, "the job master deploys a graph without vertex %s (%s)", v.ID, v.Name)
		}
		if p < 1 || p > v.MaxParallelism {
			return failf(codeDeployFailed, "vertex %s is deployed with parallelism %d, it has 1 to %d", v.Name, p, v.MaxParallelism)
		}
		v.Parallelism = p
	}
	return nil
}

// joinChains makes one chain for some key groups of the chains of those who
// owned them: each run once, in the order in which they were written. That keeps
// the order of the runs of every key group. A run may come in with key groups
// that its chain has since written anew: there a full run, or the merged one
// that the run is part of, is newer and hides it.
//
// ok is false if the order is not known.
func joinChains(chains [][]*pb.RunRef, mine keygroup.Range) (joined []*pb.RunRef, ok bool) {
	seen := make(map[identity]bool)
	dated := true
	for _, chain := range chains {
		for _, r := range chain {
			if !mine.Overlaps(int(r.GetKeyGroupFirst()), int(r.GetKeyGroupLast())) {
				continue
			}
			dated = dated && r.GetCheckpoint() > 0
			id := identityOf(r)
			if len(chains) > 1 && seen[id] {
				continue
			}
			seen[id] = true
			joined = append(joined, r)
		}
	}
	if len(chains) < 2 {
		return joined, true
	}
	slices.SortStableFunc(joined, func(x, y *pb.RunRef) int { return cmp.Compare(x.GetCheckpoint(), y.GetCheckpoint()) })
	return joined, dated
}
