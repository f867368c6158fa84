package job

import (
	"fmt"
	"slices"
	"strings"

	"github.com/millrace/millrace/checkpoint"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// This chapter lets a source go on with the splits that follow finished ones,
// such as the children of a shard that was split.
//
//	split read to its end ─▶ checkpoint that holds the end completes
//	     ─▶ Enumerate{again} ─▶ Enumerated ─▶ AssignSplits
//
// Invariants:
//
//  1. A split is assigned when a completed checkpoint of this attempt, or the one
//     that it restored, holds the ends of all its parents. Commands to a worker are
//     in order, so no checkpoint that holds a record of the split lacks an end.
//  2. It is assigned to the subtask of the parent furthest behind in event time,
//     which holds time for it, and whose channels keep its records behind the
//     parent's. The records of a parent at another subtask have been worked off
//     then: the checkpoint has none in flight.
//  3. What a checkpoint knows of an assignment is the splits that subtasks hold at
//     their barriers. A split that a checkpoint does not know, and whose parents it
//     knows as finished, is enumerated by the attempt that restores it.

// following is what an answer to Enumerate{again} is held against.
type following struct {
	known    []*pb.Split
	inFlight bool
	// crossing are splits that only inFlight keeps from being assigned.
	crossing []string
}

// followSplits asks sources whose splits have followers for these.
func (m *Master) followSplits(manifest *pb.Manifest) {
	if m.phase != phaseRunning || m.stopping.record != nil || m.attempt.exhausted || m.rescale.halting() {
		return
	}
	for _, uid := range m.roles.sources {
		known, err := splitsOf(manifest, uid)
		if err != nil || m.attempt.following[uid] != nil || !slices.ContainsFunc(known, (*pb.Split).GetFollowed) {
			continue // what is damaged is found by who restores it
		}
		for _, a := range m.attempt.splits[uid] {
			for _, s := range a.GetSplits() {
				if !slices.ContainsFunc(known, func(k *pb.Split) bool { return k.GetId() == s.GetId() }) {
					known = append(known, s) // assigned since the checkpoint began
				}
			}
		}
		m.attempt.following[uid] = &following{known: known, inFlight: inFlight(manifest)}
		m.send(m.first(), &pb.WorkerCommand{Body: &pb.WorkerCommand_Enumerate{Enumerate: &pb.Enumerate{
			Uid: uid, Parallelism: m.roles.vertexOf[uid].GetParallelism(), Known: known, Again: true,
		}}})
	}
}

func inFlight(manifest *pb.Manifest) bool {
	return slices.ContainsFunc(manifest.GetOperators(), func(o *pb.OperatorSnapshot) bool {
		return slices.ContainsFunc(o.GetEntries(), func(e *pb.OperatorEntry) bool { return e.GetKind() == checkpoint.EntryInFlight })
	})
}

// followersFound assigns what a source has found. An error, or a split that
// cannot be assigned yet, waits for the next checkpoint.
func (m *Master) followersFound(e *pb.Enumerated) {
	uid := e.GetUid()
	f := m.attempt.following[uid]
	delete(m.attempt.following, uid)
	if f == nil || m.stopping.record != nil || m.attempt.exhausted || m.rescale.halting() {
		return
	}
	if e.GetError() != nil {
		m.note("splits not enumerated again", "source", uid, "err", e.GetError().GetMessage())
		return
	}
	bySubtask := map[uint32]*pb.SplitAssignment{}
	of := func(subtask uint32) *pb.SplitAssignment {
		if bySubtask[subtask] == nil {
			bySubtask[subtask] = &pb.SplitAssignment{Uid: uid, Subtask: subtask}
		}
		return bySubtask[subtask]
	}
	for _, a := range e.GetSplits() {
		for _, s := range a.GetSplits() {
			subtask, held, ok := m.placeOf(uid, s, f)
			if !ok {
				continue
			}
			to := of(subtask)
			to.Splits = append(to.Splits, s)
			for parent, at := range held {
				from := of(at)
				if !slices.Contains(from.Released, parent) {
					from.Released = append(from.Released, parent)
				}
			}
			m.attempt.splits[uid] = append(m.attempt.splits[uid], &pb.SplitAssignment{Uid: uid, Subtask: subtask, Splits: []*pb.Split{s}})
		}
	}
	m.crossing(uid, f.crossing)
	for i, w := range m.attempt.workers {
		c := &pb.AssignSplits{}
		for subtask := range m.roles.vertexOf[uid].GetParallelism() {
			if a := bySubtask[subtask]; a != nil && int(m.attempt.slotWorker[subtask]) == i {
				slices.Sort(a.Released)
				c.Splits = append(c.Splits, a)
			}
		}
		if len(c.Splits) > 0 {
			m.send(w, &pb.WorkerCommand{Body: &pb.WorkerCommand_Assign{Assign: c}})
		}
	}
}

// crossing notes splits of a source that wait for a checkpoint without records
// in flight: each once in a log, and all that wait now for people who ask.
func (m *Master) crossing(uid string, splits []string) {
	for _, id := range splits {
		if !slices.Contains(m.attempt.crossing[uid], id) {
			m.note("split waits for a checkpoint without records in flight: its parents are read by different subtasks", "source", uid, "split", id)
		}
	}
	m.attempt.crossing[uid] = splits
}

// waitingCrossing says for people which splits wait so; the subject is the job.
func (m *Master) waitingCrossing() string {
	var all []string
	for _, uid := range m.roles.sources {
		all = append(all, m.attempt.crossing[uid]...)
	}
	if len(all) == 0 {
		return ""
	}
	return fmt.Sprintf("waits for a checkpoint without records in flight to read %s, whose parents are read by different subtasks: it comes once the job catches up",
		strings.Join(all, ", "))
}

// placeOf is the subtask for a split that follows others, and where these are.
func (m *Master) placeOf(uid string, s *pb.Split, f *following) (subtask uint32, held map[string]uint32, ok bool) {
	held = map[string]uint32{}
	crosses := false
	var behind *pb.Split
	for _, p := range s.GetParents() {
		at, here := m.subtaskOf(uid, p)
		i := slices.IndexFunc(f.known, func(k *pb.Split) bool { return k.GetId() == p })
		if !here || i < 0 || !f.known[i].GetFinished() {
			return 0, nil, false
		}
		crosses = crosses || len(held) > 0 && at != subtask
		held[p] = at
		if behind == nil || f.known[i].GetWatermark() < behind.GetWatermark() {
			behind, subtask = f.known[i], at
		}
	}
	_, again := m.subtaskOf(uid, s.GetId())
	if behind == nil || again {
		return 0, nil, false
	}
	if crosses && f.inFlight {
		f.crossing = append(f.crossing, s.GetId())
		return 0, nil, false
	}
	return subtask, held, true
}

// subtaskOf is where a split of this attempt is read.
func (m *Master) subtaskOf(uid, split string) (uint32, bool) {
	for _, a := range m.attempt.splits[uid] {
		if slices.ContainsFunc(a.GetSplits(), func(s *pb.Split) bool { return s.GetId() == split }) {
			return a.GetSubtask(), true
		}
	}
	return 0, false
}
