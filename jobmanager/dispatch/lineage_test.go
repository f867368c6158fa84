package dispatch

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/millrace/millrace/api"
	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/job"
	"github.com/millrace/millrace/jobmanager/journal"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

func newTestDispatcher(t *testing.T) *Dispatcher {
	t.Helper()
	bucket := blob.NewMemory()
	quiet := slog.New(slog.DiscardHandler)
	jn, err := journal.Open(t.Context(), bucket, journal.Options{Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	return New(Config{Bucket: bucket, Journal: jn, Log: quiet})
}

// Of two jobs of one lineage neither gets an epoch that the other has had,
// whatever its master believes.
func TestAnEpochIsUniqueInItsLineage(t *testing.T) {
	d := newTestDispatcher(t)
	attempt := func(id string, epoch uint64) error {
		j := newJob(d, journal.Job(d.journal.State(), id))
		return j.append(t.Context(), &pb.JournalRecord{Body: &pb.JournalRecord_JobAttempt{JobAttempt: &pb.JobAttempt{JobId: id, Epoch: epoch}}})
	}
	for id, lineage := range map[string]string{"a": "a", "b": "a", "c": ""} {
		err := d.journal.Append(t.Context(), &pb.JournalRecord{Body: &pb.JournalRecord_JobSubmitted{JobSubmitted: &pb.JobSubmitted{JobId: id, Lineage: lineage}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		job   string
		epoch uint64
		taken uint64
	}{{"a", 1, 0}, {"b", 1, 1}, {"b", 2, 0}, {"a", 2, 2}, {"a", 3, 0}, {"b", 2, 3}, {"c", 1, 0}, {"c", 1, 1}} {
		err := attempt(tt.job, tt.epoch)
		var taken *job.EpochTaken
		switch {
		case tt.taken == 0 && err != nil:
			t.Errorf("epoch %d of %s: %v", tt.epoch, tt.job, err)
		case tt.taken > 0 && (!errors.As(err, &taken) || taken.Highest != tt.taken):
			t.Errorf("epoch %d of %s: %v, want it refused because of %d", tt.epoch, tt.job, err, tt.taken)
		}
	}
}

func TestSavepointDirectory(t *testing.T) {
	d := newTestDispatcher(t)
	url := d.cfg.Bucket.URL()
	for dir, want := range map[string]string{
		"": "", ".": "", "./": "", "backups": "backups", "a//b/": "a/b", "./a/./b": "a/b", "jobsite": "jobsite", "a/jobs": "a/jobs",
		url: "", url + "/": "", url + "/a/b": "a/b", "journals": "journals",
	} {
		if got, err := d.SavepointDirectory(dir); err != nil || got != want {
			t.Errorf("directory %q: %q, %v; want %q", dir, got, err, want)
		}
	}
	for _, dir := range []string{
		"jobs", "jobs/J", "./jobs", ".//jobs/x", "cluster", "journal/", "journal-snapshot", "binaries/x", "jars", ".millrace", url + "/jobs", url + "//jobs/x",
		"..", "a/../b", "a/..", "/tmp/x", "s3://other/x", "file:///elsewhere/y", "a\x00b", `a\b`, strings.Repeat("x", 300),
	} {
		got, err := d.SavepointDirectory(dir)
		if e := api.From(err); err == nil || e.Code != api.BadRequest || e.Remedy == "" {
			t.Errorf("directory %q: %q, %v; want it refused with a remedy", dir, got, err)
		}
	}
}

// A record of an older version that names a reserved directory is replayed
// with the default one.
func TestReservedDirectoryInTheJournal(t *testing.T) {
	d := newTestDispatcher(t)
	g := &pb.JobGraph{Name: "g", Vertices: []*pb.Vertex{{Id: "v", Name: "v", Parallelism: 1, MaxParallelism: 1, Operators: []*pb.Operator{{Uid: "v", Name: "v", Source: true}}}}}
	for dir, want := range map[string]string{"jobs/J": "", "a//b": "a/b"} {
		r := &pb.JobRecord{Submitted: &pb.JobSubmitted{JobId: "j", Graph: g}, Stopping: &pb.JobStopping{JobId: "j", How: "stop", SavepointDirectory: dir}}
		if _, err := d.newMaster(r); err != nil {
			t.Fatal(err)
		}
		if got := r.GetStopping().GetSavepointDirectory(); got != want {
			t.Errorf("directory %q of a stop is replayed as %q, want %q", dir, got, want)
		}
	}
}
