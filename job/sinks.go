package job

import (
	"fmt"
	"maps"
	"slices"
	"time"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// This chapter commits: for each transactional sink one call at a time, the
// recovery first, then checkpoint after checkpoint. A call that fails is made
// again; after some tries, or without an answer in time, the attempt is
// restarted, whose recovery commits the same handles.

const (
	maxSinkTries    = 5
	firstSinkDelay  = 100 * time.Millisecond
	sinkDelayFactor = 2
)

// sinkCall is what one sink has been asked to commit.
type sinkCall struct {
	checkpoint uint64
	handles    []*pb.SinkHandle
	recover    bool
	tries      int
	began      time.Time
	sent       time.Time
	retryAt    time.Time // zero while an answer is awaited
}

func (c *sinkCall) deadline(wait time.Duration) time.Time {
	if !c.retryAt.IsZero() {
		return c.retryAt
	}
	return c.sent.Add(wait)
}

func (m *Master) call(uid string, checkpoint uint64, handles []*pb.SinkHandle, recover bool) {
	m.calls[uid] = &sinkCall{checkpoint: checkpoint, handles: handles, recover: recover, began: m.now}
	m.sendCall(uid)
}

func (m *Master) sendCall(uid string) {
	c := m.calls[uid]
	c.tries++
	c.sent, c.retryAt = m.now, time.Time{}
	cmd := &pb.WorkerCommand{}
	if c.recover {
		cmd.Body = &pb.WorkerCommand_Recover{Recover: &pb.RecoverSink{
			Uid: uid, CheckpointId: c.checkpoint, Lineage: m.lineageID, Handles: c.handles,
		}}
	} else {
		cmd.Body = &pb.WorkerCommand_Commit{Commit: &pb.CommitSink{
			Uid: uid, CheckpointId: c.checkpoint, Lineage: m.lineageID, Handles: c.handles,
		}}
	}
	m.send(m.first(), cmd)
}

func (m *Master) committed(r *pb.SinkCommitted) {
	c := m.calls[r.GetUid()]
	if c == nil || c.checkpoint != r.GetCheckpointId() || c.recover != r.GetRecovered() || !c.retryAt.IsZero() {
		return
	}
	if r.GetError() != nil {
		if code := r.GetError().GetCode(); c.tries >= maxSinkTries || fatal[code] || code == codeStaleEpoch {
			m.fail(failure{worker: m.first(), vertex: m.roles.vertexOf[r.GetUid()], err: &pb.Error{
				Code: r.GetError().GetCode(), Operator: r.GetUid(), Stack: r.GetError().GetStack(),
				Message: fmt.Sprintf("sink %q could not commit checkpoint %d in %d tries: %s", r.GetUid(), c.checkpoint, c.tries, r.GetError().GetMessage()),
			}})
			return
		}
		delay := firstSinkDelay
		for range c.tries - 1 {
			delay *= sinkDelayFactor
		}
		c.retryAt = m.now.Add(delay)
		m.note("sink commit failed", "sink", r.GetUid(), "checkpoint", c.checkpoint, "err", r.GetError().GetMessage(), "retry", delay)
		return
	}
	delete(m.calls, r.GetUid())
	if c.recover {
		m.attempt.recovered[r.GetUid()] = true
	}
	if len(m.calls) == 0 {
		m.committedID = c.checkpoint
	}
	m.observe(SinkCommitted{UID: r.GetUid(), CheckpointID: c.checkpoint, Took: m.now.Sub(c.began), Tries: c.tries})
}

// tickSinks repeats calls that are due and gives up those that hang.
func (m *Master) tickSinks() {
	for _, uid := range slices.Sorted(maps.Keys(m.calls)) {
		c := m.calls[uid]
		switch {
		case c == nil || m.now.Before(c.deadline(m.cfg.SinkWait)):
		case !c.retryAt.IsZero():
			m.sendCall(uid)
		default:
			m.fail(failure{worker: m.first(), vertex: m.roles.vertexOf[uid], err: &pb.Error{
				Code: codeSinkFailed, Operator: uid,
				Message: fmt.Sprintf("sink %q did not answer within %s when it was to commit checkpoint %d", uid, m.cfg.SinkWait, c.checkpoint),
			}})
			return
		}
	}
}
