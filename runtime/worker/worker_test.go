package worker

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/internal/clock"
	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/graph"
	"github.com/millrace/millrace/runtime/operator"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// failure runs an attempt that must fail and returns the report.
func failure(t *testing.T, m *master, parallelism int) *pb.Error {
	t.Helper()
	var failed *pb.Error
	err := m.attempt(parallelism)
	if err == nil {
		t.Fatal("the attempt did not fail")
	}
	failed = m.failed
	m.cancel()
	return failed
}

func TestAFailedTaskIsReportedAndTheNextAttemptRuns(t *testing.T) {
	src, out := &feed{n: 1000}, newLedger()
	build := job(t, src, out)
	var broken atomic.Bool
	broken.Store(true)
	m := newMaster(t, func() (*graph.Graph, error) {
		g, err := build()
		if err == nil {
			g.Nodes[1].New = func() operator.Operator {
				return operator.NewMap(func(e event) event {
					if broken.Load() && e.N == 500 {
						panic("planted")
					}
					return e
				})
			}
		}
		return g, err
	}, blob.NewMemory(), 1, 0)
	defer m.stop()
	m.pace = func() { src.raise(200) }
	e := failure(t, m, 2)
	if e.GetCode() != "user-function-panicked" || e.GetOperator() != "same" || !strings.Contains(e.GetStack(), "worker_test.go") {
		t.Errorf("got %v", e)
	}
	broken.Store(false)
	if err := m.attempt(2); err != nil {
		t.Fatal(err)
	}
	if got, want := len(out.committed()), len(wanted(1000)); got != want {
		t.Errorf("%d rows, want %d", got, want)
	}
}

func TestDeploymentsThatAreRefused(t *testing.T) {
	src := &feed{n: 10}
	src.raise(10)
	m := newMaster(t, job(t, src, newLedger()), blob.NewMemory(), 1, 0)
	defer m.stop()
	if err := m.attempt(1); err != nil {
		t.Fatal(err)
	}
	good := m.complete
	with := func(change func(*pb.OperatorSnapshot)) *pb.Manifest {
		man := clone(good)
		for _, s := range man.Operators {
			if s.GetUid() == "count" {
				change(s)
			}
		}
		return man
	}
	for name, c := range map[string]struct {
		manifest *pb.Manifest
		code     string
	}{
		"state of an operator that is gone": {with(func(s *pb.OperatorSnapshot) { s.Uid = "before" }), "state-unmatched"},
		"other key groups":                  {with(func(s *pb.OperatorSnapshot) { s.MaxParallelism = 7 }), "state-incompatible"},
		"a flipped bit":                     {with(func(s *pb.OperatorSnapshot) { s.Runs[0].Inline[40] ^= 1 }), "snapshot-corrupt"},
		"a missing object":                  {with(func(s *pb.OperatorSnapshot) { s.Runs[0].Object = "gone"; s.Runs[0].Inline = nil }), "snapshot-missing"},
	} {
		m.complete = c.manifest
		if e := failure(t, m, 1); e.GetCode() != c.code {
			t.Errorf("%s: %v", name, e)
		}
	}
}

// refuse is a bucket that fails its first writes.
type refuse struct {
	blob.Bucket
	left atomic.Int64
}

func (r *refuse) Put(ctx context.Context, key string, body io.Reader, size int64) error {
	if r.left.Add(-1) >= 0 {
		return errors.New("planted: 503 slow down")
	}
	return r.Bucket.Put(ctx, key, body, size)
}

func TestUploadsAreTriedAgainThenDeclined(t *testing.T) {
	for _, c := range []struct {
		failures int64
		code     string
	}{{uploadTries - 1, ""}, {uploadTries, "bucket-unavailable"}} {
		src, out := &feed{n: 100}, newLedger()
		src.raise(100)
		b := &refuse{Bucket: blob.NewMemory()}
		b.left.Store(c.failures)
		m := newMaster(t, job(t, src, out), b, 1, 1)
		if c.code == "" {
			if err := m.attempt(1); err != nil {
				t.Error(err)
			}
		} else if e := failure(t, m, 1); e.GetCode() != c.code {
			t.Errorf("%d failures: %v", c.failures, e)
		}
		m.stop()
	}
}

