package checkpoint

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// This chapter takes a checkpoint from its acks to its end.

func (c *Coordinator) takesPart(worker string) bool { return slices.Contains(c.workers, worker) }

func (c *Coordinator) ack(ev Acked, now time.Time) {
	p := &c.pending
	if c.phase != collecting || uint64(p.id) != ev.Ack.GetCheckpointId() || p.epoch != ev.Epoch ||
		!c.takesPart(ev.Worker) || p.acked[ev.Worker] {
		return
	}
	for _, o := range ev.Ack.GetOperators() {
		for _, run := range o.GetRuns() {
			if err := c.admit(run.GetObject()); err != "" {
				c.abort(&pb.Error{Code: "checkpoint-failed", Operator: o.GetUid(), Subtask: o.GetSubtask(),
					Message: fmt.Sprintf("worker %s: checkpoint %d names %s, %s", ev.Worker, p.id, run.GetObject(), err)}, now)
				return
			}
		}
	}
	p.acked[ev.Worker] = true
	p.operators = append(p.operators, ev.Ack.GetOperators()...)
	p.stats.acked(ev.Ack, now)
	if len(p.acked) < len(c.workers) {
		return
	}
	slices.SortStableFunc(p.operators, func(a, b *pb.OperatorSnapshot) int {
		return cmp.Or(strings.Compare(a.GetUid(), b.GetUid()), cmp.Compare(a.GetSubtask(), b.GetSubtask()))
	})
	p.manifest = &pb.Manifest{
		JobId: c.cfg.Job, Lineage: c.cfg.Lineage, Epoch: p.epoch, CheckpointId: uint64(p.id),
		TriggeredMs: p.stats.Triggered.UnixMilli(), CompletedMs: now.UnixMilli(),
		Savepoint: p.request.Savepoint, Drained: p.request.Drained,
		PlanHash: c.cfg.Graph.GetPlanHash(), Graph: c.cfg.Graph, Operators: p.operators,
		PlannedParallelism: c.planned(),
	}
	c.phase = writing
	c.emit(Write{ID: p.id, Key: p.key, Manifest: p.manifest})
}

// planned is the parallelism that the job was planned with, where another is in
// force.
func (c *Coordinator) planned() map[string]uint32 {
	inForce := map[string]uint32{}
	for _, v := range c.cfg.Graph.GetVertices() {
		inForce[v.GetId()] = v.GetParallelism()
	}
	var other map[string]uint32
	for _, v := range c.cfg.Planned.GetVertices() {
		if inForce[v.GetId()] != v.GetParallelism() {
			if other == nil {
				other = map[string]uint32{}
			}
			other[v.GetId()] = v.GetParallelism()
		}
	}
	return other
}

// admit takes in an object that an ack names, or says why not.
func (c *Coordinator) admit(object string) string {
	switch {
	case object == "":
	case strings.HasPrefix(object, c.pending.fresh):
		if !c.pending.request.Savepoint {
			c.objects[object] = true
		}
	case c.isMerged(object) && !c.pending.request.Full && (c.objects[object] || !slices.Contains(c.merged, object)):
		c.objects[object] = true
	case c.pending.request.Full:
		return "although it is to share nothing with earlier ones"
	case !c.objects[object] || !strings.HasPrefix(object, JobPrefix(c.cfg.Job)):
		return "which is not of this job or has been deleted"
	}
	return ""
}

// isMerged says that an object holds runs that a worker of this attempt merged
// beside checkpoints.
func (c *Coordinator) isMerged(object string) bool {
	name, ok := strings.CutPrefix(object, StatePrefix(c.cfg.Job, c.epoch))
	return ok && strings.Count(name, "-") == 2
}

func (c *Coordinator) written(ev Written, now time.Time) {
	if c.phase != writing || c.pending.id != ev.ID {
		return
	}
	p := &c.pending
	if ev.Err != nil {
		c.abort(&pb.Error{Code: "checkpoint-failed", Message: ev.Err.Error()}, now)
		return
	}
	p.done = &pb.CheckpointDone{
		JobId: c.cfg.Job, Epoch: p.epoch, CheckpointId: uint64(p.id), Manifest: p.key,
		Savepoint: p.request.Savepoint, CompletedMs: now.UnixMilli(),
		Terminal: p.request.Terminal, Drained: p.request.Drained,
	}
	c.phase = journaling
	c.emit(Journal{Done: p.done})
}

