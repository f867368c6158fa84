package worker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/millrace/millrace/blob"
)

// Folders in the job's folder on this machine.
const (
	copiesFolder  = "state"
	scratchFolder = "scratch"
)

// copies are those of state objects that workers of this job wrote here, for
// the next attempt to restore from. Nothing relies on them: they are not synced,
// a reader checks every byte, and a disk that is full or broken costs a warning.
// There is at most what the last completed checkpoint and the one under way
// name, and what was merged for the next. The folder outlives the worker; one
// worker at a time uses it.
//
// keep belongs to the collector's goroutine; the others may be called from any,
// write from one at a time for an object.
type copies struct {
	folder string
	log    *slog.Logger
	mu     struct {
		sync.Mutex
		have map[string]bool // names of files
	}
}

// openCopies opens the folder beneath dir; nil where there is none.
func openCopies(dir string, log *slog.Logger) *copies {
	if dir == "" {
		return nil
	}
	c := &copies{folder: filepath.Join(dir, copiesFolder), log: log}
	c.mu.have = map[string]bool{}
	err := os.MkdirAll(c.folder, 0o755)
	var files []fs.DirEntry
	if err == nil {
		files, err = os.ReadDir(c.folder)
	}
	if err != nil {
		log.Warn("no copies of state are kept here", "folder", c.folder, "error", err)
		return nil
	}
	for _, f := range files {
		c.mu.have[f.Name()] = true
	}
	return c
}

// copyName is the file of an object: keys are longer than names may be.
func copyName(object string) string {
	sum := sha256.Sum256([]byte(object))
	return hex.EncodeToString(sum[:16])
}

// Copy implements snapshot.Local.
func (c *copies) Copy(object string) (io.ReaderAt, io.Closer, bool) {
	name := copyName(object)
	c.mu.Lock()
	have := c.mu.have[name]
	c.mu.Unlock()
	if !have {
		return nil, nil, false
	}
	f, err := os.Open(filepath.Join(c.folder, name))
	if err != nil {
		c.Spoiled(object, err)
		return nil, nil, false
	}
	return f, f, true
}

// Spoiled implements snapshot.Local: the copy goes.
func (c *copies) Spoiled(object string, err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	c.log.Warn("a copy of state is damaged; reading it from the bucket", "object", object, "copy", copyName(object), "error", err)
	c.remove(copyName(object))
}

func (c *copies) remove(name string) {
	if err := os.Remove(filepath.Join(c.folder, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.log.Warn("a copy of state was not removed", "copy", name, "error", err)
		return
	}
	c.mu.Lock()
	delete(c.mu.have, name)
	c.mu.Unlock()
}

// linker is a bucket whose objects are files on this machine.
type linker interface {
	Link(ctx context.Context, key, path string) error
}

// write keeps a copy of an object that the bucket has: of the bucket's own file
// where it can be had, else of body.
func (c *copies) write(ctx context.Context, bucket blob.Bucket, object string, body func() io.Reader) {
	name := copyName(object)
	path := filepath.Join(c.folder, name)
	_ = os.Remove(path) // of an attempt at the same object
	err := errors.ErrUnsupported
	if l, ok := bucket.(linker); ok {
		err = l.Link(ctx, object, path)
	}
	if err != nil {
		err = writeFile(path, body())
	}
	if err != nil {
		c.log.Warn("no copy of state was kept", "object", object, "error", err)
		_ = os.Remove(path)
		return
	}
	c.mu.Lock()
	c.mu.have[name] = true
	c.mu.Unlock()
}

func writeFile(path string, body io.Reader) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, body)
	return errors.Join(err, f.Close())
}

// keep removes the copies of all other objects.
func (c *copies) keep(objects map[string]bool) {
	wanted := make(map[string]bool, len(objects))
	for object := range objects {
		wanted[copyName(object)] = true
	}
	c.mu.Lock()
	var gone []string
	for name := range c.mu.have {
		if !wanted[name] {
			gone = append(gone, name)
		}
	}
	c.mu.Unlock()
	for _, name := range gone {
		c.remove(name)
	}
}

// openScratch makes the folder for what does not fit in memory, empty: the
// files in it have no names, but those of a crash between two steps.
func openScratch(dir string, log *slog.Logger) string {
	if dir == "" {
		return ""
	}
	folder := filepath.Join(dir, scratchFolder)
	err := os.RemoveAll(folder)
	if err == nil {
		err = os.MkdirAll(folder, 0o755)
	}
	if err != nil {
		log.Warn("snapshots are held in memory", "error", fmt.Errorf("scratch folder: %w", err))
		return ""
	}
	return folder
}
