package files_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/connector/files"
	"github.com/millrace/millrace/sdk"
)

// slow is a bucket whose uploads wait for release, and give up with their context.
type slow struct {
	blob.Bucket
	release   chan struct{}
	begun     atomic.Int32
	abandoned atomic.Int32
}

func (b *slow) Put(ctx context.Context, key string, r io.Reader, size int64) error {
	b.begun.Add(1)
	select {
	case <-b.release:
		return b.Bucket.Put(ctx, key, r, size)
	case <-ctx.Done():
		b.abandoned.Add(1)
		return ctx.Err()
	}
}

// The end of an attempt begins no uploads, and waits for those under way: a
// cancelled request may come to its end at the store after the next recovery.
func TestTheEndWaitsForUploadsUnderWay(t *testing.T) {
	for name, answers := range map[string]bool{"the store answers": true, "the store does not answer": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &slow{Bucket: blob.NewMemory(), release: make(chan struct{})}
				release := files.Adopt("slow", b)
				defer release()
				ctx, end := context.WithCancel(t.Context())
				w, err := files.Sink("slow", files.JSON[row]()).RollAt(1).Open(ctx, env(1, func(err error) { t.Error(err) }))
				if err != nil {
					t.Fatal(err)
				}
				var wrote error
				var group sync.WaitGroup
				group.Go(func() { wrote = w.Write(&sdk.Batch[row]{Values: make([]row, 100)}) })
				synctest.Wait()
				begun := b.begun.Load()
				end()
				group.Wait()
				if !errors.Is(wrote, context.Canceled) {
					t.Errorf("Write, which waits for uploads when its attempt ends, returned %v", wrote)
				}
				synctest.Wait()
				if n := b.abandoned.Load(); n > 0 {
					t.Errorf("%d uploads were cancelled as soon as the attempt ended", n)
				}
				began := time.Now()
				if answers {
					time.AfterFunc(time.Second, func() { close(b.release) })
				}
				if err := w.Close(); err != nil {
					t.Error(err)
				}
				want, took := map[bool]time.Duration{true: time.Second, false: 2 * time.Second}[answers], time.Since(began)
				if took != want {
					t.Errorf("Close took %v, want %v", took, want)
				}
				if n := b.abandoned.Load(); n > 0 && answers || n < begun && !answers {
					t.Errorf("%d of %d uploads were cancelled", n, begun)
				}
				if n := b.begun.Load(); n != begun {
					t.Errorf("%d uploads were begun after the end of the attempt", n-begun)
				}
			})
		})
	}
}
