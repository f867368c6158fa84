package shardlog

import (
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/millrace/millrace/stream"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Two writers that take themselves for the same attempt: what does not fit is
// an error, never silence.
func TestASecondWriterOfATransactionIsNoticed(t *testing.T) {
	fs := vfs.NewMem()
	l, stop := startLog(t, "log", Options{FS: fs})
	if err := l.Create(t.Context(), Spec{ID: shard0}); err != nil {
		t.Fatal(err)
	}
	stage := func(records ...string) error {
		return l.Stage(t.Context(), shard0, tx(1, 1), 0, 0, makeBlock(records...))
	}
	for range 2 { // the second is a repetition
		if err := stage("a", "b"); err != nil {
			t.Fatal(err)
		}
	}
	wantKind(t, stage("c"), stream.InvalidArgument)
	if n, already, err := l.Commit(t.Context(), shard0, tx(1, 1), []*pb.StagedCount{count(0, 1, 2)}); n != 2 || already || err != nil {
		t.Fatalf("commit: %d, %v, %v", n, already, err)
	}
	wantKind(t, stage("a", "b"), stream.InvalidArgument)
	for range 2 { // also by what is on disk
		if n, already, err := l.Commit(t.Context(), shard0, tx(1, 1), []*pb.StagedCount{count(0, 1, 2)}); n != 2 || !already || err != nil {
			t.Errorf("repeated commit: %d, %v, %v", n, already, err)
		}
		_, _, err := l.Commit(t.Context(), shard0, tx(1, 1), []*pb.StagedCount{count(0, 1, 1), count(1, 1, 2)})
		wantKind(t, err, stream.Incomplete)
		if err != nil && !strings.Contains(err.Error(), "committed with 2 records") {
			t.Errorf("error %q does not say what was committed", err)
		}
		wantRecords(t, l, shard0, "a", "b")
		stop()
		l, stop = startLog(t, "log", Options{FS: fs})
	}
	stop()
}

// A fork commits what its savepoint holds as the owner's transactions. It fences
// its own lineage only, and keeps nothing of its own for the owner's names.
func TestAForkFencesItsOwnLineageOnly(t *testing.T) {
	l := openLog(t, "log", Options{FS: vfs.NewMem()})
	if err := l.Create(t.Context(), Spec{ID: shard0}); err != nil {
		t.Fatal(err)
	}
	of := func(lineage string, epoch, checkpoint uint64) *pb.Transaction {
		return &pb.Transaction{Lineage: lineage, Sink: "sink", Epoch: epoch, Checkpoint: checkpoint}
	}
	one := []*pb.StagedCount{count(0, 1, 1)}
	stage := func(tx *pb.Transaction, text string) {
		t.Helper()
		if err := l.Stage(t.Context(), shard0, tx, 0, 0, makeBlock(text)); err != nil {
			t.Fatal(err)
		}
	}
	stage(of("owner", 3, 1), "saved") // in the savepoint, not committed yet
	stage(of("owner", 3, 2), "after")
	stage(of("fork", 3, 1), "lost") // of the fork's first attempt, which fails
	keep := []*pb.Transaction{of("owner", 3, 1)}
	if n, err := l.Fence(t.Context(), shard0, "fork", "sink", 4, keep); n != 1 || err != nil {
		t.Errorf("the fork's fence dropped %d blocks (%v), want its own", n, err)
	}
	for _, already := range []bool{false, true} {
		if n, was, err := l.Commit(t.Context(), shard0, of("owner", 3, 1), one); n != 1 || was != already || err != nil {
			t.Errorf("commit of the savepoint: %d, %v, %v", n, was, err)
		}
	}
	stage(of("fork", 4, 1), "forked")
	for _, tx := range []*pb.Transaction{of("owner", 3, 2), of("fork", 4, 1)} {
		if _, already, err := l.Commit(t.Context(), shard0, tx, one); already || err != nil {
			t.Errorf("commit of %s: %v, %v", tx.GetLineage(), already, err)
		}
	}
	wantRecords(t, l, shard0, "saved", "after", "forked")
}
