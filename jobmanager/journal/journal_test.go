package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/millrace/millrace/api"
	"github.com/millrace/millrace/blob"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// faulty is a bucket whose conditional writes fail as told: before they
// happen, or after, with the reply lost.
type faulty struct {
	blob.Bucket
	mu struct {
		sync.Mutex
		next func(key string) (before, after error)
	}
}

func (f *faulty) set(next func(string) (error, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.next = next
}

func (f *faulty) PutIfAbsent(ctx context.Context, key string, data []byte) (blob.Version, error) {
	f.mu.Lock()
	next := f.mu.next
	f.mu.Unlock()
	var before, after error
	if next != nil {
		before, after = next(key)
	}
	if before != nil {
		return "", before
	}
	v, err := f.Bucket.PutIfAbsent(context.WithoutCancel(ctx), key, data)
	if err == nil && after != nil {
		return "", after
	}
	return v, err
}

var quiet = slog.New(slog.DiscardHandler)

func open(t *testing.T, b blob.Bucket, id string) *Journal {
	t.Helper()
	j, err := Open(t.Context(), b, Options{LeaderID: id, Log: quiet, RetryAfter: time.Microsecond, Every: 8})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func submitted(id string) *pb.JournalRecord {
	return &pb.JournalRecord{Body: &pb.JournalRecord_JobSubmitted{JobSubmitted: &pb.JobSubmitted{JobId: id}}}
}

func appendJob(t *testing.T, j *Journal, id string) {
	t.Helper()
	if err := j.Append(t.Context(), submitted(id)); err != nil {
		t.Fatal(err)
	}
}

func jobs(s *pb.JournalSnapshot) (ids []string) {
	for _, j := range s.GetJobs() {
		ids = append(ids, j.GetSubmitted().GetJobId())
	}
	return ids
}

func TestFoldSurvivesRestartsAndTrimming(t *testing.T) {
	b := blob.NewMemory()
	var want []string
	var cluster string
	for run := range 5 {
		j := open(t, b, fmt.Sprint("run", run))
		if j.Epoch() != uint64(run)+1 {
			t.Errorf("run %d leads in epoch %d", run, j.Epoch())
		}
		if run > 0 && j.ClusterID() != cluster {
			t.Errorf("cluster id changed from %s to %s", cluster, j.ClusterID())
		}
		cluster = j.ClusterID()
		for i := range 11 {
			id := fmt.Sprintf("%d-%d", run, i)
			appendJob(t, j, id)
			want = append(want, id)
		}
		if diff := cmp.Diff(want, jobs(j.State())); diff != "" {
			t.Fatalf("run %d (-want +got):\n%s", run, diff)
		}
		again, err := Read(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(j.State(), again, protocmp.Transform()); diff != "" {
			t.Fatalf("run %d: read again (-want +got):\n%s", run, diff)
		}
	}
	records := 0
	if err := b.List(t.Context(), recordPrefix, func(blob.Info) error { records++; return nil }); err != nil {
		t.Fatal(err)
	}
	if records > 2*8 {
		t.Errorf("%d records are kept of 60, want at most 16", records)
	}
}

func TestTwoLeaders(t *testing.T) {
	b := blob.NewMemory()
	old := open(t, b, "old")
	appendJob(t, old, "a")
	young := open(t, b, "young")
	if err := old.Append(t.Context(), submitted("stale")); !errors.Is(err, ErrLeadershipLost) {
		t.Fatalf("append by the old leader = %v, want ErrLeadershipLost", err)
	}
	select {
	case <-old.Lost():
	default:
		t.Error("Lost is not closed")
	}
	if err := old.Append(t.Context(), submitted("stale")); !errors.Is(err, ErrLeadershipLost) {
		t.Errorf("second append = %v", err)
	}
	appendJob(t, young, "b")
	if diff := cmp.Diff([]string{"a", "b"}, jobs(open(t, b, "next").State())); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A leader that was stopped while another wrote so much that the number it
// would take has been trimmed must still learn that it is deposed.
func TestStaleLeaderMeetsTrimmedNumber(t *testing.T) {
	b := blob.NewMemory()
	old := open(t, b, "old")
	appendJob(t, old, "a")
	young := open(t, b, "young")
	for i := range 100 {
		appendJob(t, young, fmt.Sprint("b", i))
	}
	if err := old.Append(t.Context(), submitted("stale")); !errors.Is(err, ErrLeadershipLost) {
		t.Fatalf("append at a trimmed number = %v, want ErrLeadershipLost", err)
	}
	appendJob(t, young, "c")
	for _, id := range jobs(open(t, b, "next").State()) {
		if id == "stale" {
			t.Error("the stale record is in the journal")
		}
	}
}

func TestBucketFaults(t *testing.T) {
	errBroken := errors.New("broken")
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 2))
		f := &faulty{Bucket: blob.NewMemory()}
		f.set(func(key string) (error, error) {
			if key == clusterKey {
				return nil, nil
			}
			switch r.IntN(3) {
			case 0:
				return errBroken, nil
			case 1:
				return nil, errBroken
			}
			return nil, nil
		})
		j := open(t, f, "leader")
		var want []string
		for i := range 30 {
			id := fmt.Sprint(i)
			appendJob(t, j, id)
			want = append(want, id)
		}
		f.set(nil)
		if n := j.State().GetLastRecord(); n != 31 {
			t.Fatalf("seed %d: 31 appends made %d records", seed, n)
		}
		if diff := cmp.Diff(want, jobs(open(t, f, "next").State())); diff != "" {
			t.Fatalf("seed %d (-want +got):\n%s", seed, diff)
		}
	}
}

// An append whose caller gave up may have been written: the next one finds
// out, and the fold holds it exactly if the bucket does.
func TestUnsettledAppend(t *testing.T) {
	errBroken := errors.New("broken")
	for _, written := range []bool{false, true} {
		f := &faulty{Bucket: blob.NewMemory()}
		j := open(t, f, "leader")
		ctx, cancel := context.WithCancel(t.Context())
		f.set(func(string) (error, error) {
			cancel()
			if written {
				return nil, errBroken
			}
			return errBroken, nil
		})
		if err := j.Append(ctx, submitted("given-up")); api.CodeOf(err) != api.BucketUnavailable {
			t.Fatalf("append to a broken bucket = %v", err)
		}
		f.set(nil)
		appendJob(t, j, "next")
		want := []string{"next"}
		if written {
			want = []string{"given-up", "next"}
		}
		if diff := cmp.Diff(want, jobs(j.State())); diff != "" {
			t.Errorf("written %v: fold (-want +got):\n%s", written, diff)
		}
		if diff := cmp.Diff(want, jobs(open(t, f, "later").State())); diff != "" {
			t.Errorf("written %v: bucket (-want +got):\n%s", written, diff)
		}
	}
}

func TestDamage(t *testing.T) {
	b := blob.NewMemory()
	j := open(t, b, "leader")
	for i := range 20 {
		appendJob(t, j, fmt.Sprint(i))
	}
	want := j.State()
	flip := func(key string) {
		data, v, err := b.Get(t.Context(), key, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)-1] ^= 1
		if _, err := b.CompareAndSwap(t.Context(), key, v, data); err != nil {
			t.Fatal(err)
		}
	}
	flip(snapshotKey(16))
	got, err := Read(t.Context(), b)
	if err != nil {
		t.Fatalf("with the newest snapshot damaged: %v", err)
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("from the older snapshot (-want +got):\n%s", diff)
	}
	flip(recordKey(18))
	if _, err := Read(t.Context(), b); api.CodeOf(err) != api.JournalCorrupt {
		t.Errorf("with record 18 damaged: %v, want %s", err, api.JournalCorrupt)
	}
	if err := b.Delete(t.Context(), recordKey(18)); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(t.Context(), b); api.CodeOf(err) != api.JournalCorrupt {
		t.Errorf("with record 18 missing: %v, want %s", err, api.JournalCorrupt)
	}
}

