package manifest

import (
	"context"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/checkpoint/snapshot"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

func run(t testing.TB, value string) snapshot.Run {
	w := snapshot.NewWriter(128)
	w.Put(5, "sum", 0, []byte("key"), []byte(value))
	r, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// savepoint writes a small savepoint of two objects and one inline run.
func savepoint(t testing.TB, b blob.Bucket) (key string, m *pb.Manifest) {
	t.Helper()
	ctx := context.Background()
	m = &pb.Manifest{
		JobId: "job", Lineage: "first", Epoch: 3, CheckpointId: 17, TriggeredMs: 1000, CompletedMs: 1100, Savepoint: true,
		PlanHash: []byte{1, 2}, Graph: &pb.JobGraph{Name: "flights"},
	}
	for i, object := range []string{"savepoints/s/state-0", "savepoints/s/state-1", ""} {
		r := run(t, strings.Repeat("v", i+1))
		ref := r.Inline()
		if object != "" {
			if _, err := b.PutIfAbsent(ctx, object, append([]byte("other run"), r.Bytes...)); err != nil {
				t.Fatal(err)
			}
			ref = r.Ref(object, 9)
		}
		m.Operators = append(m.Operators, &pb.OperatorSnapshot{
			Uid: "sum", Subtask: uint32(i), Parallelism: 3, MaxParallelism: 128, Runs: []*pb.RunRef{ref},
			Entries: []*pb.OperatorEntry{{Kind: "handle", Value: []byte("h")}},
		})
	}
	key = "savepoints/s/manifest"
	if err := Write(ctx, b, key, m); err != nil {
		t.Fatal(err)
	}
	return key, m
}

func TestReadGivesWhatWasWritten(t *testing.T) {
	b := blob.NewMemory()
	key, want := savepoint(t, b)
	got, err := Read(context.Background(), b, key)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"savepoints/s/state-0", "savepoints/s/state-1"}, Objects(got)); diff != "" {
		t.Error(diff)
	}
}

func TestGoldenManifest(t *testing.T) {
	data, err := Encode(&pb.Manifest{JobId: "job", Lineage: "l", Epoch: 2, CheckpointId: 9, Savepoint: true, Drained: true})
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/manifest-v1.hex")
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(data); got != strings.TrimSpace(string(want)) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestEveryFlippedBitAndEveryTruncationIsSeen(t *testing.T) {
	b := blob.NewMemory()
	key, _ := savepoint(t, b)
	data, _, err := b.Get(context.Background(), key, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(data) * 8 {
		bad := append([]byte(nil), data...)
		bad[i/8] ^= 1 << (i % 8)
		var c *CorruptError
		_, err := Decode(key, bad)
		if !errors.As(err, &c) || !strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), "offset") {
			t.Fatalf("bit %d of byte %d flipped: %v", i%8, i/8, err)
		}
	}
	for n := range data {
		_, err := Decode(key, data[:n])
		if Code(err) != "snapshot-truncated" {
			t.Fatalf("%d of %d bytes: %v", n, len(data), err)
		}
	}
	if _, err := Decode(key, append(data, 0)); Code(err) != "snapshot-corrupt" {
		t.Errorf("a byte too many: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	data, _ := Encode(&pb.Manifest{JobId: "job"})
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Decode("fuzz", data)
		if err != nil {
			var c *CorruptError
			if !errors.As(err, &c) || c.Offset < 0 || c.Offset > int64(len(data)) {
				t.Fatalf("%v", err)
			}
			return
		}
		if _, err := Encode(m); err != nil {
			t.Fatal(err)
		}
	})
}

func TestErrorsNameTheObjectOnce(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	const key = "savepoints/s/manifest"
	_, missing := Read(t.Context(), blob.NewMemory(), key)
	for what, err := range map[string]error{"write": Write(ctx, blob.NewMemory(), key, &pb.Manifest{}), "read": missing} {
		if err == nil || strings.Count(err.Error(), key) != 1 {
			t.Errorf("%s: %v, want an error that names %s once", what, err, key)
		}
	}
}
