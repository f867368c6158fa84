package rates

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

func report(at int64, in, busyMs uint64, watermark int64) *pb.MetricsReport {
	return &pb.MetricsReport{AtMs: at, Tasks: []*pb.TaskMetrics{{
		VertexId: "v", RecordsIn: in, BusyNs: busyMs * 1e6, Watermark: watermark,
		Operators: []*pb.OperatorMetrics{{Name: "Source: a b", RecordsOut: in}},
	}}}
}

func values(s *Store, now time.Time) map[string]float64 {
	m := map[string]float64{}
	for _, v := range s.Task("j", "v", 0).Values(now) {
		m[v.ID()] = v.Value
	}
	return m
}

func TestRatesNeedTwoReports(t *testing.T) {
	s := New()
	now := time.UnixMilli(10_000)
	if s.Task("j", "v", 0).Values(now) != nil {
		t.Fatal("values before any report")
	}
	s.Put("j", "tm", "w", 1, report(1000, 50, 100, math.MinInt64), now)
	v := values(s, now)
	if v["numRecordsIn"] != 50 {
		t.Errorf("numRecordsIn = %v", v["numRecordsIn"])
	}
	for _, absent := range []string{"numRecordsInPerSecond", "busyTimeMsPerSecond", "currentInputWatermark"} {
		if _, ok := v[absent]; ok {
			t.Errorf("%s is there after one report", absent)
		}
	}
	s.Put("j", "tm", "w", 1, report(3000, 250, 1100, 77), now)
	v = values(s, now)
	got := []float64{v["numRecordsInPerSecond"], v["busyTimeMsPerSecond"], v["currentInputWatermark"], v["Source__a_b.numRecordsOutPerSecond"]}
	if diff := cmp.Diff([]float64{100, 500, 77, 100}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, ok := values(s, now.Add(Stale+1))["numRecordsInPerSecond"]; ok {
		t.Error("a rate is shown though the last report is old")
	}
}

func TestNewEpochStartsAnew(t *testing.T) {
	s := New()
	now := time.UnixMilli(10_000)
	s.Put("j", "tm", "w", 1, report(1000, 50, 0, 0), now)
	s.Put("j", "tm", "w2", 2, report(2000, 5, 0, 0), now)
	s.Put("j", "tm", "w", 1, report(2000, 99, 0, 0), now) // late
	v := values(s, now)
	if v["numRecordsIn"] != 5 {
		t.Errorf("numRecordsIn = %v, want 5 of epoch 2", v["numRecordsIn"])
	}
	if _, ok := v["numRecordsInPerSecond"]; ok {
		t.Error("a rate across two epochs")
	}
	s.Forget("j")
	if s.Task("j", "v", 0) != nil {
		t.Error("a forgotten job has reports")
	}
}

// Whose memory is short is told of state that is in it, not of what is on a disk.
func TestLargestIsAboutMemory(t *testing.T) {
	s := New()
	now := time.UnixMilli(10_000)
	task := func(subtask uint32, bytes, disk uint64) *pb.TaskMetrics {
		return &pb.TaskMetrics{VertexId: "v", Subtask: subtask, StateBytes: bytes, StateDiskBytes: disk}
	}
	s.Put("j", "tm", "w", 1, &pb.MetricsReport{Tasks: []*pb.TaskMetrics{
		task(0, 900, 880), task(1, 50, 0), task(2, 70, 70), task(3, 30, 0),
	}}, now)
	s.Put("j", "tm", "other", 1, &pb.MetricsReport{Tasks: []*pb.TaskMetrics{task(4, 500, 0)}}, now)
	got := map[uint32]uint64{}
	var order []uint32
	tasks, vertices := s.Largest("j", "w", 3)
	for i, task := range tasks {
		got[task.Last.GetSubtask()] = task.InMemory()
		if order = append(order, task.Last.GetSubtask()); vertices[i] != "v" {
			t.Errorf("vertex %q", vertices[i])
		}
	}
	if diff := cmp.Diff([]uint32{1, 3, 0}, order); diff != "" {
		t.Errorf("subtasks (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[uint32]uint64{0: 20, 1: 50, 3: 30}, got); diff != "" {
		t.Errorf("bytes in memory (-want +got):\n%s", diff)
	}
}
