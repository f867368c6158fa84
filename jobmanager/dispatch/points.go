package dispatch

import (
	"context"
	"time"

	"github.com/millrace/millrace/checkpoint"
	"github.com/millrace/millrace/checkpoint/manifest"
	"github.com/millrace/millrace/internal/failpoint"
	"github.com/millrace/millrace/job"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// This chapter holds the failpoints of the driver.

func (j *Job) writeManifest(ctx context.Context, a job.WriteManifest) error {
	if err := failpoint.Hit("checkpoint.before-manifest"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, j.manifestLimit())
	defer cancel()
	if err := manifest.Write(ctx, j.d.cfg.Bucket, a.Key, a.Manifest); err != nil {
		return err
	}
	return failpoint.Hit("checkpoint.after-manifest")
}

// manifestLimit is how long a manifest may be written: by then its checkpoint is
// given up.
func (j *Job) manifestLimit() time.Duration {
	if ms := j.Submitted.GetGraph().GetConfig().GetCheckpointTimeoutMs(); ms > 0 {
		return time.Duration(ms) * time.Millisecond
	}
	return checkpoint.DefaultTimeout
}

// beforeSend is before a command, which is not sent after an error.
func beforeSend(c *pb.WorkerCommand) error {
	switch t := c.GetTrigger(); {
	case t == nil:
		return nil
	case t.GetHalt():
		return failpoint.Hit("rescale.before-halt")
	}
	return failpoint.Hit("checkpoint.before-trigger")
}

// declined is what a worker would say of a checkpoint that it cannot begin.
func declined(a job.SendWorker, err error) job.WorkerReported {
	return job.WorkerReported{Worker: a.Worker, Report: &pb.WorkerReport{
		Epoch: a.Command.GetEpoch(),
		Body: &pb.WorkerReport_Declined{Declined: &pb.CheckpointDeclined{
			CheckpointId: a.Command.GetTrigger().GetCheckpointId(), Error: asError(err).Proto(),
		}},
	}}
}

// beforeRecord is before the append of a record: with an error it is not tried.
func beforeRecord(r *pb.JournalRecord) error {
	switch a := r.GetJobAttempt(); {
	case r.GetCheckpointDone() != nil:
		return failpoint.Hit("checkpoint.before-journal")
	case len(a.GetParallelism()) > 0:
		return failpoint.Hit("rescale.before-journal")
	case a != nil:
		return failpoint.Hit("restore.before-attempt")
	}
	return nil
}

// afterRecord is after it: the record is there, an error changes nothing.
func afterRecord(r *pb.JournalRecord) {
	switch a := r.GetJobAttempt(); {
	case r.GetCheckpointDone() != nil:
		_ = failpoint.Hit("checkpoint.after-journal")
	case len(a.GetParallelism()) > 0:
		_ = failpoint.Hit("rescale.after-journal")
	case a != nil:
		_ = failpoint.Hit("restore.after-attempt")
	}
}
