package supervise

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// A folder stays while its job has a worker, and for a while after; one of a
// job that nobody knows goes as well, and one whose removal was cut short.
func TestFoldersOfJobsThatAreNotHereAreRemoved(t *testing.T) {
	s, err := New(Config{Data: t.TempDir(), Owner: "tm", KeepFolders: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	there := func(job string) bool {
		_, err := os.Stat(filepath.Join(s.folders.folderOf(job), "state", "copy"))
		return err == nil
	}
	fill := func(job string) {
		dir := filepath.Join(s.folders.folderOf(job), "state")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "copy"), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Unix(1000, 0)
	s.sweep(now) // without a folder yet
	for _, job := range []string{"runs", "ended", "unknown"} {
		fill(job)
	}
	if err := os.MkdirAll(filepath.Join(s.folders.dir, leaving+"old", "state"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, job := range []string{"runs", "ended"} {
		s.mu.workers[job] = newWorker(s, Target{}, &pb.StartWorker{WorkerId: job, JobId: job})
	}
	s.sweep(now)
	delete(s.mu.workers, "ended")
	s.sweep(now.Add(30 * time.Second))
	if !there("runs") || !there("ended") || !there("unknown") {
		t.Error("a folder went before its time")
	}
	s.sweep(now.Add(70 * time.Second))
	if !there("runs") || !there("ended") || there("unknown") {
		t.Errorf("after a minute: runs %v, ended %v, unknown %v", there("runs"), there("ended"), there("unknown"))
	}
	// A worker that comes back finds its folder and starts the time anew.
	s.mu.workers["ended"] = newWorker(s, Target{}, &pb.StartWorker{WorkerId: "again", JobId: "ended"})
	s.sweep(now.Add(95 * time.Second))
	delete(s.mu.workers, "ended")
	s.sweep(now.Add(100 * time.Second))
	s.sweep(now.Add(150 * time.Second))
	if !there("ended") {
		t.Error("the time did not begin anew")
	}
	s.sweep(now.Add(161 * time.Second))
	if there("ended") || !there("runs") {
		t.Errorf("ended %v, runs %v", there("ended"), there("runs"))
	}
	left, err := os.ReadDir(s.folders.dir)
	if err != nil || len(left) != 1 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestFoldersAreNamedInsideTheirFolder(t *testing.T) {
	f := jobFolders{dir: "/data/jobs"}
	for _, job := range []string{"", ".", "..", "../x", "a/b", leaving + "x", strings.Repeat("a", 300), "a\x00b"} {
		if got := f.folderOf(job); filepath.Dir(got) != "/data/jobs" || strings.Contains(filepath.Base(got), "..") || len(filepath.Base(got)) > 64 {
			t.Errorf("folder of %q is %q", job, got)
		}
	}
	if got := f.folderOf("4f1c"); got != "/data/jobs/4f1c" {
		t.Errorf("got %q", got)
	}
}
