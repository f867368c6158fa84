package shardlog

import (
	"path/filepath"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// files is the file system that Pebble sees. Where Pebble changes from one
// write-ahead log to the next, and where it syncs a folder, it answers an error
// with a panic, on goroutines of its own or while it holds what the panic then
// releases twice: the process would end and not say of what. So such an error
// goes no further than here, see pebbleLog.
type files struct {
	vfs.FS
	note pebbleLog
	// serving is set when the log is open: until then Pebble returns these errors.
	serving atomic.Bool
}

// check returns what Pebble may know of an error.
func (f *files) check(what, name string, err error) error {
	if err != nil && f.serving.Load() {
		f.note.Fatalf("%s %s: %v", what, name, err)
	}
	return err
}

func (f *files) watch(what, name string, file vfs.File, err error) (vfs.File, error) {
	if filepath.Ext(name) != ".log" {
		return file, err
	}
	if err := f.check(what, name, err); err != nil {
		return nil, err
	}
	return &watched{file, f, name}, nil
}

func (f *files) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.Create(name, c)
	return f.watch("create", name, file, err)
}

func (f *files) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.ReuseForWrite(old, name, c)
	return f.watch("create", name, file, err)
}

func (f *files) OpenDir(name string) (vfs.File, error) {
	file, err := f.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &watched{file, f, name}, nil
}

func (f *files) Unwrap() vfs.FS { return f.FS }

// watched is a write-ahead log that is written, or a folder.
type watched struct {
	vfs.File
	files *files
	name  string
}

func (w *watched) Write(b []byte) (int, error) {
	n, err := w.File.Write(b)
	return n, w.files.check("write", w.name, err)
}

func (w *watched) Stat() (vfs.FileInfo, error) {
	info, err := w.File.Stat()
	return info, w.files.check("stat", w.name, err)
}

func (w *watched) Sync() error { return w.files.check("sync", w.name, w.File.Sync()) }

func (w *watched) SyncData() error { return w.files.check("sync", w.name, w.File.SyncData()) }

func (w *watched) SyncTo(length int64) (bool, error) {
	full, err := w.File.SyncTo(length)
	return full, w.files.check("sync", w.name, err)
}

func (w *watched) Close() error { return w.files.check("close", w.name, w.File.Close()) }