// A savepoint shares nothing, and later checkpoints do not refer to it.
func TestSavepoint(t *testing.T) {
	src, out := &feed{n: 2000}, newLedger()
	m := newMaster(t, job(t, src, out), blob.NewMemory(), 1, 1)
	defer m.stop()
	var manifests []*pb.Manifest
	m.pace = func() {
		src.raise(100)
		if m.complete != nil {
			manifests = append(manifests, m.complete)
		}
		m.savepoint = m.id%3 == 0
	}
	if err := m.attempt(2); err != nil {
		t.Fatal(err)
	}
	// The last checkpoint was taken at the end of time; what it keeps of event
	// time is where a job that goes on from it goes on.
	for _, s := range m.complete.GetOperators() {
		if s.GetUid() != "count" {
			continue
		}
		w, err := operator.RestoredWatermark(s.GetEntries(), operator.KeyInput)
		if err != nil || w == batch.NoTime || w >= src.n {
			t.Errorf("subtask %d keeps watermark %d, %v", s.GetSubtask(), w, err)
		}
	}
	chained := false
	for _, man := range manifests {
		for _, s := range man.GetOperators() {
			chained = chained || len(s.GetRuns()) > 1
			for _, r := range s.GetRuns() {
				if saved := strings.HasPrefix(r.GetObject(), "savepoints/"); saved != man.GetSavepoint() {
					t.Errorf("checkpoint %d, savepoint %v, refers to %s", man.GetCheckpointId(), man.GetSavepoint(), r.GetObject())
				}
			}
		}
	}
	if !chained {
		t.Error("no checkpoint had a chain of runs: they are not incremental")
	}
	// Another job starts from the savepoint's state alone.
	for _, man := range manifests {
		if man.GetSavepoint() {
			m.complete = man
			break
		}
	}
	if err := m.attempt(3); err != nil {
		t.Fatal(err)
	}
}

func TestMetricsReport(t *testing.T) {
	src := &feed{n: 100}
	src.raise(99)
	virtual := clock.NewVirtual(clock.System.Now())
	m := newMasterWith(t, job(t, src, newLedger()), blob.NewMemory(), 1, 0, virtual)
	defer m.stop()
	done := make(chan error, 1)
	m.pace = func() {
		virtual.Advance(1_000_000_000)
		r := <-m.metrics
		if len(r.GetTasks()) != 4 || r.GetProcess().GetGoroutines() == 0 || r.GetProcess().GetHeapBytes() == 0 {
			t.Errorf("report: %v", r)
		}
		src.raise(1)
		m.pace = func() {}
	}
	go func() { done <- m.attempt(2) }()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestStaleCommandsAreIgnored(t *testing.T) {
	reports := make(chan *pb.WorkerReport, 10)
	var log bytes.Buffer
	w, err := New(Config{
		Graph:  func() (*graph.Graph, error) { log.WriteString("built "); return nil, errors.New("planted") },
		Bucket: blob.NewMemory(), Send: func(r *pb.WorkerReport) { reports <- r },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	cancelTasks := func(epoch uint64) *pb.WorkerCommand {
		return &pb.WorkerCommand{Epoch: epoch, Body: &pb.WorkerCommand_Cancel{Cancel: &pb.CancelTasks{}}}
	}
	w.Handle(cancelTasks(5))
	w.Handle(&pb.WorkerCommand{Epoch: 4, Body: &pb.WorkerCommand_Deploy{Deploy: &pb.Deploy{}}})
	w.Handle(&pb.WorkerCommand{Epoch: 6, Body: &pb.WorkerCommand_Start{Start: &pb.Start{}}})
	w.Handle(cancelTasks(5))
	for range 2 {
		if r := <-reports; r.GetEnded() == nil || r.GetEpoch() != 5 {
			t.Errorf("report: %v", r)
		}
	}
	w.Handle(&pb.WorkerCommand{Epoch: 7, Body: &pb.WorkerCommand_Deploy{Deploy: &pb.Deploy{}}})
	if r := <-reports; r.GetFailed().GetError().GetCode() != "build-failed" || r.GetEpoch() != 7 {
		t.Errorf("report: %v", r)
	}
	cancel()
	if err := <-ended; err != nil || log.String() != "built " {
		t.Errorf("run: %v; %s", err, log.String())
	}
}
