package dispatch

import (
	"cmp"
	"context"
	"fmt"

	"github.com/millrace/millrace/api"
	"github.com/millrace/millrace/checkpoint"
	"github.com/millrace/millrace/checkpoint/upgrade"
	"github.com/millrace/millrace/job"
	"github.com/millrace/millrace/jobmanager/journal"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Checked is whether a binary can go on with the state of a savepoint or a job.
type Checked struct {
	// Graph is the plan of the binary.
	Graph *pb.JobGraph
	// Against says in words what has the state.
	Against string
	Report  *upgrade.Report
	// Refused is what a submission would be refused with, nil for nothing.
	Refused *api.Error
}

// Check plans a binary as Submit does and judges what becomes of state: that of
// s.Savepoint or, where against is set, of a job. Nothing is started or stopped.
func (d *Dispatcher) Check(ctx context.Context, s Submission, against string) (*Checked, error) {
	if (s.Savepoint == "") == (against == "") {
		return nil, api.Errorf(api.BadRequest, "check: want either a savepoint or a job to compare with")
	}
	c := &Checked{}
	old, err := d.old(ctx, c, s.Savepoint, against)
	if err != nil {
		return nil, err
	}
	if c.Graph, err = d.Plan(ctx, s.Jar, s.Args, s.defaultParallelism(old.Graph)); err != nil {
		return nil, err
	}
	if c.Report, err = upgrade.Compare(old, c.Graph); err != nil {
		return nil, api.Errorf(api.StateIncompatible, "%s: %w", c.Against, err)
	}
	if err := job.CheckReport(c.Report, c.Against, s.AllowUnmatched); err != nil {
		c.Refused = asError(err)
	}
	return c, nil
}

// old is what a binary is compared with. Of a job that goes on, everything that
// it declares counts, and what its newest checkpoint holds besides.
func (d *Dispatcher) old(ctx context.Context, c *Checked, savepoint, id string) (upgrade.Old, error) {
	if savepoint != "" {
		key, m, err := d.findManifest(ctx, savepoint)
		c.Against = fmt.Sprintf("%s of job %q (%s)", checkpoint.PathOf(key), m.GetGraph().GetName(), m.GetJobId())
		return upgrade.Old{Graph: m.GetGraph(), Manifest: m}, err
	}
	j, err := d.Job(id)
	if err != nil {
		return upgrade.Old{}, err
	}
	c.Against = fmt.Sprintf("job %q (%s)", j.Submitted.GetName(), j.ID)
	old := upgrade.Old{Graph: j.Submitted.GetGraph(), Running: true}
	var key string
	d.journal.View(func(fold *pb.JournalSnapshot) {
		r := journal.Job(fold, id)
		key = cmp.Or(r.GetLatest().GetManifest(), r.GetSubmitted().GetRestoreManifest())
		old.Running = r.GetEnded() == nil || key == ""
	})
	if key == "" {
		return old, nil
	}
	m, err := readManifest(ctx, d.cfg.Bucket, key)
	if err != nil && asError(err).Code == api.SnapshotMissing && old.Running {
		return old, nil // a newer one has taken its place meanwhile
	}
	old.Manifest = m
	return old, err
}