func TestFold(t *testing.T) {
	s := &pb.JournalSnapshot{}
	n := uint64(0)
	apply := func(r *pb.JournalRecord) { n++; Apply(s, n, r) }
	done := func(id uint64, savepoint bool) *pb.JournalRecord {
		return &pb.JournalRecord{Body: &pb.JournalRecord_CheckpointDone{CheckpointDone: &pb.CheckpointDone{
			JobId: "j", CheckpointId: id, Manifest: fmt.Sprint("m", id), Savepoint: savepoint}}}
	}
	attempt := func(e uint64) *pb.JournalRecord {
		return &pb.JournalRecord{Body: &pb.JournalRecord_JobAttempt{JobAttempt: &pb.JobAttempt{JobId: "j", Epoch: e}}}
	}
	sub := submitted("j")
	sub.GetJobSubmitted().Graph = &pb.JobGraph{Config: &pb.JobConfig{RetainedCheckpoints: 2}}
	for _, r := range []*pb.JournalRecord{sub, attempt(1), done(1, false), done(2, true), done(3, false), attempt(2), attempt(1), done(4, false)} {
		apply(r)
	}
	j := Job(s, "j")
	if j.GetEpoch() != 2 || j.GetRestarts() != 1 || j.GetLatest().GetCheckpointId() != 4 || len(j.GetRetained()) != 2 || len(s.GetSavepoints()) != 1 {
		t.Errorf("fold = %v", s)
	}
	apply(&pb.JournalRecord{Body: &pb.JournalRecord_SavepointDisposed{SavepointDisposed: &pb.SavepointDisposed{Manifest: "m2"}}})
	apply(&pb.JournalRecord{Body: &pb.JournalRecord_JobForgotten{JobForgotten: &pb.JobForgotten{JobId: "j"}}})
	if len(s.GetSavepoints()) != 0 || len(s.GetJobs()) != 0 || s.GetLastRecord() != n {
		t.Errorf("fold after dispose and forget = %v", s)
	}
}

