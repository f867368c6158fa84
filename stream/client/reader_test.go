package client

import (
	"context"
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
		woken := 0
		r := &Reader{cfg: ReaderConfig{MaxBytes: 1, Wake: func() { woken++ }}, room: make(chan struct{}, 1), cancel: cancel, ended: make(chan struct{})}
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
		before := woken
		time.Sleep(2 * (pollWait + overdue))
		synctest.Wait()
		if _, s := r.Next(); s != Fetching {
			t.Errorf("status %d of a shard whose host is silent, want Fetching", s)
		}
		if woken != before+1 {
			t.Errorf("woken %d times, want once", woken-before)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
}
