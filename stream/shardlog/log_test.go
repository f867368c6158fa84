package shardlog

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/millrace/millrace/internal/clock"
	pb "github.com/millrace/millrace/proto/millrace/v1"
	"github.com/millrace/millrace/stream"
	"github.com/millrace/millrace/stream/block"
)

// openLog runs a log until the test ends.
func openLog(t testing.TB, dir string, opt Options) *Log {
	t.Helper()
	l, stop := startLog(t, dir, opt)
	t.Cleanup(stop)
	return l
}

// startLog runs a log until stop is called.
func startLog(t testing.TB, dir string, opt Options) (*Log, func()) {
	t.Helper()
	l, err := Open(dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- l.Run(ctx) }()
	stopped := false
	return l, func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		<-ran
		if err := l.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
}

func makeBlock(records ...string) block.Block {
	var b block.Builder
	for _, r := range records {
		b.Add("key-"+r, stream.HashOf("key-"+r), []byte(r))
	}
	return b.Finish()
}

func texts(t testing.TB, b block.Block) []string {
	t.Helper()
	var out []string
	it := b.Records()
	for r := (block.Record{}); it.Next(&r); {
		if want := "key-" + string(r.Data); string(r.Key) != want {
			t.Errorf("record %q has key %q, want %q", r.Data, r.Key, want)
		}
		out = append(out, string(r.Data))
	}
	if it.Err() != nil {
		t.Fatal(it.Err())
	}
	return out
}

func readAll(t testing.TB, l *Log, id ID) []string {
	t.Helper()
	var out []string
	at := stream.Position{From: stream.FromTrimHorizon}
	for {
		a, err := l.Read(t.Context(), id, ReadRequest{At: at, MaxRecords: 3, MaxBytes: 1 << 20})
		if err != nil {
			t.Fatalf("read %v: %v", id, err)
		}
		if a.Records == nil {
			return out
		}
		if err := a.Records.Verify(); err != nil {
			t.Fatal(err)
		}
		out = append(out, texts(t, a.Records)...)
		at = stream.Position{From: stream.FromAfterSequence, Sequence: a.Next}
	}
}

func wantRecords(t testing.TB, l *Log, id ID, want ...string) {
	t.Helper()
	if got := readAll(t, l, id); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("shard %v holds %v, want %v", id, got, want)
	}
}

func wantKind(t testing.TB, err error, kind stream.Kind) {
	t.Helper()
	if err == nil || stream.KindOf(err) != kind {
		t.Errorf("got error %v, want one of kind %q", err, kind)
	}
}

func tx(epoch, checkpoint uint64) *pb.Transaction {
	return &pb.Transaction{Lineage: "lineage", Sink: "sink", Epoch: epoch, Checkpoint: checkpoint}
}

func count(subtask uint32, blocks, records uint64) *pb.StagedCount {
	return &pb.StagedCount{Subtask: subtask, Blocks: blocks, Records: records}
}

var shard0, shard1 = ID{7, 0}, ID{7, 1}

func TestAppendedRecordsAreReadInOrderAndSurviveReopening(t *testing.T) {
	fs := vfs.NewMem()
	l, stop := startLog(t, "log", Options{FS: fs})
	if err := l.Create(t.Context(), Spec{ID: shard0}, Spec{ID: shard1}); err != nil {
		t.Fatal(err)
	}
	first, last, err := l.Append(t.Context(), shard0, makeBlock("a", "b"))
	if err != nil || first != shard0.sequence(1) || last != shard0.sequence(2) {
		t.Fatalf("append: %v to %v, %v", first, last, err)
	}
	for i, a := range l.AppendAll(t.Context(), []Batch{{shard0, makeBlock("c")}, {ID{9, 9}, makeBlock("x")}, {shard1, makeBlock("d")}}) {
		if (a.Err != nil) != (i == 1) {
			t.Errorf("batch %d: %v", i, a.Err)
		}
	}
	wantRecords(t, l, shard0, "a", "b", "c")
	stop()
	l = openLog(t, "log", Options{FS: fs})
	wantRecords(t, l, shard0, "a", "b", "c")
	wantRecords(t, l, shard1, "d")
	if first, _, err := l.Append(t.Context(), shard0, makeBlock("e")); err != nil || first.Place() != 4 {
		t.Errorf("after reopening the next record is %d (%v), want 4", first.Place(), err)
	}
	if n := len(l.Shards()); n != 2 {
		t.Errorf("%d shards after reopening, want 2", n)
	}
}

