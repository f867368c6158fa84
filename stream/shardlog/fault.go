package shardlog

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/millrace/millrace/stream"
)

// fault is the failure of a log: the first one counts, and there is no way
// back.
type fault struct {
	once   sync.Once
	raised chan struct{}
	why    atomic.Pointer[stream.Error]
	// beyond is closed when Pebble has given up in the middle of something: it must
	// not be called again, not even to close it.
	beyond   chan struct{}
	givingUp sync.Once
}

func newFault() fault {
	return fault{raised: make(chan struct{}), beyond: make(chan struct{})}
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

func (f *fault) giveUp(err error) {
	f.raise(err)
	f.givingUp.Do(func() { close(f.beyond) })
}

func (f *fault) fatal() bool {
	select {
	case <-f.beyond:
		return true
	default:
		return false
	}
}

// guard calls what may meet the end of Pebble, and does not wait for it then.
func (f *fault) guard(call func() error) error {
	done := make(chan error, 1)
	go func() {
		defer func() {
			switch r := recover().(type) {
			case nil:
			case runtime.Error:
				panic(r)
			case error: // of a folder that could not be synced
				done <- r
			default:
				panic(r)
			}
		}()
		done <- call()
	}()
	select {
	case err := <-done:
		return err
	case <-f.beyond:
		return f.err()
	}
}

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
	p.fault.giveUp(stream.Errorf(stream.StoreFailed, "shard log in %s failed: %s: it takes no more writes until its process is started again", p.dir, why))
	select {}
}

// listener hears what goes wrong beside the writes. Pebble repeats a flush or a
// compaction that failed, at once and for good, and in the end all writes wait for
// it. So a disk that cannot be written or read ends the log here as it does in a
// write. Damage alone is let be until writes wait: it would be there after another
// start too, and what is not damaged can be read and added to.
func (p pebbleLog) listener() *pebble.EventListener {
	var damage atomic.Pointer[error]
	var stalled atomic.Bool
	var named sync.Map // damaged files, which are met again and again
	check := func() {
		if err := damage.Load(); err != nil && stalled.Load() {
			p.Fatalf("writes wait for what is damaged: %v", *err)
		}
	}
	return &pebble.EventListener{
		// Without this Pebble says it by Logger.Fatalf, which does not return: who
		// reads gets the error, which names the file and the offset in it.
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			if _, again := named.LoadOrStore(info.Path, true); !again {
				p.log.Error("shard log is damaged", "file", info.Path, "error", info.Details)
			}
		},
		BackgroundError: func(err error) {
			if !pebble.IsCorruptionError(err) {
				p.Fatalf("%v", err)
			}
			damage.Store(&err)
			check()
		},
		CompactionEnd: func(info pebble.CompactionInfo) {
			if info.Err == nil {
				damage.Store(nil)
			}
		},
		WriteStallBegin: func(pebble.WriteStallBeginInfo) {
			stalled.Store(true)
			check()
		},
		WriteStallEnd: func() { stalled.Store(false) },
	}
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
			// A disk that once did not tell is asked again.
			d.unknown = errors.Is(err, vfs.ErrUnsupported)
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
