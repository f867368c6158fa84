package worker

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/checkpoint/manifest"
	"github.com/millrace/millrace/internal/clock"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// countingBucket counts reads of state objects.
type countingBucket struct {
	blob.Bucket
	mu   sync.Mutex
	gets map[string]int
}

func (c *countingBucket) Get(ctx context.Context, key string, offset, length int64) ([]byte, blob.Version, error) {
	c.mu.Lock()
	c.gets[key]++
	c.mu.Unlock()
	return c.Bucket.Get(ctx, key, offset, length)
}

func inFolder(dir string) func(*Config) {
	return func(c *Config) {
		c.LocalDir = filepath.Join(dir, c.WorkerID)
		c.SnapshotMemory = 2000
	}
}

// half runs a job to about its middle and returns what it completed last.
func half(t *testing.T, m *master, src *feed) *pb.Manifest {
	t.Helper()
	src.raise(src.n / 2)
	m.crash = func() bool { return m.id >= 6 && m.complete.GetCheckpointId() == m.id }
	if err := m.attempt(2); err != errCrash {
		t.Fatal(err)
	}
	m.cancel()
	return m.complete
}

// A worker that comes after one that was killed restores from the copies that
// this one left, and does not ask the bucket; where the copies are damaged it
// does, says so, and comes to the same result.
func TestRestoreFromCopies(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(t *testing.T, path string)
		gets   bool
	}{
		"whole": {func(*testing.T, string) {}, false},
		"cut off": {func(t *testing.T, path string) {
			if err := os.Truncate(path, 30); err != nil {
				t.Fatal(err)
			}
		}, true},
		"a bit flipped": {func(t *testing.T, path string) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			data[len(data)/2] ^= 4
			if err := os.WriteFile(path, data, 0o644); err != nil {
				t.Fatal(err)
			}
		}, true},
		"gone": {func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			src, out := &feed{n: 2000}, newLedger()
			b := &countingBucket{Bucket: blob.NewMemory(), gets: map[string]int{}}
			dir := t.TempDir()
			first := newMasterWith(t, job(t, src, out), b, 1, 1, clock.System, inFolder(dir))
			complete := half(t, first, src)
			first.stop()
			clear(b.gets)
			files, err := filepath.Glob(filepath.Join(dir, "w0", copiesFolder, "*"))
			if err != nil || len(files) == 0 {
				t.Fatalf("copies: %v, %v", files, err)
			}
			for _, f := range files {
				c.damage(t, f)
			}
			var log bytes.Buffer
			second := newMasterWith(t, job(t, src, out), b, 1, 1, clock.System, inFolder(dir), func(c *Config) {
				c.Log = slog.New(slog.NewTextHandler(&log, nil))
			})
			defer second.stop()
			second.complete, second.epoch, second.id = complete, first.epoch, first.id
			src.raise(src.n)
			if err := second.attempt(2); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(wanted(src.n), out.committed()); diff != "" {
				t.Error(diff)
			}
			if got := len(b.gets) > 0; got != c.gets {
				t.Errorf("reads of the bucket: %v", b.gets)
			}
			if got := strings.Contains(log.String(), "a copy of state is damaged"); got != (c.gets && name != "gone") {
				t.Errorf("log: %s", log.String())
			}
		})
	}
}