// What an append depends on is judged by the fold of all that comes before it,
// also of a record whose fate was not known when it was asked for.
func TestAppendIf(t *testing.T) {
	f := &faulty{Bucket: blob.NewMemory()}
	j := open(t, f, "leader")
	ctx, cancel := context.WithCancel(t.Context())
	f.set(func(string) (error, error) {
		cancel()
		return nil, errors.New("broken") // written, yet not answered
	})
	if err := j.Append(ctx, submitted("job")); api.CodeOf(err) != api.BucketUnavailable {
		t.Fatalf("append to a broken bucket = %v", err)
	}
	f.set(nil)
	taken := errors.New("taken")
	once := func(fold *pb.JournalSnapshot) error {
		if Job(fold, "job") != nil {
			return taken
		}
		return nil
	}
	if err := j.AppendIf(t.Context(), submitted("job"), once); !errors.Is(err, taken) {
		t.Errorf("append behind a record that had been written: %v, want %v", err, taken)
	}
	before := j.State().GetLastRecord()
	if err := j.AppendIf(t.Context(), submitted("job"), once); !errors.Is(err, taken) {
		t.Errorf("second append: %v, want %v", err, taken)
	}
	if got := j.State().GetLastRecord(); got != before {
		t.Errorf("a refused append moved the journal from record %d to %d", before, got)
	}
	appendJob(t, j, "next")
}

func TestFailuresAndEpochsInTheFold(t *testing.T) {
	s := &pb.JournalSnapshot{}
	n := uint64(0)
	apply := func(r *pb.JournalRecord) { n++; Apply(s, n, r) }
	attempt := func(job string, epoch uint64, cause *pb.Error) {
		apply(&pb.JournalRecord{AtMs: int64(1000 + epoch), Body: &pb.JournalRecord_JobAttempt{JobAttempt: &pb.JobAttempt{
			JobId: job, Epoch: epoch, Cause: cause, Task: "sum (1/1)", Uncounted: epoch == 29}}})
	}
	for _, id := range []string{"a", "b"} {
		apply(&pb.JournalRecord{Body: &pb.JournalRecord_JobSubmitted{JobSubmitted: &pb.JobSubmitted{JobId: id, Lineage: "a"}}})
	}
	attempt("a", 1, nil)
	for e := uint64(2); e < 30; e++ {
		attempt("a", e, &pb.Error{Code: "worker-exited", Stack: strings.Repeat("é", keepStack)})
	}
	attempt("a", 30, nil) // a new leader's
	attempt("b", 31, nil)
	if got := EpochOf(s, "a"); got != 31 {
		t.Errorf("epoch of the lineage: %d, want 31", got)
	}
	fs := Job(s, "a").GetFailures()
	if len(fs) != KeepFailures {
		t.Fatalf("%d failures are kept, want %d", len(fs), KeepFailures)
	}
	last := fs[len(fs)-1]
	if last.GetEpoch() != 28 || last.GetAtMs() != 1029 || last.GetTask() != "sum (1/1)" || len(last.GetError().GetStack()) > keepStack {
		t.Errorf("last failure: epoch %d at %d of %s, stack of %d bytes", last.GetEpoch(), last.GetAtMs(), last.GetTask(), len(last.GetError().GetStack()))
	}
	if !last.GetUncounted() || fs[len(fs)-2].GetUncounted() {
		t.Errorf("failures that do not count: %v, want the last only", fs)
	}
	if _, err := encode(snapshotMagic, s); err != nil {
		t.Error(err)
	}
}

