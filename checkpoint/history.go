package checkpoint

import (
	"maps"
	"slices"
	"time"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// history collects what people see of checkpoints. It decides nothing.
type history struct {
	counts Counts
	recent []*Stats // newest first
	// The latest of each kind, which may have left recent.
	completed, savepoint, failed *Stats
	restored                     *Restored
	stateSize, written, duration samples
}

func (h *history) begin(s Stats) *Stats {
	s.Tasks = map[string][]TaskStats{}
	h.counts.Total++
	h.counts.InProgress++
	h.recent = slices.Insert(h.recent, 0, &s)
	if len(h.recent) > MaxHistory {
		h.recent = h.recent[:MaxHistory]
	}
	return &s
}

func (h *history) complete(s *Stats, now time.Time) {
	s.Status, s.Ended = Completed, now
	h.counts.InProgress--
	h.counts.Completed++
	if s.Savepoint {
		h.savepoint = s
	} else {
		h.completed = s
	}
	h.stateSize.add(float64(s.StateSize))
	h.written.add(float64(s.CheckpointedSize))
	h.duration.add(float64(s.Ended.Sub(s.Triggered)) / float64(time.Millisecond))
}

func (h *history) fail(s *Stats, err *pb.Error, now time.Time) {
	s.Status, s.Ended, s.Failure = Failed, now, err
	h.counts.InProgress--
	h.counts.Failed++
	h.failed = s
}

func (h *history) discard(manifest string) {
	for _, s := range h.recent {
		if s.Manifest == manifest {
			s.Discarded = true
		}
	}
}

// acked takes in what a worker's subtasks reported.
func (s *Stats) acked(ack *pb.CheckpointAck, now time.Time) {
	s.LatestAck = now
	us := func(v int64) time.Duration { return time.Duration(v) * time.Microsecond }
	for _, t := range ack.GetStats() {
		s.Acknowledged++
		s.CheckpointedSize += t.GetCheckpointedBytes()
		s.StateSize += t.GetStateBytes()
		s.Tasks[t.GetVertexId()] = append(s.Tasks[t.GetVertexId()], TaskStats{
			Subtask: int(t.GetSubtask()), Ack: now,
			Alignment: us(t.GetAlignmentUs()), Sync: us(t.GetSyncUs()), Async: us(t.GetAsyncUs()),
			StartDelay:       us(t.GetStartDelayUs()),
			CheckpointedSize: t.GetCheckpointedBytes(), StateSize: t.GetStateBytes(),
		})
	}
}

func (s *Stats) clone() Stats {
	c := *s
	c.Tasks = make(map[string][]TaskStats, len(s.Tasks))
	for id, tasks := range maps.All(s.Tasks) {
		c.Tasks[id] = slices.Clone(tasks)
	}
	return c
}

// History copies what is known of the job's checkpoints.
func (c *Coordinator) History() History {
	h := &c.hist
	latest := func(s *Stats) *Stats {
		if s == nil {
			return nil
		}
		cp := s.clone()
		return &cp
	}
	out := History{
		Counts: h.counts, LatestCompleted: latest(h.completed), LatestSavepoint: latest(h.savepoint),
		LatestFailed: latest(h.failed),
		StateSize:    h.stateSize.summary(), CheckpointedSize: h.written.summary(), Duration: h.duration.summary(),
	}
	if h.restored != nil {
		r := *h.restored
		out.Restored = &r
	}
	for _, s := range h.recent {
		out.Recent = append(out.Recent, s.clone())
	}
	return out
}