// What stays on disk is what the last checkpoint names, nothing else.
func TestCopiesAreThoseOfTheLastCheckpoint(t *testing.T) {
	src, out := &feed{n: 2000}, newLedger()
	dir := t.TempDir()
	folder := filepath.Join(dir, "w0", copiesFolder)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "of another attempt"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	m := newMasterWith(t, job(t, src, out), blob.NewMemory(), 1, 1, clock.System, inFolder(dir))
	complete := half(t, m, src)
	m.stop()
	want := map[string]bool{}
	for _, object := range manifest.Objects(complete) {
		want[copyName(object)] = true
	}
	files, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	// The master may have been cancelled before it told of the last one.
	if len(files) < len(want) || len(files) > len(want)+4 {
		t.Errorf("%d copies, the checkpoint names %d objects", len(files), len(want))
	}
	for name := range want {
		if _, err := os.Stat(filepath.Join(folder, name)); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(filepath.Join(folder, "of another attempt")); err == nil {
		t.Error("a copy that no checkpoint names was not removed")
	}
	scratch, err := os.ReadDir(filepath.Join(dir, "w0", scratchFolder))
	if err != nil || len(scratch) > 0 {
		t.Errorf("scratch: %v, %v", scratch, err)
	}
}

// Merges may follow each other without a pause: what they have made needless goes
// all the same, and the copy of the one under way stays.
func TestCopiesGoWhileRunsAreMerged(t *testing.T) {
	w, err := New(Config{
		Graph: job(t, &feed{}, newLedger()), Bucket: blob.NewMemory(), JobID: "j", WorkerID: "w", Send: func(*pb.WorkerReport) {}, LocalDir: t.TempDir(),
	})
	if err != nil {
		t.Fatal(err)
	}
	c := newAttempt(w, 1, &pb.Deploy{}).collect
	for _, object := range []string{"needless", "named", "merged", "under way"} {
		w.copies.write(t.Context(), w.cfg.Bucket, object, func() io.Reader { return strings.NewReader(object) })
	}
	c.chains[place{"sum", 0}] = []*pb.RunRef{{Object: "named"}}
	c.merges.ready[place{"sum", 0}] = &merged{ref: &pb.RunRef{Object: "merged"}}
	c.merges.under = "under way"
	c.keepCopies()
	for object, want := range map[string]bool{"needless": false, "named": true, "merged": true, "under way": true} {
		_, closer, there := w.copies.Copy(object)
		if there != want {
			t.Errorf("the copy of %q is there: %v, want %v", object, there, want)
		}
		if there {
			_ = closer.Close()
		}
	}
}

// Crashes, another parallelism each time, little memory, copies in folders that
// outlive the workers: the same rows.
func TestSamenessWithCopiesAndLittleMemory(t *testing.T) {
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 4))
		src, out := &feed{n: 1500}, newLedger()
		b, err := blob.OpenFile(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		m := newMasterWith(t, job(t, src, out), b, 2, 1, clock.System, inFolder(t.TempDir()))
		m.pace = func() { src.raise(60) }
		m.live(rng, 4, 3)
		m.stop()
		if diff := cmp.Diff(wanted(src.n), out.committed()); diff != "" {
			t.Errorf("seed %d: %s", seed, diff)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// The file of a bucket in a folder is the copy, without a byte written.
func TestACopyOfAFileIsALink(t *testing.T) {
	ctx := context.Background()
	b, err := blob.OpenFile(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.Put(ctx, "jobs/j/state/1-2-0", strings.NewReader("content"), 7); err != nil {
		t.Fatal(err)
	}
	c := openCopies(t.TempDir(), slog.New(slog.DiscardHandler))
	c.write(ctx, b, "jobs/j/state/1-2-0", func() io.Reader {
		t.Error("the body was read")
		return strings.NewReader("")
	})
	if err := b.Delete(ctx, "jobs/j/state/1-2-0"); err != nil {
		t.Fatal(err)
	}
	at, closer, ok := c.Copy("jobs/j/state/1-2-0")
	if !ok {
		t.Fatal("there is no copy")
	}
	got := make([]byte, 7)
	if _, err := at.ReadAt(got, 0); err != nil || string(got) != "content" {
		t.Errorf("%q, %v", got, err)
	}
	if err := closer.Close(); err != nil {
		t.Error(err)
	}
}

// A job of many checkpoints keeps its chains short; what was merged beside them
// is named by later ones, and everything that a manifest names is there.
func TestChainsAreMergedBesideCheckpoints(t *testing.T) {
	for _, inline := range []int{0, 1} {
		src, out := &feed{n: 6000}, newLedger()
		b := blob.NewMemory()
		m := newMasterWith(t, job(t, src, out), b, 1, inline, clock.System, inFolder(t.TempDir()))
		longest, merged := 0, map[string]bool{}
		m.pace = func() {
			src.raise(40)
			for _, object := range manifest.Objects(m.complete) {
				if _, _, err := b.Get(context.Background(), object, 0, 1); err != nil {
					t.Error(err)
				}
				if strings.Count(object, "-") == 3 {
					merged[object] = true
				}
			}
			for _, s := range m.complete.GetOperators() {
				longest = max(longest, len(s.GetRuns()))
			}
		}
		m.live(rand.New(rand.NewPCG(1, 1)), 2, 2)
		m.stop()
		if diff := cmp.Diff(wanted(src.n), out.committed()); diff != "" {
			t.Error(diff)
		}
		t.Logf("%d checkpoints, longest chain %d, %d merged objects", m.id, longest, len(merged))
		if longest < 16 || longest > 40 || (len(merged) > 0) != (inline == 1) {
			t.Errorf("%d checkpoints, longest chain %d, merged objects %v", m.id, longest, merged)
		}
	}
}