// Prefixes to be emptied are remembered until they are, or a job has one again.
func TestFoldOfNeedlessPrefixes(t *testing.T) {
	s := &pb.JournalSnapshot{}
	ended := func(id string, needless bool) *pb.JournalRecord {
		return &pb.JournalRecord{Body: &pb.JournalRecord_JobEnded{JobEnded: &pb.JobEnded{JobId: id, Needless: needless}}}
	}
	deleted := func(prefix string) *pb.JournalRecord {
		return &pb.JournalRecord{Body: &pb.JournalRecord_ObjectsDeleted{ObjectsDeleted: &pb.ObjectsDeleted{Prefix: prefix}}}
	}
	forgotten := func(id string) *pb.JournalRecord {
		return &pb.JournalRecord{Body: &pb.JournalRecord_JobForgotten{JobForgotten: &pb.JobForgotten{JobId: id}}}
	}
	disposed := &pb.JournalRecord{Body: &pb.JournalRecord_SavepointDisposed{SavepointDisposed: &pb.SavepointDisposed{Manifest: "savepoints/a-1-2/manifest"}}}
	for i, step := range []struct {
		record *pb.JournalRecord
		want   []string
	}{
		{submitted("a"), nil},
		{submitted("b"), nil},
		{ended("a", true), []string{"jobs/a/"}},
		{ended("b", false), []string{"jobs/a/"}},
		{disposed, []string{"jobs/a/", "savepoints/a-1-2/"}},
		{deleted("jobs/b/"), []string{"jobs/a/", "savepoints/a-1-2/"}},
		{deleted("savepoints/a-1-2/"), []string{"jobs/a/"}},
		{ended("nobody", true), []string{"jobs/a/"}},
		{forgotten("a"), []string{"jobs/a/"}},
		{submitted("a"), nil}, // it writes there
		{ended("a", true), []string{"jobs/a/"}},
		{deleted("jobs/a/"), nil},
	} {
		Apply(s, uint64(i+1), step.record)
		if !slices.Equal(s.GetNeedless(), step.want) {
			t.Errorf("after record %d: %v, want %v", i+1, s.GetNeedless(), step.want)
		}
	}
	for i := range KeepNeedless + 3 {
		Apply(s, uint64(100+i), &pb.JournalRecord{Body: &pb.JournalRecord_SavepointDisposed{SavepointDisposed: &pb.SavepointDisposed{Manifest: fmt.Sprint("s/", i, "/manifest")}}})
	}
	if got := s.GetNeedless(); len(got) != KeepNeedless || got[0] != "s/3/" {
		t.Errorf("%d prefixes, the first is %s", len(got), got[0])
	}
}

// What an attempt says of parallelism holds until another says something else;
// only what differs from the submitted graph is kept. A rescale is no restart.
func TestFoldOfParallelism(t *testing.T) {
	s := &pb.JournalSnapshot{Jobs: []*pb.JobRecord{{Submitted: &pb.JobSubmitted{JobId: "job", Graph: &pb.JobGraph{Vertices: []*pb.Vertex{
		{Id: "v1", Parallelism: 1}, {Id: "v2", Parallelism: 2},
	}}}}}}
	for i, step := range []struct {
		attempt            *pb.JobAttempt
		want               map[string]uint32
		restarts, rescales uint64
	}{
		{&pb.JobAttempt{Epoch: 1}, nil, 0, 0},
		{&pb.JobAttempt{Epoch: 2, Rescaled: true, Parallelism: map[string]uint32{"v1": 1, "v2": 4, "gone": 9}}, map[string]uint32{"v2": 4}, 0, 1},
		{&pb.JobAttempt{Epoch: 3, Cause: &pb.Error{Code: "worker-exited"}}, map[string]uint32{"v2": 4}, 1, 1},
		{&pb.JobAttempt{Epoch: 4, Rescaled: true}, map[string]uint32{"v2": 4}, 1, 1}, // a halt that failed
		{&pb.JobAttempt{Epoch: 4, Parallelism: map[string]uint32{"v2": 7}}, map[string]uint32{"v2": 4}, 1, 1},
		{&pb.JobAttempt{Epoch: 5, Rescaled: true, Parallelism: map[string]uint32{"v1": 1, "v2": 2}}, map[string]uint32{}, 1, 2},
	} {
		step.attempt.JobId = "job"
		Apply(s, uint64(i+1), &pb.JournalRecord{Body: &pb.JournalRecord_JobAttempt{JobAttempt: step.attempt}})
		j := s.GetJobs()[0]
		if diff := cmp.Diff(step.want, j.GetParallelism()); diff != "" || j.GetRestarts() != step.restarts || j.GetRescales() != step.rescales {
			t.Errorf("after attempt %d: %d restarts, %d rescales, parallelism (-want +got):\n%s", i, j.GetRestarts(), j.GetRescales(), diff)
		}
	}
}
