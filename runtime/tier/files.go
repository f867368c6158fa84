package tier

import (
	"path/filepath"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// files is the file system that Pebble sees: tables are on the disk, all else
// is in memory, which is little and cannot fail. Pebble can tell its caller of a
// table that it could not write, or reads wrongly; it gives up a process that could
// not write which tables there are. Nothing of either has to survive.
type files struct {
	vfs.FS // in memory
	disk   vfs.FS
}

func newFiles(disk vfs.FS) files { return files{vfs.NewMem(), disk} }

// of says where a file is.
func (f files) of(name string) vfs.FS {
	switch filepath.Ext(name) {
	case ".sst", ".blob":
		return f.disk
	}
	return f.FS
}

// unsynced is a file that is not synced: what it holds need not survive, and a
// sync would hold up others of the same disk.
type unsynced struct{ vfs.File }

func (f unsynced) Sync() error                { return nil }
func (f unsynced) SyncData() error            { return nil }
func (f unsynced) SyncTo(int64) (bool, error) { return false, nil }

func (f files) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.of(name).Create(name, c)
	if err != nil {
		return nil, err
	}
	return unsynced{file}, nil
}

func (f files) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	return f.of(name).Open(name, opts...)
}

func (f files) Link(from, to string) error { return f.of(from).Link(from, to) }

func (f files) Remove(name string) error { return f.of(name).Remove(name) }

func (f files) Rename(from, to string) error { return f.of(from).Rename(from, to) }

func (f files) Stat(name string) (vfs.FileInfo, error) { return f.of(name).Stat(name) }

// GetDiskUsage says nothing: what Pebble would do about it does not pay here.
func (files) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{}, vfs.ErrUnsupported
}

// Unwrap says that there is nothing below: it is not one file system.
func (files) Unwrap() vfs.FS { return nil }
