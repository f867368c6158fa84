package job

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/checkpoint"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

const (
	entryHandle = checkpoint.EntryHandle
	entrySplit  = checkpoint.EntrySplit
)

// CheckRestore says whether a graph can take up the state of a manifest, before
// anything is stopped or started for it: every operator and state of the
// manifest has its counterpart (or allowUnmatched drops it), the number of key
// groups is the same, and keys and namespaces have the schema that they were
// written in. Values whose schema changed are for the workers to judge, which
// know the codecs; they refuse before they start. The error is an *Error that
// names what does not fit and the remedy.
func CheckRestore(g *pb.JobGraph, m *pb.Manifest, allowUnmatched bool) error {
	now, then := operatorsOf(g), operatorsOf(m.GetGraph())
	vertex := rolesOf(g).vertexOf
	unmatched := map[string]bool{}
	stateful, matched := 0, 0
	for _, o := range m.GetOperators() {
		if len(o.GetRuns()) == 0 && len(o.GetEntries()) == 0 {
			continue
		}
		stateful++
		uid := o.GetUid()
		if now[uid] == nil {
			unmatched[fmt.Sprintf("operator %q", uid)] = true
			continue
		}
		matched++
		if got, want := vertex[uid].GetMaxParallelism(), o.GetMaxParallelism(); len(o.GetRuns()) > 0 && got != want {
			return errorf(codeStateIncompatible, "operator %q has max parallelism %d, its state was written with %d: set it to %d, it cannot change", uid, got, want, want)
		}
		if err := checkStates(uid, then[uid], now[uid], unmatched); err != nil {
			return err
		}
	}
	if len(unmatched) == 0 || allowUnmatched {
		return nil
	}
	names := make([]string, 0, len(unmatched))
	for name := range unmatched {
		names = append(names, name)
	}
	slices.Sort(names)
	if stateful > 0 && matched == 0 {
		return errorf(codeSavepointForeign, "checkpoint %d is of job %q (%s) and no operator of job %q can take up its state (%s)",
			m.GetCheckpointId(), m.GetGraph().GetName(), m.GetJobId(), g.GetName(), strings.Join(names, ", "))
	}
	return errorf(codeStateUnmatched, "state of %s in checkpoint %d has no counterpart in job %q: keep the names, or allow unmatched state to drop it",
		strings.Join(names, ", "), m.GetCheckpointId(), g.GetName())
}

func checkStates(uid string, then, now *pb.Operator, unmatched map[string]bool) error {
	for _, old := range then.GetStates() {
		i := slices.IndexFunc(now.GetStates(), func(s *pb.StateDecl) bool { return s.GetName() == old.GetName() })
		if i < 0 {
			unmatched[fmt.Sprintf("state %q of operator %q", old.GetName(), uid)] = true
			continue
		}
		s := now.GetStates()[i]
		for _, f := range []struct{ what, old, now string }{
			{"kind", old.GetKind(), s.GetKind()},
			{"key", old.GetKeySchema(), s.GetKeySchema()},
			{"namespace", old.GetNamespaceSchema(), s.GetNamespaceSchema()},
		} {
			if f.old != f.now {
				return errorf(codeStateIncompatible, "state %q of operator %q was written with %s %q and is now %q: give the new state another name, or keep the old type",
					old.GetName(), uid, f.what, f.old, f.now)
			}
		}
	}
	return nil
}

func operatorsOf(g *pb.JobGraph) map[string]*pb.Operator {
	m := map[string]*pb.Operator{}
	for _, v := range g.GetVertices() {
		for _, o := range v.GetOperators() {
			m[o.GetUid()] = o
		}
	}
	return m
}

// splitsOf are the splits of a source as a checkpoint holds them. A split that
// two subtasks report is damage: neither position could be trusted.
func splitsOf(m *pb.Manifest, uid string) ([]*pb.Split, error) {
	var splits []*pb.Split
	seen := map[string]bool{}
	for _, o := range m.GetOperators() {
		if o.GetUid() != uid {
			continue
		}
		for _, e := range o.GetEntries() {
			if e.GetKind() != entrySplit {
				continue
			}
			s := &pb.Split{}
			if err := proto.Unmarshal(e.GetValue(), s); err != nil {
				return nil, errorf("snapshot-corrupt", "checkpoint %d: split %q of source %q: %v", m.GetCheckpointId(), e.GetKey(), uid, err)
			}
			if seen[s.GetId()] {
				return nil, errorf("snapshot-corrupt", "checkpoint %d: split %q of source %q is there twice", m.GetCheckpointId(), s.GetId(), uid)
			}
			seen[s.GetId()] = true
			splits = append(splits, s)
		}
	}
	slices.SortFunc(splits, func(a, b *pb.Split) int { return strings.Compare(a.GetId(), b.GetId()) })
	return splits, nil
}

// restoreFor picks the snapshots that the subtasks of some slots may need:
// runs by key groups, entries all, for an operator spreads those itself.
func restoreFor(m *pb.Manifest, vertexOf map[string]*pb.Vertex, slots []int) []*pb.OperatorSnapshot {
	var picked []*pb.OperatorSnapshot
	for _, o := range m.GetOperators() {
		v := vertexOf[o.GetUid()]
		if v == nil {
			continue
		}
		var runs []*pb.RunRef
		for _, run := range o.GetRuns() {
			if slices.ContainsFunc(slots, func(slot int) bool { return overlaps(v, slot, run) }) {
				runs = append(runs, run)
			}
		}
		if len(runs) == 0 && len(o.GetEntries()) == 0 {
			continue
		}
		picked = append(picked, &pb.OperatorSnapshot{
			Uid: o.GetUid(), Subtask: o.GetSubtask(), Parallelism: o.GetParallelism(),
			MaxParallelism: o.GetMaxParallelism(), Runs: runs, Entries: o.GetEntries(), StateBytes: o.GetStateBytes(),
		})
	}
	return picked
}

func overlaps(v *pb.Vertex, slot int, run *pb.RunRef) bool {
	if slot >= int(v.GetParallelism()) {
		return false
	}
	first, last := keyGroups(uint32(slot), v.GetParallelism(), v.GetMaxParallelism())
	return run.GetKeyGroupFirst() <= last && first <= run.GetKeyGroupLast()
}
