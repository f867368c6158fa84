package dispatch

import (
	"context"
	"maps"

	"github.com/millrace/millrace/jobmanager/journal"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Require keeps the least parallelism of a job's vertices by id, in place of what
// was kept before.
func (d *Dispatcher) Require(ctx context.Context, id string, lower map[string]uint32) error {
	return d.append(ctx, &pb.JournalRecord{Body: &pb.JournalRecord_JobRequirements{
		JobRequirements: &pb.JobRequirements{JobId: id, LowerBounds: lower}}})
}

// LowerBounds are those of a job by vertex id; a vertex without one is not there.
func (d *Dispatcher) LowerBounds(id string) (lower map[string]uint32) {
	d.journal.View(func(fold *pb.JournalSnapshot) { lower = maps.Clone(journal.Job(fold, id).GetLowerBounds()) })
	return lower
}
