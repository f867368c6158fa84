package tier

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
)

// fault is the failure of a disk: the first one counts, and there is no way
// back. It is what Pebble logs to.
type fault struct {
	dir    string
	log    *slog.Logger
	once   sync.Once
	raised chan struct{}
	why    atomic.Pointer[error]
}

func (f *fault) raise(err error) {
	f.once.Do(func() {
		err = fmt.Errorf("the folder %s of tiered state failed: %w: free space on its disk or replace it, or run the job with -D state.backend.type=memory",
			f.dir, err)
		f.why.Store(&err)
		close(f.raised)
		f.log.Error("tiered state failed", "folder", f.dir, "error", err)
	})
}

func (f *fault) err() error {
	if e := f.why.Load(); e != nil {
		return *e
	}
	return nil
}

// Infof is part of pebble.Logger.
func (f *fault) Infof(string, ...any) {}

// Errorf is part of pebble.Logger. What it says comes as an event or an error too.
func (f *fault) Errorf(format string, args ...any) {
	f.log.Debug("tiered state", "folder", f.dir, "error", fmt.Sprintf(format, args...))
}

// Fatalf is part of pebble.Logger, and must not return. Pebble calls it when an
// invariant of its own broke, and when it could not write which tables there are:
// that is in memory, see files.
func (f *fault) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf("tiered state in %s: "+format, append([]any{f.dir}, args...)...))
}
