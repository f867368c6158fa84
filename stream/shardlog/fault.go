package shardlog

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/millrace/millrace/stream"
)

// fault is the failure of a log: the first one counts, and there is no way
// back.
type fault struct {
	once   sync.Once
	raised chan struct{}
	why    atomic.Pointer[stream.Error]
	// beyond says that Pebble has given up in the middle of something: it must
	// not be called again, not even to close it.
	beyond atomic.Bool
}

func (f *fault) raise(err error) {
	f.once.Do(func() {
		var e *stream.Error
		if !errors.As(err, &e) {
			e = stream.Errorf(stream.StoreFailed, "%w", err)
		}
		f.why.Store(e)
		close(f.raised)
	})
}

func (f *fault) err() error {
	if e := f.why.Load(); e != nil {
		return e
	}
	return nil
}

func (f *fault) fatal() bool { return f.beyond.Load() }

// pebbleLog is what Pebble logs to. Fatalf is how Pebble says that it cannot
// go on, and it must not return: it raises the fault and keeps the goroutine
// it is called on, whatever locks that holds. The process lives on to answer
// reads and to say why it takes no writes.
type pebbleLog struct {
	dir   string
	log   *slog.Logger
	fault *fault
}

func (p pebbleLog) Infof(string, ...any) {}

func (p pebbleLog) Errorf(format string, args ...any) {
	p.log.Error("shard log", "folder", p.dir, "error", fmt.Sprintf(format, args...))
}

func (p pebbleLog) Fatalf(format string, args ...any) {
	why := fmt.Sprintf(format, args...)
	p.log.Error("shard log failed", "folder", p.dir, "error", why)
	p.fault.beyond.Store(true)
	p.fault.raise(stream.Errorf(stream.StoreFailed, "shard log in %s failed: %s: it takes no more writes until its process is started again", p.dir, why))
	select {}
}

const (
	// reserveBytes is the room that must stay free on a disk, less on a small
	// one: Pebble must be able to write tables and finish compactions.
	reserveBytes    = 64 << 20
	reserveFraction = 10
	roomEvery       = 100 * time.Millisecond
)

// diskRoom refuses growth before the disk is full, for a write that finds it
// full ends the log. It belongs to the committer.
type diskRoom struct {
	fs      vfs.FS
	dir     string
	now     func() time.Time
	checked time.Time
	free    uint64
	reserve uint64
	unknown bool
}

// check returns the error for the ops of a group that grow the log, nil while
// there is room for all of them.
func (d *diskRoom) check(group []*op) error {
	var need uint64
	for _, o := range group {
		if o.grows {
			need += uint64(o.bytes)
		}
	}
	if need == 0 || d.unknown {
		return nil
	}
	if now := d.now(); now.Sub(d.checked) >= roomEvery || d.free < d.reserve+2*need {
		usage, err := d.fs.GetDiskUsage(d.dir)
		if err != nil {
			d.unknown = true
			return nil
		}
		d.checked, d.free = now, usage.AvailBytes
		d.reserve = min(reserveBytes, usage.TotalBytes/reserveFraction)
	}
	if d.free < d.reserve+need {
		return stream.Errorf(stream.DiskFull, "the disk of %s has %d MiB left, of which %d MiB are kept in reserve: free some space; nothing was written", d.dir, d.free>>20, d.reserve>>20)
	}
	d.free -= need
	return nil
}
