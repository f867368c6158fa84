//go:build failpoints

package failpoint

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestPointsFromAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "points")
	t.Setenv(variable, "@"+file)
	points.begun = false
	if err := Hit("commit.after"); err != nil {
		t.Fatalf("without a file: %v", err)
	}
	if err := os.WriteFile(file, []byte("commit.after=error@2;commit.before=delay:1ms\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{false, true, false} {
		if err := Hit("commit.after"); errors.Is(err, ErrInjected) != want {
			t.Errorf("hit %d: %v", i+1, err)
		}
	}
	if err := Hit("commit.before"); err != nil {
		t.Error(err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := Hit("commit.after"); err != nil {
		t.Errorf("after the file is gone: %v", err)
	}
}

func TestParse(t *testing.T) {
	got, err := parse("commit.before=kill@3;commit.after=delay:2s")
	if err != nil || got["commit.before"] != (point{kind: kill, at: 3}) || got["commit.after"] != (point{kind: delay, delay: 2 * time.Second}) {
		t.Errorf("%v, %v", got, err)
	}
	for _, wrong := range []string{"nowhere=kill", "commit.after", "commit.after=kill:1s", "commit.after=delay", "commit.after=kill@0", "commit.after=sing"} {
		if _, err := parse(wrong); err == nil {
			t.Errorf("%q was taken", wrong)
		}
	}
}
