package dispatch

import (
	"context"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/millrace/millrace/checkpoint"
	"github.com/millrace/millrace/job"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Recovery is one failure of a job and how it came back. Times are zero until
// they have come.
type Recovery struct {
	// Epoch is the attempt that failed.
	Epoch uint64
	Cause *pb.Error
	Task  string
	// Failed is when the job manager saw the failure, Restarted when all tasks
	// ran again, FirstOutput when the first record was at a sink, Visible when
	// the first checkpoint begun after that was committed: from then on readers
	// of a transactional sink see new output.
	Failed, Restarted, FirstOutput, Visible time.Time
	// past: it was over before this leader led.
	past bool
}

// keepRecoveries bounds what is kept of a job.
const keepRecoveries = 32

// recoveries follows a job's observations. The driver writes, anyone lists.
type recoveries struct {
	mu struct {
		sync.Mutex
		all []Recovery
		// after is the first checkpoint begun after the first output; 0 none.
		after checkpoint.ID
	}
}

// recoveriesOf begins with what the journal remembers of a job.
func recoveriesOf(r *pb.JobRecord) *recoveries {
	rs := &recoveries{}
	for _, f := range r.GetFailures() {
		rs.mu.all = append(rs.mu.all, Recovery{
			Epoch: f.GetEpoch(), Cause: f.GetError(), Task: f.GetTask(), Failed: time.UnixMilli(f.GetAtMs()), past: true,
		})
	}
	return rs
}

func (r *recoveries) list() []Recovery {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Recovery(nil), r.mu.all...)
}

// observe returns when the failure was seen that o ends the recovery of; zero
// for any other observation.
func (r *recoveries) observe(o job.Observation, now time.Time) (failed time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var last *Recovery
	if n := len(r.mu.all); n > 0 && !r.mu.all[n-1].past {
		last = &r.mu.all[n-1]
	}
	switch o := o.(type) {
	case job.AttemptFailed:
		if len(r.mu.all) == keepRecoveries {
			r.mu.all = r.mu.all[1:]
		}
		r.mu.all = append(r.mu.all, Recovery{Epoch: o.Epoch, Cause: o.Exception.Error, Task: o.Exception.Task, Failed: o.Exception.At})
		r.mu.after = 0
	case job.AttemptRunning:
		if last != nil && last.Restarted.IsZero() {
			last.Restarted = now
			return last.Failed
		}
	case job.FirstOutput:
		if last != nil && last.FirstOutput.IsZero() {
			last.FirstOutput = now
		}
	case job.CheckpointBegan:
		if last != nil && !last.FirstOutput.IsZero() && r.mu.after == 0 {
			r.mu.after = o.Stats.ID
		}
	case job.SinkCommitted:
		if last != nil && last.Visible.IsZero() && r.mu.after != 0 && checkpoint.ID(o.CheckpointID) >= r.mu.after {
			last.Visible = now
		}
	}
	return time.Time{}
}

// observe logs, traces and keeps what the master saw.
func (j *Job) observe(ctx context.Context, o job.Observation) {
	now := j.d.Now()
	failed := j.log.observe(o, now)
	log := j.d.cfg.Log.With("job", j.ID, "name", j.Submitted.GetName())
	switch o := o.(type) {
	case job.StateChanged:
		log.Info("job state changed", "from", o.From.String(), "to", o.To.String(), "error", o.Err.GetMessage())
	case job.AttemptStarted:
		log.Info("attempt started", "epoch", o.Epoch, "restore", o.Restore)
	case job.AttemptRunning:
		log.Info("attempt running", "epoch", o.Epoch, "deployed_in", o.Deploy, "recovered_in", o.Recovery)
		j.span(ctx, "deployment", now.Add(-o.Deploy), now, nil, attribute.Int64("epoch", int64(o.Epoch)))
		if !failed.IsZero() {
			j.span(ctx, "recovery", failed, now, nil, attribute.Int64("epoch", int64(o.Epoch)))
		}
	case job.AttemptFailed:
		e := o.Exception
		log.Warn("attempt failed", "epoch", o.Epoch, "code", e.Error.GetCode(), "error", e.Error.GetMessage(),
			"task", e.Task, "worker", e.Worker, "task_manager", e.TaskManager, "restart_in", o.Delay)
	case job.Rescaled:
		j.rescaled(ctx, o)
	case job.FirstOutput:
		log.Info("first output", "epoch", o.Epoch, "after", o.Since)
	case job.CheckpointBegan:
		log.Debug("checkpoint began", "checkpoint", o.Stats.ID, "savepoint", o.Stats.Savepoint, "early", o.Stats.Early)
	case job.CheckpointEnded:
		j.checkpointEnded(ctx, o.Stats, now)
	case job.SinkCommitted:
		log.Debug("sink committed", "sink", o.UID, "checkpoint", o.CheckpointID, "took", o.Took, "tries", o.Tries)
	case job.Note:
		log.Info(o.Message, o.Args...)
	}
}

// rescaled tells of a change of parallelism as a whole, and of its pause.
func (j *Job) rescaled(ctx context.Context, o job.Rescaled) {
	log := j.d.cfg.Log.With("job", j.ID, "name", j.Submitted.GetName())
	if o.Err != nil {
		log.Warn("job not rescaled", "after", o.Took, "code", o.Err.GetCode(), "error", o.Err.GetMessage())
	} else {
		log.Info("job rescaled", "epoch", o.Epoch, "slots", o.Slots, "took", o.Took, "paused", o.Pause, "checkpoint", o.Checkpoint)
	}
	end := o.Asked.Add(o.Took)
	j.span(ctx, "rescale", o.Asked, end, o.Err, attribute.Int64("epoch", int64(o.Epoch)), attribute.Int("slots", o.Slots))
	if o.Pause > 0 {
		j.span(ctx, "rescale pause", o.Halted, o.Halted.Add(o.Pause), nil, attribute.Int64("epoch", int64(o.Epoch)))
	}
}

func (j *Job) checkpointEnded(ctx context.Context, s checkpoint.Stats, now time.Time) {
	log := j.d.cfg.Log.With("job", j.ID, "checkpoint", s.ID, "savepoint", s.Savepoint)
	if s.Status == checkpoint.Completed {
		log.Debug("checkpoint completed", "took", s.Duration(now), "bytes", s.CheckpointedSize, "state", s.StateSize)
	} else {
		log.Warn("checkpoint failed", "after", s.Duration(now), "code", s.Failure.GetCode(), "error", s.Failure.GetMessage())
	}
	end := s.Ended
	if end.IsZero() {
		end = now
	}
	j.span(ctx, "checkpoint", s.Triggered, end, s.Failure,
		attribute.Int64("checkpoint_id", int64(s.ID)), attribute.Int64("epoch", int64(s.Epoch)),
		attribute.Bool("savepoint", s.Savepoint), attribute.String("status", s.Status.String()),
		attribute.Int64("checkpointed_size", int64(s.CheckpointedSize)), attribute.Int64("state_size", int64(s.StateSize)))
}

// span records something that is over.
func (j *Job) span(ctx context.Context, name string, from, to time.Time, failure *pb.Error, attrs ...attribute.KeyValue) {
	attrs = append(attrs, attribute.String("job_id", j.ID), attribute.String("job_name", j.Submitted.GetName()))
	_, span := j.d.cfg.Tracer.Start(ctx, name, trace.WithTimestamp(from), trace.WithAttributes(attrs...), trace.WithNewRoot())
	if failure != nil {
		span.SetStatus(codes.Error, failure.GetCode()+": "+failure.GetMessage())
	}
	span.End(trace.WithTimestamp(to))
}
