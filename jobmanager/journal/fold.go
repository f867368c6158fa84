package journal

import (
	"cmp"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/checkpoint"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// KeepFailures is how many failures of a job the fold remembers.
const KeepFailures = 16

// KeepNeedless is how many prefixes the fold remembers that are to be emptied. A
// bucket that deletes nothing for so long costs space for good.
const KeepNeedless = 1 << 12

// keepStack is how many bytes of a failure's stack it remembers.
const keepStack = 4 << 10

// Apply folds record number n into the state. It is pure, total and
// deterministic: a record about something that the state does not know
// changes only what it names.
func Apply(s *pb.JournalSnapshot, n uint64, r *pb.JournalRecord) {
	s.LastRecord = n
	switch b := r.GetBody().(type) {
	case *pb.JournalRecord_Leader:
		s.LeaderEpoch = r.GetLeaderEpoch()
	case *pb.JournalRecord_JobSubmitted:
		if id := b.JobSubmitted.GetJobId(); Job(s, id) == nil {
			gone(s, checkpoint.JobPrefix(id)) // of an earlier job of this id
			s.Jobs = append(s.Jobs, NewRecord(clone(b.JobSubmitted)))
		}
	case *pb.JournalRecord_JobAttempt:
		if j := Job(s, b.JobAttempt.GetJobId()); j != nil && b.JobAttempt.GetEpoch() > j.GetEpoch() {
			applyAttempt(j, b.JobAttempt, r.GetAtMs())
		}
	case *pb.JournalRecord_CheckpointDone:
		applyCheckpoint(s, b.CheckpointDone)
	case *pb.JournalRecord_JobDraining:
		if j := Job(s, b.JobDraining.GetJobId()); j != nil {
			j.Drain = clone(b.JobDraining).GetPositions()
		}
	case *pb.JournalRecord_JobStopping:
		if j := Job(s, b.JobStopping.GetJobId()); j != nil {
			j.Stopping = clone(b.JobStopping)
		}
	case *pb.JournalRecord_JobRequirements:
		if j := Job(s, b.JobRequirements.GetJobId()); j != nil {
			j.LowerBounds = clone(b.JobRequirements).GetLowerBounds()
		}
	case *pb.JournalRecord_JobEnded:
		if j := Job(s, b.JobEnded.GetJobId()); j != nil {
			j.Ended = clone(b.JobEnded)
			if b.JobEnded.GetNeedless() {
				needless(s, checkpoint.JobPrefix(b.JobEnded.GetJobId()))
			}
		}
	case *pb.JournalRecord_CatalogChanged:
		s.Catalog = clone(b.CatalogChanged.GetCatalog())
	case *pb.JournalRecord_SavepointDisposed:
		s.Savepoints = slices.DeleteFunc(s.Savepoints, func(c *pb.CheckpointDone) bool {
			return c.GetManifest() == b.SavepointDisposed.GetManifest()
		})
		needless(s, checkpoint.PathOf(b.SavepointDisposed.GetManifest())+"/")
	case *pb.JournalRecord_ObjectsDeleted:
		gone(s, b.ObjectsDeleted.GetPrefix())
	case *pb.JournalRecord_JobForgotten:
		s.Jobs = slices.DeleteFunc(s.Jobs, func(j *pb.JobRecord) bool {
			return j.GetSubmitted().GetJobId() == b.JobForgotten.GetJobId()
		})
	}
}

// needless remembers a prefix whose objects are to be deleted, until they are gone.
func needless(s *pb.JournalSnapshot, prefix string) {
	gone(s, prefix)
	s.Needless = append(s.Needless, prefix)
	if n := len(s.Needless) - KeepNeedless; n > 0 {
		s.Needless = slices.Delete(s.Needless, 0, n)
	}
}

func gone(s *pb.JournalSnapshot, prefix string) {
	s.Needless = slices.DeleteFunc(s.Needless, func(p string) bool { return p == prefix })
}

// NewRecord is what the fold keeps of a job that has just been submitted.
func NewRecord(s *pb.JobSubmitted) *pb.JobRecord {
	return &pb.JobRecord{Submitted: s, Parallelism: changed(s.GetGraph(), s.GetParallelism())}
}

// applyAttempt raises the epoch, takes the parallelism over and remembers why
// the attempt before it failed. One that was halted, to be rescaled, did not.
func applyAttempt(j *pb.JobRecord, a *pb.JobAttempt, at int64) {
	switch {
	case a.GetRescaled() && len(a.GetParallelism()) > 0:
		j.Rescales++
	case a.GetRescaled():
	case j.Epoch > 0:
		j.Restarts++
	}
	if len(a.GetParallelism()) > 0 {
		j.Parallelism = changed(j.GetSubmitted().GetGraph(), a.GetParallelism())
	}
	if a.GetCause() != nil {
		f := &pb.JobFailure{Epoch: j.Epoch, AtMs: a.GetFailedMs(), Error: clone(a.GetCause()), VertexId: a.GetVertexId(), Task: a.GetTask(), Uncounted: a.GetUncounted()}
		if f.AtMs == 0 {
			f.AtMs = at
		}
		f.Error.Stack = strings.ToValidUTF8(f.Error.Stack[:min(len(f.Error.Stack), keepStack)], "")
		j.Failures = append(j.Failures, f)
		if n := len(j.Failures) - KeepFailures; n > 0 {
			j.Failures = slices.Delete(j.Failures, 0, n)
		}
	}
	j.Epoch = a.GetEpoch()
}

// changed is the parallelism that differs from a graph's.
func changed(g *pb.JobGraph, parallelism map[string]uint32) map[string]uint32 {
	other := map[string]uint32{}
	for _, v := range g.GetVertices() {
		if n, ok := parallelism[v.GetId()]; ok && n != v.GetParallelism() {
			other[v.GetId()] = n
		}
	}
	return other
}

// applyCheckpoint makes a completed checkpoint the one to restore. A savepoint
// is one too, for its sinks are committed with it; it is also the user's.
func applyCheckpoint(s *pb.JournalSnapshot, c *pb.CheckpointDone) {
	if c.GetSavepoint() {
		s.Savepoints = append(s.Savepoints, clone(c))
	}
	j := Job(s, c.GetJobId())
	if j == nil {
		return
	}
	j.Latest = clone(c)
	if c.GetSavepoint() {
		return
	}
	j.Retained = append(j.Retained, clone(c))
	if n := len(j.Retained) - max(1, int(j.GetSubmitted().GetGraph().GetConfig().GetRetainedCheckpoints())); n > 0 {
		j.Retained = slices.Delete(j.Retained, 0, n)
	}
}

// EpochOf is the highest epoch that any job of a lineage has had: an attempt of
// one of them needs a higher, for sinks know attempts by lineage and epoch.
func EpochOf(s *pb.JournalSnapshot, lineage string) (epoch uint64) {
	for _, j := range s.GetJobs() {
		if LineageOf(j) == lineage {
			epoch = max(epoch, j.GetEpoch())
		}
	}
	return epoch
}

// LineageOf is the lineage of a job's transactions.
func LineageOf(j *pb.JobRecord) string {
	return cmp.Or(j.GetSubmitted().GetLineage(), j.GetSubmitted().GetJobId())
}

// Job returns the job's record, nil where the state has none.
func Job(s *pb.JournalSnapshot, id string) *pb.JobRecord {
	for _, j := range s.GetJobs() {
		if j.GetSubmitted().GetJobId() == id {
			return j
		}
	}
	return nil
}

func clone[M proto.Message](m M) M { return proto.Clone(m).(M) }
