package task

import (
	"time"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// clocks attribute the task's time; they are read and moved only where the
// task parks.
type clocks struct {
	started time.Time
	idle    time.Duration
	// waited is what operators waited for room of their own.
	waited time.Duration
	// blocked is set while the task waits for room at a writer, which counts
	// the wait only when it is over.
	blocked time.Time
}

func (c *clocks) begin(now time.Time) { c.started = now }

// metrics copies the counters.
func (t *Task) metrics() *pb.TaskMetrics {
	m := &pb.TaskMetrics{
		VertexId: t.cfg.VertexID, Subtask: uint32(t.cfg.Subtask), Watermark: t.ops[0].reached, Status: "RUNNING",
	}
	for _, g := range t.gates {
		s := g.Stats()
		m.RecordsIn += s.Rows
		m.BatchesIn += s.Batches
		m.BytesIn += s.Bytes
	}
	now := t.cfg.Clock.Now()
	blocked := t.clocks.waited
	for _, o := range t.cfg.Outputs {
		s := o.Writer.Stats()
		m.RecordsOut += s.Rows
		m.BatchesOut += s.Batches
		m.BytesOut += s.Bytes
		blocked += s.Blocked
	}
	if !t.clocks.blocked.IsZero() {
		blocked += now.Sub(t.clocks.blocked)
	}
	if t.source == nil {
		m.Watermark = t.input
	} else {
		m.Splits = t.source.Splits()
	}
	for i := range t.ops {
		op := &t.ops[i]
		c := op.Context.Metrics
		om := &pb.OperatorMetrics{
			Uid: op.UID, Name: op.Name, RecordsIn: c.RecordsIn, RecordsOut: c.RecordsOut,
			LateDropped: c.LateDropped, DecodeErrors: c.DecodeErrors,
		}
		if len(c.User) > 0 {
			om.User = make(map[string]float64, len(c.User))
			for name, v := range c.User {
				om.User[name] = *v
			}
		}
		m.Operators = append(m.Operators, om)
		m.LateDropped += c.LateDropped
		if s := op.Context.State; s != nil {
			stats := s.Stats()
			m.KeyedEntries += uint64(stats.Entries)
			m.StateBytes += uint64(stats.Bytes + stats.Disk)
			m.StateDiskBytes += uint64(stats.Disk)
			m.StatePagesEvicted += stats.Evicted
			m.StatePagesRead += stats.Read
		}
	}
	total := now.Sub(t.clocks.started)
	m.IdleNs = uint64(t.clocks.idle)
	m.BackpressuredNs = uint64(blocked)
	m.BusyNs = uint64(max(total-t.clocks.idle-blocked, 0))
	return m
}