func TestPositions(t *testing.T) {
	now := clock.NewVirtual(time.UnixMilli(1000))
	l := openLog(t, "log", Options{FS: vfs.NewMem(), Clock: now})
	if err := l.Create(t.Context(), Spec{ID: shard0}); err != nil {
		t.Fatal(err)
	}
	for _, r := range [][]string{{"a", "b"}, {"c"}, {"d", "e"}} {
		if _, _, err := l.Append(t.Context(), shard0, makeBlock(r...)); err != nil {
			t.Fatal(err)
		}
		now.Advance(time.Second) // a,b at 1000; c at 2000; d,e at 3000
	}
	for name, c := range map[string]struct {
		at     stream.Position
		want   string
		behind int64
	}{
		"trim horizon":     {stream.Position{From: stream.FromTrimHorizon}, "[a b]", 2000},
		"at sequence":      {stream.Position{From: stream.FromAtSequence, Sequence: shard0.sequence(2)}, "[b c]", 1000},
		"at the start":     {stream.Position{From: stream.FromAtSequence, Sequence: shard0.sequence(0)}, "[a b]", 2000},
		"after sequence":   {stream.Position{From: stream.FromAfterSequence, Sequence: shard0.sequence(3)}, "[d e]", 0},
		"before all":       {stream.Position{From: stream.FromTimestamp, Timestamp: 1}, "[a b]", 2000},
		"at a time":        {stream.Position{From: stream.FromTimestamp, Timestamp: 2000}, "[c d]", 1000},
		"between times":    {stream.Position{From: stream.FromTimestamp, Timestamp: 2001}, "[d e]", 0},
		"after all":        {stream.Position{From: stream.FromTimestamp, Timestamp: 3001}, "[]", 0},
		"latest":           {stream.Position{From: stream.FromLatest}, "[]", 0},
		"after the latest": {stream.Position{From: stream.FromAfterSequence, Sequence: shard0.sequence(5)}, "[]", 0},
	} {
		a, err := l.Read(t.Context(), shard0, ReadRequest{At: c.at, MaxRecords: 2, MaxBytes: 1 << 20})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := fmt.Sprint(texts(t, a.Records)); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
		if a.MillisBehind != c.behind {
			t.Errorf("%s: %d ms behind, want %d", name, a.MillisBehind, c.behind)
		}
	}
	for name, seq := range map[string]stream.Sequence{
		"another shard": shard1.sequence(1), "another generation": ID{8, 0}.sequence(1), "beyond the tip": shard0.sequence(6),
	} {
		_, err := l.Read(t.Context(), shard0, ReadRequest{At: stream.Position{From: stream.FromAfterSequence, Sequence: seq}, MaxRecords: 1})
		if err == nil {
			t.Errorf("%s: sequence number was taken", name)
		}
		wantKind(t, err, stream.InvalidArgument)
	}
}

func TestReadersAtTheTipAreWoken(t *testing.T) {
	l := openLog(t, "log", Options{FS: vfs.NewMem()})
	if err := l.Create(t.Context(), Spec{ID: shard0}); err != nil {
		t.Fatal(err)
	}
	const readers = 5
	got := make(chan string, readers)
	for range readers {
		go func() {
			a, err := l.Read(t.Context(), shard0, ReadRequest{At: stream.Position{From: stream.FromLatest}, MaxRecords: 9, MaxBytes: 1 << 20, Wait: time.Minute})
			got <- fmt.Sprint(texts(t, a.Records), err)
		}()
	}
	awaitWaiting(t, l, shard0, readers)
	if _, _, err := l.Append(t.Context(), shard0, makeBlock("a")); err != nil {
		t.Fatal(err)
	}
	for range readers {
		if g := <-got; g != "[a] <nil>" {
			t.Errorf("a reader at the tip got %s", g)
		}
	}
	// Commits wake them too, staging does not, and dropping ends them.
	go func() {
		a, err := l.Read(t.Context(), shard0, ReadRequest{At: stream.Position{From: stream.FromLatest}, MaxRecords: 9, MaxBytes: 1 << 20, Wait: time.Minute})
		got <- fmt.Sprint(texts(t, a.Records), err)
	}()
	awaitWaiting(t, l, shard0, 1)
	if err := l.Stage(t.Context(), shard0, tx(1, 1), 0, 0, makeBlock("b")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.Commit(t.Context(), shard0, tx(1, 1), []*pb.StagedCount{count(0, 1, 1)}); err != nil {
		t.Fatal(err)
	}
	if g := <-got; g != "[b] <nil>" {
		t.Errorf("a reader at the tip got %s after a commit", g)
	}
	failed := make(chan error)
	go func() {
		_, err := l.Read(t.Context(), shard0, ReadRequest{At: stream.Position{From: stream.FromLatest}, MaxRecords: 9, Wait: time.Minute})
		failed <- err
	}()
	awaitWaiting(t, l, shard0, 1)
	if err := l.Drop(t.Context(), 7); err != nil {
		t.Fatal(err)
	}
	wantKind(t, <-failed, stream.NotFound)
}

// awaitWaiting yields until n readers wait at the tip.
func awaitWaiting(t *testing.T, l *Log, id ID, n int) {
	t.Helper()
	s, release, err := l.shard(id)
	if err != nil {
		t.Fatal(err)
	}
	release()
	for {
		s.mu.Lock()
		waiting := s.mu.waiting
		s.mu.Unlock()
		if waiting == n {
			return
		}
		select {
		case <-t.Context().Done():
			t.Fatalf("%d readers wait, want %d", waiting, n)
		default:
			runtime.Gosched()
		}
	}
}

// parseSeed is the seed that MILLRACE_SEED asks for.
func parseSeed() (uint64, error) {
	return strconv.ParseUint(os.Getenv("MILLRACE_SEED"), 10, 64)
}
