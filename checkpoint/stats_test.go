package checkpoint

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

func TestSummaryIsByNearestRank(t *testing.T) {
	var s samples
	for i := 100; i >= 1; i-- {
		s.add(float64(i))
	}
	want := Summary{Count: 100, Min: 1, Max: 100, Avg: 50.5, P50: 50, P90: 90, P95: 95, P99: 99, P999: 100}
	if diff := cmp.Diff(want, s.summary()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(Summary{}, (&samples{}).summary()); diff != "" {
		t.Error(diff)
	}
}

func TestHistoryCountsAndBounds(t *testing.T) {
	c := New(Config{Job: "j", Retained: 1})
	now := time.UnixMilli(0)
	c.Step(Started{Epoch: 1, Workers: []string{"w"}, Subtasks: 2}, now)
	for id := ID(1); id <= 15; id++ {
		c.Step(Acked{Worker: "w", Epoch: 1, Ack: &pb.CheckpointAck{CheckpointId: uint64(id), Stats: []*pb.TaskCheckpointStats{
			{VertexId: "v", Subtask: 1, AlignmentUs: 1500, CheckpointedBytes: 10, StateBytes: 70},
			{VertexId: "v", Subtask: 0, CheckpointedBytes: 20, StateBytes: 30},
		}}}, now.Add(5*time.Millisecond))
		c.Step(Written{ID: id}, now.Add(6*time.Millisecond))
		var err error
		if id == 7 {
			err = errors.New("no")
		}
		c.Step(Journaled{ID: id, Err: err}, now.Add(8*time.Millisecond))
		c.Step(Committed{ID: id}, now.Add(9*time.Millisecond))
		now = now.Add(2 * time.Second)
		c.Step(Tick{}, now)
	}
	h := c.History()
	if want := (Counts{Total: 16, InProgress: 1, Completed: 14, Failed: 1}); h.Counts != want {
		t.Errorf("counts %+v, want %+v", h.Counts, want)
	}
	if len(h.Recent) != MaxHistory || h.Recent[0].ID != 16 || h.Recent[0].Status != InProgress {
		t.Errorf("recent: %d, first %+v", len(h.Recent), h.Recent[0])
	}
	last := h.LatestCompleted
	if last.ID != 15 || last.StateSize != 100 || last.CheckpointedSize != 30 || last.Acknowledged != 2 || last.Subtasks != 2 ||
		last.Duration(now) != 8*time.Millisecond || last.Committed.IsZero() || last.Discarded {
		t.Errorf("latest %+v", last)
	}
	if got := last.Tasks["v"][0].Alignment; got != 1500*time.Microsecond {
		t.Errorf("alignment %v", got)
	}
	if !h.Recent[2].Discarded {
		t.Error("checkpoint 14 was discarded when 15 completed, and its statistics do not say so")
	}
	if h.LatestFailed.ID != 7 || h.LatestFailed.Failure.GetCode() != "checkpoint-failed" {
		t.Errorf("failed %+v", h.LatestFailed)
	}
	if h.Duration.P50 != 8 || h.StateSize.Max != 100 {
		t.Errorf("summaries %+v %+v", h.Duration, h.StateSize)
	}
}
