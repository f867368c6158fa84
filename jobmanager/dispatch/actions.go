package dispatch

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/millrace/millrace/api"
	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/checkpoint/manifest"
	"github.com/millrace/millrace/internal/planted"
	"github.com/millrace/millrace/job"
	"github.com/millrace/millrace/jobmanager/journal"
	"github.com/millrace/millrace/jobmanager/slots"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// act carries out one action without blocking. What takes time runs beside the
// driver and comes back as an event.
func (j *Job) act(ctx context.Context, beside *sync.WaitGroup, a job.Action) {
	switch a := a.(type) {
	case job.RequestSlots:
		j.d.changeSlots(func(p *slots.Pool) []slots.Grant { return p.Ask(j.ID, a.N) })
	case job.ResizeSlots:
		j.d.changeSlots(func(p *slots.Pool) []slots.Grant { return p.Resize(j.ID, a.N, uint64(a.Token)) })
	case job.KeepSlots:
		j.d.changeSlots(func(p *slots.Pool) []slots.Grant { return p.Keep(j.ID, a.Slots) })
	case job.ReleaseSlots:
		j.d.changeSlots(func(p *slots.Pool) []slots.Grant { return p.Release(j.ID) })
	case job.StartWorker:
		j.startWorker(a)
	case job.ResizeWorker:
		_ = j.send(a.TaskManager, &pb.JobManagerMessage{Body: &pb.JobManagerMessage_ResizeWorker{
			ResizeWorker: &pb.ResizeWorker{WorkerId: a.Worker, Slots: uint32(a.Slots)}}})
	case job.StopWorker:
		// Lost with the link, which ends the workers behind it for us.
		_ = j.send(a.TaskManager, &pb.JobManagerMessage{Body: &pb.JobManagerMessage_StopWorker{
			StopWorker: &pb.StopWorker{WorkerId: a.Worker, GraceMs: a.Grace.Milliseconds()}}})
	case job.SendWorker:
		if err := beforeSend(a.Command); err != nil {
			j.tell(declined(a, err))
			return
		}
		_ = j.send(a.TaskManager, &pb.JobManagerMessage{Body: &pb.JobManagerMessage_ToWorker{
			ToWorker: &pb.ToWorker{WorkerId: a.Worker, Command: a.Command}}})
	case job.Journal:
		j.records.put(a)
	case job.WriteManifest:
		beside.Go(func() {
			j.tell(job.ManifestWritten{Token: a.Token, Err: j.writeManifest(ctx, a)})
		})
	case job.ReadManifest:
		beside.Go(func() {
			m, err := readManifest(ctx, j.d.cfg.Bucket, a.Key)
			j.tell(job.ManifestRead{Token: a.Token, Manifest: m, Err: err})
		})
	case job.ListObjects:
		beside.Go(func() {
			keys, err := j.d.list(ctx, a.Prefix)
			if err != nil {
				j.d.cfg.Log.Warn("objects were not listed", "job", j.ID, "prefix", a.Prefix, "error", err)
				return
			}
			j.tell(job.ObjectsListed{Keys: keys})
		})
	case job.DeleteObjects:
		j.d.deletions.put(deletion{DeleteObjects: a, job: j})
	case job.Answer:
		j.answer(a.Request, answer{a.Result, a.Err})
	case job.Observe:
		j.observe(ctx, a.Observation)
	default:
		panic(fmt.Sprintf("dispatch: unknown action %T", a))
	}
}

// send queues a message; a task manager that is gone loses it, and its loss is
// told by itself.
func (j *Job) send(tm string, m *pb.JobManagerMessage) error {
	err := j.d.control.Send(tm, m)
	if err != nil {
		j.d.cfg.Log.Debug("message to a task manager lost", "job", j.ID, "task_manager", tm, "error", err)
	}
	return err
}

func (j *Job) startWorker(a job.StartWorker) {
	err := j.send(a.TaskManager, &pb.JobManagerMessage{Body: &pb.JobManagerMessage_StartWorker{StartWorker: &pb.StartWorker{
		JobId: j.ID, JobName: j.Submitted.GetName(), WorkerId: a.Worker,
		Binary: j.Submitted.GetBinary(), Args: j.Submitted.GetArgs(), Slots: uint32(a.Slots),
	}}})
	if err != nil {
		j.tell(job.WorkerExited{Worker: a.Worker, Exit: &pb.WorkerExited{JobId: j.ID, WorkerId: a.Worker, Error: asError(err).Proto()}})
	}
}

// appendRecords appends the job's records in the order of their actions.
func (j *Job) appendRecords(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-j.records.ready:
		}
		for _, a := range j.records.take() {
			err := j.append(ctx, a.Record)
			var taken *job.EpochTaken
			switch {
			case err == nil || errors.As(err, &taken) || errors.Is(err, errNotAppended):
				j.tell(job.Journaled{Token: a.Token, Err: err})
			case ctx.Err() != nil || errors.Is(err, journal.ErrLeadershipLost):
				return // the driver ends too, and answers nothing
			default:
				// Nothing is known of the record's fate: no job can go on.
				j.d.fail(fmt.Errorf("job %s: %w", j.ID, err))
				return
			}
		}
	}
}

// errNotAppended: nothing was written, and nothing will be.
var errNotAppended = errors.New("record was not appended")

// append appends a record; that of an attempt only with an epoch above all of
// its lineage, else with a *job.EpochTaken. The job's own lineage is asked of the
// journal, where a job that shares it may be newer than this driver.
func (j *Job) append(ctx context.Context, r *pb.JournalRecord) error {
	if err := beforeRecord(r); err != nil {
		return fmt.Errorf("%w: %w", errNotAppended, err)
	}
	err := j.appendAbove(ctx, r)
	if err == nil {
		afterRecord(r)
	}
	return err
}

func (j *Job) appendAbove(ctx context.Context, r *pb.JournalRecord) error {
	a := r.GetJobAttempt()
	if a == nil {
		return j.d.journal.Append(ctx, r)
	}
	return j.d.journal.AppendIf(ctx, r, func(fold *pb.JournalSnapshot) error {
		if highest := journal.EpochOf(fold, journal.LineageOf(journal.Job(fold, j.ID))); a.GetEpoch() <= highest && !planted.EpochNotChecked {
			return &job.EpochTaken{Highest: highest}
		}
		return nil
	})
}

// readManifest reads a manifest; errors that reading again cannot mend are
// *job.Unusable.
func readManifest(ctx context.Context, bucket blob.Bucket, key string) (*pb.Manifest, error) {
	m, err := manifest.Read(ctx, bucket, key)
	var corrupt *manifest.CorruptError
	switch {
	case err == nil:
		return m, nil
	case errors.Is(err, blob.ErrNotFound):
		return nil, &job.Unusable{Code: string(api.SnapshotMissing), Err: fmt.Errorf("manifest %s is not in bucket %s", key, bucket.URL())}
	case errors.As(err, &corrupt) && corrupt.Truncated:
		return nil, &job.Unusable{Code: string(api.SnapshotTruncated), Err: err}
	case errors.As(err, &corrupt):
		return nil, &job.Unusable{Code: string(api.SnapshotCorrupt), Err: err}
	}
	return nil, api.Errorf(api.BucketUnavailable, "%w", err)
}
