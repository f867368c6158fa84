package job

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/checkpoint"
	"github.com/millrace/millrace/checkpoint/upgrade"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

const (
	entryHandle = checkpoint.EntryHandle
	entrySplit  = checkpoint.EntrySplit
)

// CheckRestore says whether a graph can take up the state of a manifest, before
// anything is stopped or started for it. allowUnmatched leaves behind what has no
// counterpart. The error is an *Error that names operator, state, what differs
// and the remedy. Package upgrade judges; the worker that restores asks it too.
func CheckRestore(g *pb.JobGraph, m *pb.Manifest, allowUnmatched bool) error {
	report, err := upgrade.Compare(upgrade.Old{Graph: m.GetGraph(), Manifest: m}, g)
	if err != nil {
		return errorf(codeStateIncompatible, "state of checkpoint %d and job %q: %v", m.GetCheckpointId(), g.GetName(), err)
	}
	holder := fmt.Sprintf("checkpoint %d of job %q (%s)", m.GetCheckpointId(), m.GetGraph().GetName(), m.GetJobId())
	return CheckReport(report, holder, allowUnmatched)
}

// CheckReport makes an *Error of what a report refuses. holder is what has the
// state, for the error.
func CheckReport(report *upgrade.Report, holder string, allowUnmatched bool) error {
	var refused *upgrade.Refusal
	switch err := report.Check(allowUnmatched); {
	case err == nil:
		return nil
	case !errors.As(err, &refused) || refused.Verdict == upgrade.Incompatible:
		return errorf(codeStateIncompatible, "%s: %v", holder, err)
	case !report.Matches():
		return errorf(codeSavepointForeign, "%s holds nothing that an operator here can take up: %v", holder, err)
	default:
		return errorf(codeStateUnmatched, "%s: %v", holder, err)
	}
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
