package dispatch

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
)

func TestQueueHoldsOffersBackButNotPuts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue[int](2)
		for i := range 5 {
			q.put(i) // what the taker asked for is always taken
		}
		if q.tryOffer(9) {
			t.Fatal("a full queue took an offer")
		}
		var offers sync.WaitGroup
		for i := range 3 {
			offers.Go(func() {
				if !q.offer(t.Context(), nil, 10+i) {
					t.Error("an offer was refused")
				}
			})
		}
		got := q.take()
		if len(got) != 5 {
			t.Fatalf("took %v", got)
		}
		got = nil
		for len(got) < 3 {
			<-q.ready
			got = append(got, q.take()...)
			synctest.Wait()
			if len(q.mu.items) > 2 {
				t.Fatalf("%d offers are queued, limit 2", len(q.mu.items))
			}
		}
		offers.Wait()

		q.put(1)
		q.put(2)
		done := make(chan struct{})
		close(done)
		if q.offer(t.Context(), done, 3) {
			t.Error("an offer was taken after the taker ended")
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if q.offer(ctx, nil, 3) {
			t.Error("an offer was taken after its context ended")
		}
	})
}
