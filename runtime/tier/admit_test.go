package tier

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/millrace/millrace/runtime/state"
)

// Writers fill the memory of a disk whose flushes hang, until all of them wait.
// Whatever comes of the flush, each is told: none writes again to wake another.
func TestAllWhoWaitForAFlushGoOn(t *testing.T) {
	const writers = 16
	broken := errors.New("no space left")
	for _, c := range []struct {
		name string
		do   func(d *Disk, letGo func(error), wait *sync.WaitGroup)
		want error
	}{
		{"flushed", func(_ *Disk, letGo func(error), _ *sync.WaitGroup) { letGo(nil) }, nil},
		{"failed", func(_ *Disk, letGo func(error), _ *sync.WaitGroup) { letGo(broken) }, broken},
		{"closed", func(d *Disk, letGo func(error), wait *sync.WaitGroup) {
			wait.Go(func() { _ = d.Close() })
			synctest.Wait() // it waits for the flush, nobody else does
			letGo(nil)
		}, errClosed},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hang := make(chan struct{})
				var result atomic.Pointer[error] // of the first table: Pebble tries again, at once
				fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(o errorfs.Op) error {
					if o.Kind == errorfs.OpCreate && strings.HasSuffix(o.Path, ".sst") {
						<-hang
						if err := result.Swap(nil); err != nil {
							return *err
						}
					}
					return nil
				}))
				d, err := Open("tier", Options{FS: fs, Memory: 1})
				if err != nil {
					t.Fatal(err)
				}
				page := make([]byte, 8<<10)
				var last atomic.Bool
				ends := make(chan error, writers)
				var group sync.WaitGroup
				for range writers {
					group.Go(func() {
						for {
							idle := last.Load() // what is begun from now on is one write more
							w := d.Batch()
							w.Put(state.PageKey{Table: 1, Version: d.Number()}, page)
							if err := w.Commit(); err != nil || idle {
								ends <- err
								return
							}
						}
					})
				}
				synctest.Wait()
				last.Store(true)
				c.do(d, func(err error) {
					if err != nil {
						result.Store(&err)
					}
					close(hang)
				}, &group)
				synctest.Wait()
				if n := len(ends); n != writers {
					t.Errorf("%d of %d writers wait for ever", writers-n, writers)
					d.fault.raise(errors.New("the test is over"))
				}
				group.Wait()
				for range writers {
					if err := <-ends; !errors.Is(err, c.want) {
						t.Errorf("a writer ended with %v, want %v", err, c.want)
					}
				}
				if c.want != errClosed {
					_ = d.Close()
				}
			})
		})
	}
}

// What is counted when a batch is admitted is uncounted when it is flushed, also
// where Pebble takes a batch as it is.
func TestNothingStaysCountedThatIsFlushed(t *testing.T) {
	for _, size := range []int{100, 8 << 10, 400 << 10} {
		d := open(t, Options{Memory: 1})
		for range 20 {
			w := d.Batch()
			w.Put(state.PageKey{Table: 1, Version: d.Number()}, make([]byte, size))
			w.Remove(state.PageKey{Table: 1, Version: d.Number()})
			w.RemoveTable(d.Number(), 0, 5)
			if err := errors.Join(w.Commit(), d.db.Flush()); err != nil {
				t.Fatal(err)
			}
		}
		d.mu.Lock()
		if d.mu.unflushed != 0 {
			t.Errorf("%d bytes stay of batches with pages of %d", d.mu.unflushed, size)
		}
		d.mu.Unlock()
	}
}
