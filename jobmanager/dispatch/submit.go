package dispatch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/api"
	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/checkpoint"
	"github.com/millrace/millrace/job"
	"github.com/millrace/millrace/jobmanager/journal"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

const maxJobName = 256

// Submission is a job to run.
type Submission struct {
	Jar  string
	Args []string
	// JobID is chosen here where empty.
	JobID string
	// Parallelism is that of operators that set none; 0 for the default that the
	// job itself names, and for a start from a savepoint for the parallelism that
	// was in force when it was taken (job.Continued).
	Parallelism int
	// Savepoint is the path of a savepoint or checkpoint to start from.
	Savepoint string
	// AllowUnmatched leaves state of the savepoint behind that no operator
	// takes up.
	AllowUnmatched bool
	// Settings are laid over what the job's code says of itself (job.Configure).
	Settings map[string]string
}

// Plan runs a binary in plan mode on a task manager and returns its graph.
func (d *Dispatcher) Plan(ctx context.Context, jar string, args []string, parallelism int) (*pb.JobGraph, error) {
	b, err := d.Jar(ctx, jar)
	if err != nil {
		return nil, err
	}
	if parallelism < 0 {
		return nil, api.Errorf(api.BadRequest, "parallelism %d is negative", parallelism)
	}
	ctx, cancel := context.WithTimeout(ctx, d.cfg.PlanWait)
	defer cancel()
	tm, err := d.planner(ctx)
	if err != nil {
		return nil, err
	}
	reply, err := d.control.Ask(ctx, tm, &pb.Request{Body: &pb.Request_Plan{Plan: &pb.RunPlan{
		Binary: b.SHA256, Args: args, DefaultParallelism: uint32(parallelism)}}})
	if e := api.FromProto(reply.GetPlan().GetError()); e != nil {
		err = e
	}
	if api.CodeOf(err) == api.ArgumentsInvalid {
		return nil, api.From(err).With(fmt.Sprintf("See `%s --help`.", b.Name))
	}
	if err != nil {
		return nil, err
	}
	g := reply.GetPlan().GetGraph()
	if len(g.GetVertices()) == 0 {
		return nil, api.Errorf(api.GraphInvalid, "the plan of %s has no operators", b.Name).
			With("Add a source and a sink in the build function")
	}
	if len(g.GetName()) > maxJobName {
		return nil, api.Errorf(api.NameTooLong, "name of the job has %d bytes, at most %d are allowed", len(g.GetName()), maxJobName)
	}
	return g, nil
}

// planner is the task manager with the most free slots; with none attached it
// waits for one.
func (d *Dispatcher) planner(ctx context.Context) (string, error) {
	for {
		d.mu.Lock()
		changed := d.mu.changed
		best := -1
		tms := d.mu.pool.TaskManagers()
		for i, tm := range tms {
			if best < 0 || tm.Free > tms[best].Free {
				best = i
			}
		}
		d.mu.Unlock()
		if best >= 0 {
			return tms[best].ID, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return "", api.Errorf(api.SlotsUnavailable, "no task manager is attached to plan the job on: %w", ctx.Err()).
				With("Start a task manager: `millrace taskmanager --join <this job manager>`.")
		}
	}
}

// Submit plans a binary and starts the job. When it returns the job is in the
// journal; it runs once it has slots.
func (d *Dispatcher) Submit(ctx context.Context, s Submission) (*Job, error) {
	if s.JobID == "" {
		s.JobID = NewID()
	}
	jar, err := d.Jar(ctx, s.Jar)
	if err != nil {
		return nil, err
	}
	for key := range s.Settings {
		if !job.KnownSetting(key) { // known before the plan, which takes seconds
			return nil, asError(job.Configure(&pb.JobConfig{}, s.Settings))
		}
	}
	record := &pb.JobSubmitted{
		JobId: s.JobID, Binary: jar.SHA256, Args: s.Args,
		AllowUnmatchedState: s.AllowUnmatched, Lineage: s.JobID, Settings: s.Settings,
	}
	var restore *pb.Manifest
	if s.Savepoint != "" {
		key, m, err := d.findManifest(ctx, s.Savepoint)
		if err != nil {
			return nil, err
		}
		if err := d.checkOwner(key, m); err != nil {
			return nil, err
		}
		restore = m
		record.RestoreManifest, record.Lineage = key, cmp.Or(m.GetLineage(), m.GetJobId())
	}
	graph, err := d.Plan(ctx, s.Jar, s.Args, s.defaultParallelism(restore.GetGraph()))
	if err != nil {
		return nil, err
	}
	if restore != nil && s.Parallelism == 0 {
		record.Parallelism = job.Continued(graph, restore)
	}
	// The plan hash stays that of the plan: workers make the same one.
	if graph.Config == nil {
		graph.Config = &pb.JobConfig{}
	}
	if err := job.Configure(graph.Config, s.Settings); err != nil {
		return nil, asError(err)
	}
	if restore != nil {
		// The master checks it again; here its submitter is told.
		if err := job.CheckRestore(graph, restore, s.AllowUnmatched); err != nil {
			return nil, asError(fmt.Errorf("start from %s: %w", s.Savepoint, err))
		}
	}
	record.Graph, record.Name, record.SubmittedMs = graph, graph.GetName(), d.Now().UnixMilli()
	return d.start(ctx, record)
}

