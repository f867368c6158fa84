package client

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestAHostThatIsSilentIsNotCaughtUp: a shard whose host does not answer any more
// may have records that nobody here sees. It must hold event time back.
func TestAHostThatIsSilentIsNotCaughtUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		silent := make(chan struct{})
		var woken atomic.Int32
		r := &Reader{cfg: ReaderConfig{MaxBytes: 1, Wake: func() { woken.Add(1) }}, room: make(chan struct{}, 1), cancel: cancel, ended: make(chan struct{})}
		r.read = func(ctx context.Context, _ Shard, q ReadRequest) (ReadAnswer, error) {
			select {
			case <-silent:
				<-ctx.Done()
			case <-time.After(q.Wait):
			case <-ctx.Done():
			}
			return ReadAnswer{}, ctx.Err()
		}
		go func() { defer close(r.ended); r.fetch(ctx) }()
		synctest.Wait()
		for range 10 {
			if _, s := r.Next(); s != CaughtUp {
				t.Fatalf("status %d of an empty shard whose host answers", s)
			}
			time.Sleep(time.Second)
		}
		close(silent)
		before := woken.Load()
		time.Sleep(2 * (pollWait + overdue))
		synctest.Wait()
		if _, s := r.Next(); s != Fetching {
			t.Errorf("status %d of a shard whose host is silent, want Fetching", s)
		}
		if n := woken.Load() - before; n != 1 {
			t.Errorf("woken %d times, want once", n)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
}