func (c *Coordinator) journaled(ev Journaled, now time.Time) {
	if c.phase != journaling || c.pending.id != ev.ID {
		return
	}
	p := c.pending
	if ev.Err != nil {
		c.abort(&pb.Error{Code: "checkpoint-failed", Message: fmt.Sprintf("journal checkpoint %d: %v", p.id, ev.Err)}, now)
		return
	}
	live := c.running && c.epoch == p.epoch
	c.failures, c.setbacks = 0, 0
	if p.request.Savepoint {
		c.early = true // so that the job does not depend on it for long
	} else if p.request.Full && live {
		c.full = false
	}
	if p.request.Terminal {
		c.closed, c.terminal = true, nil
		c.refuseQueue()
	}
	c.hist.complete(p.stats, now)
	if live {
		c.phase = committing
	} else {
		c.phase, c.pending = idle, pending{}
	}
	c.emit(Complete{Done: p.done, Manifest: p.manifest, Live: live, Halt: p.request.Halt, Stats: p.stats.clone()})
	for _, r := range p.requests {
		c.answer(r, p.id, p.path, nil)
	}
	if !p.request.Savepoint {
		c.retain(p.key, p.manifest)
		c.sweep(now)
	}
}

func (c *Coordinator) refuseQueue() {
	queue := c.queue
	c.queue = nil
	for _, r := range queue {
		c.ask(r)
	}
}

// retryGap is kept after a failure. It doubles while there are more, up to
// MaxRetryGap: every try encodes all that changed since the last checkpoint that
// completed.
func (c *Coordinator) retryGap() time.Duration {
	gap := c.cfg.RetryGap
	for range c.setbacks {
		if gap = 2 * gap; gap >= c.cfg.MaxRetryGap {
			gap = max(c.cfg.RetryGap, c.cfg.MaxRetryGap)
			break
		}
	}
	c.setbacks++
	return gap
}

// abort gives the pending checkpoint up.
func (c *Coordinator) abort(err *pb.Error, now time.Time) {
	p := c.pending
	c.hist.fail(p.stats, err, now)
	c.scrap(p)
	live := c.running && c.epoch == p.epoch
	c.phase, c.pending = idle, pending{}
	c.notBefore = now.Add(c.retryGap())
	c.emit(Abort{ID: p.id, Err: err, Live: live, Stats: p.stats.clone()})
	for _, r := range p.requests {
		c.answer(r, 0, "", err)
	}
	if !live {
		return
	}
	if p.request.Savepoint || p.request.Terminal || p.request.Halt {
		return // who asked for it knows, or it is tried again
	}
	c.failures++
	if c.cfg.Tolerated > 0 && c.failures > c.cfg.Tolerated {
		c.failures = 0
		c.emit(GiveUp{Err: &pb.Error{
			Code:     "checkpoint-failures-exceeded",
			Message:  fmt.Sprintf("%d checkpoints failed one after the other, at most %d may; the last, %d: %s", c.cfg.Tolerated+1, c.cfg.Tolerated, p.id, err.GetMessage()),
			Operator: err.GetOperator(), Subtask: err.GetSubtask(), Stack: err.GetStack(),
		}})
	}
}

func (c *Coordinator) timeoutError() *pb.Error {
	p := &c.pending
	missing := make([]string, 0, len(c.workers))
	for _, w := range c.workers {
		if !p.acked[w] {
			missing = append(missing, w)
		}
	}
	what := "its manifest was not written"
	if len(missing) > 0 {
		what = "no answer from " + strings.Join(missing, ", ")
	}
	return &pb.Error{
		Code:    "checkpoint-timed-out",
		Message: fmt.Sprintf("checkpoint %d was not complete after %s: %s", p.id, c.expires().Sub(p.stats.Triggered), what),
	}
}
