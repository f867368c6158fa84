package supervise

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// jobFolders has a folder for each job that has, or had, a worker here: copies
// of its state, and state beyond its memory. It outlives workers and this
// process, as who comes after them restores from it, and goes when the job
// has had no worker here for a while: whether it moved, ended or was forgotten
// makes no difference.
//
// Only the goroutine of watch calls sweep; idle is its own.
type jobFolders struct {
	dir string
	// idle says since when a folder has been without a worker.
	idle map[string]time.Time
}

// leaving begins the names of folders that are being removed.
const leaving = ".leaving-"

// folderOf is a job's folder. Workers make it.
func (f *jobFolders) folderOf(job string) string {
	return filepath.Join(f.dir, folderName(job))
}

// folderName is the job's id where that can be a name.
func folderName(job string) string {
	if job != "" && len(job) <= 64 && job[0] != '.' && !strings.ContainsAny(job, "/\\\x00") {
		return job
	}
	sum := sha256.Sum256([]byte(job))
	return "x" + hex.EncodeToString(sum[:16])
}

// sweep removes what has been idle for long. The folder of a worker that starts
// meanwhile is a new one: the old one loses its name under the lock first.
func (s *Supervisor) sweep(now time.Time) {
	f := &s.folders
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			s.config.Log.Warn("folders of jobs were not read", "folder", f.dir, "error", err)
		}
		return
	}
	var gone []string
	s.mu.Lock()
	busy := map[string]bool{}
	for _, w := range s.mu.workers {
		busy[folderName(w.job)] = true
	}
	for _, e := range entries {
		name := e.Name()
		switch since, known := f.idle[name]; {
		case strings.HasPrefix(name, leaving):
			gone = append(gone, name)
		case busy[name]:
			delete(f.idle, name)
		case !known:
			f.idle[name] = now
		case now.Sub(since) >= s.config.KeepFolders:
			delete(f.idle, name)
			if os.Rename(filepath.Join(f.dir, name), filepath.Join(f.dir, leaving+name)) == nil {
				gone = append(gone, leaving+name)
			}
		}
	}
	s.mu.Unlock()
	for _, name := range gone {
		if err := os.RemoveAll(filepath.Join(f.dir, name)); err != nil {
			s.config.Log.Warn("folder of a job was not removed", "folder", filepath.Join(f.dir, name), "error", err)
			continue
		}
		s.config.Log.Info("folder of a job removed", "job", strings.TrimPrefix(name, leaving))
	}
}