// defaultParallelism is what to plan with: what is asked for, else the default
// of the job whose state is taken up.
func (s Submission) defaultParallelism(old *pb.JobGraph) int {
	return cmp.Or(s.Parallelism, int(old.GetConfig().GetDefaultParallelism()))
}

// start journals a submission and launches its driver. The record keeps its
// binary from being deleted, so that is excluded meanwhile.
func (d *Dispatcher) start(ctx context.Context, record *pb.JobSubmitted) (*Job, error) {
	release, err := d.holdBinaries(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if _, err := d.Job(record.GetJobId()); err == nil {
		return nil, api.Errorf(api.JobExists, "job %s exists", record.GetJobId())
	}
	if _, _, err := d.cfg.Bucket.Get(ctx, binaryPrefix+record.GetBinary(), 0, 1); err != nil {
		if errors.Is(err, blob.ErrNotFound) {
			return nil, api.Errorf(api.BinaryNotFound, "binary %s was deleted meanwhile", record.GetBinary())
		}
		return nil, api.Errorf(api.BucketUnavailable, "look for binary %s: %w", record.GetBinary(), err)
	}
	// The append and the launch are one: a client that leaves in between must
	// not leave a job that is journalled and not driven.
	result := make(chan error, 1)
	ok := d.background(func(run context.Context) { result <- d.admit(run, record) })
	if !ok {
		return nil, api.Errorf(api.ShuttingDown, "job manager is shutting down")
	}
	select {
	case err := <-result:
		if err != nil {
			return nil, err
		}
	case <-ctx.Done():
		return nil, api.Errorf(api.TimedOut, "job %s is not journalled yet; it may start later: %w", record.GetJobId(), ctx.Err())
	}
	d.cfg.Log.Info("job submitted", "job", record.GetJobId(), "name", record.GetName(), "binary", record.GetBinary())
	d.background(d.forgetOldJobs)
	return d.Job(record.GetJobId())
}

// errShared says that another job that has not ended has the lineage.
var errShared = errors.New("lineage is shared")

// admit journals a submission and launches its driver. A job goes on with the
// lineage of what it restores unless another that has not ended has it: two
// writers of one lineage would fence each other and take each other's
// transactions for their own. Then it is a fork, with a lineage of its own: what
// the savepoint holds for sinks is committed as its owner's transactions, which
// is idempotent and fences nobody; everything after is the fork's.
func (d *Dispatcher) admit(ctx context.Context, record *pb.JobSubmitted) error {
	for {
		// The journal holds no job that has no master.
		created := journal.NewRecord(proto.Clone(record).(*pb.JobSubmitted))
		master, err := d.newMaster(created)
		if err != nil {
			return asError(err)
		}
		submitted := &pb.JournalRecord{Body: &pb.JournalRecord_JobSubmitted{JobSubmitted: created.GetSubmitted()}}
		err = d.journal.AppendIf(ctx, submitted, func(fold *pb.JournalSnapshot) error {
			for _, r := range fold.GetJobs() {
				if r.GetEnded() == nil && journal.LineageOf(r) == journal.LineageOf(created) {
					return errShared
				}
			}
			return nil
		})
		switch {
		case err == nil:
			return d.launch(ctx, created, master, job.Submitted{})
		case !errors.Is(err, errShared):
			return err
		case record.GetLineage() == record.GetJobId():
			return api.Errorf(api.JobExists, "a job that has not ended goes on with the output of an earlier job %s", record.GetJobId())
		}
		d.cfg.Log.Info("job is a fork: another that has not ended has the lineage of what it starts from",
			"job", record.GetJobId(), "lineage", record.GetLineage())
		record = proto.Clone(record).(*pb.JobSubmitted)
		record.Lineage = record.GetJobId()
	}
}

// checkOwner refuses a checkpoint whose job goes on: it deletes objects as newer
// checkpoints supersede them. A savepoint is nobody's but the user's.
func (d *Dispatcher) checkOwner(key string, m *pb.Manifest) error {
	if m.GetSavepoint() {
		return nil
	}
	var err error
	d.journal.View(func(fold *pb.JournalSnapshot) {
		if r := journal.Job(fold, m.GetJobId()); r != nil && r.GetEnded() == nil {
			err = api.Errorf(api.CheckpointInUse, "start from %s: job %s (%s) has not ended and deletes its checkpoints as it goes on",
				key, m.GetJobId(), r.GetSubmitted().GetName())
		}
	})
	return err
}

// findManifest resolves what a user calls a savepoint: the path that was
// printed, with or without the bucket's URL before it or its manifest behind
// it, or the path of a checkpoint.
func (d *Dispatcher) findManifest(ctx context.Context, p string) (string, *pb.Manifest, error) {
	for _, key := range d.manifestKeys(p) {
		m, err := readManifest(ctx, d.cfg.Bucket, key)
		if err == nil {
			return key, m, nil
		}
		if e := asError(err); e.Code != api.SnapshotMissing {
			return "", nil, e
		}
	}
	return "", nil, api.Errorf(api.SavepointNotFound, "savepoint %s is not in bucket %s", p, d.cfg.Bucket.URL())
}

// manifestKeys are the objects that a user's path may mean.
func (d *Dispatcher) manifestKeys(p string) []string {
	return checkpoint.ManifestKeys(d.cfg.Bucket.URL(), p)
}

// Dispose deletes a savepoint, unless a job needs it. The journal knows which
// there are, so that one whose manifest cannot be read any more goes too.
func (d *Dispatcher) Dispose(ctx context.Context, p string) error {
	var key, user string
	keys := d.manifestKeys(p)
	d.journal.View(func(s *pb.JournalSnapshot) {
		for _, c := range s.GetSavepoints() {
			if slices.Contains(keys, c.GetManifest()) {
				key = c.GetManifest()
			}
		}
		if key == "" {
			return
		}
		for _, r := range s.GetJobs() {
			if r.GetEnded() != nil {
				continue
			}
			starts := r.GetLatest() == nil && r.GetSubmitted().GetRestoreManifest() == key
			if starts || r.GetLatest().GetManifest() == key {
				user = r.GetSubmitted().GetJobId()
			}
		}
	})
	if key == "" {
		return api.Errorf(api.SavepointNotFound, "%s is no savepoint of this cluster", p)
	}
	if user != "" {
		return api.Errorf(api.SavepointInUse, "savepoint %s is what job %s would restore", checkpoint.PathOf(key), user)
	}
	err := d.append(ctx, &pb.JournalRecord{Body: &pb.JournalRecord_SavepointDisposed{SavepointDisposed: &pb.SavepointDisposed{Manifest: key}}})
	if err != nil {
		return err
	}
	d.deletions.put(deletion{DeleteObjects: job.DeleteObjects{Prefixes: []string{checkpoint.PathOf(key) + "/"}}})
	return nil
}

// forgetOldJobs drops the oldest ended jobs above KeepEnded, and binaries that
// nothing names any more.
func (d *Dispatcher) forgetOldJobs(ctx context.Context) {
	for {
		id, digest := d.oldestEnded()
		if id == "" {
			return
		}
		err := d.journal.Append(ctx, &pb.JournalRecord{Body: &pb.JournalRecord_JobForgotten{JobForgotten: &pb.JobForgotten{JobId: id}}})
		if err != nil {
			return // the next submission tries again
		}
		d.mu.Lock()
		delete(d.mu.jobs, id)
		d.mu.Unlock()
		d.rates.Forget(id)
		release, err := d.holdBinaries(ctx)
		if err != nil {
			return
		}
		if err := d.collectBinary(ctx, digest); err != nil {
			d.cfg.Log.Warn("binary was not deleted", "binary", digest, "error", err)
		}
		release()
	}
}

// oldestEnded is the job to forget next, "" for none. A job is kept while a
// savepoint of its lineage is: a job started from that must know every epoch
// that sinks have seen (journal.EpochOf).
func (d *Dispatcher) oldestEnded() (id, digest string) {
	d.journal.View(func(s *pb.JournalSnapshot) {
		needed := map[string]bool{}
		for _, c := range s.GetSavepoints() {
			needed[journal.Job(s, c.GetJobId()).GetSubmitted().GetLineage()] = true
		}
		ended := 0
		for _, r := range s.GetJobs() {
			if r.GetEnded() == nil || needed[r.GetSubmitted().GetLineage()] {
				continue
			}
			ended++
			if id == "" {
				id, digest = r.GetSubmitted().GetJobId(), r.GetSubmitted().GetBinary()
			}
		}
		if ended <= KeepEnded {
			id = ""
		}
	})
	return id, digest
}
