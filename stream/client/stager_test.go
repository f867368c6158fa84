package client

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

func TestAReleaseWithoutAWaiterCostsNothing(t *testing.T) {
	s := &Stager{cfg: StagerConfig{MaxBytes: 10}, ctx: t.Context()}
	n := testing.AllocsPerRun(100, func() {
		if err := s.reserve(10); err != nil {
			t.Fatal(err)
		}
		s.release(10, nil)
	})
	if n != 0 {
		t.Errorf("%v allocations a block, want none", n)
	}
}

func TestAReleaseWakesAllWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s := &Stager{cfg: StagerConfig{MaxBytes: 10}, ctx: ctx}
		if err := s.reserve(10); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 3)
		for range 3 {
			go func() { done <- s.reserve(5) }()
		}
		synctest.Wait()
		if len(done) != 0 {
			t.Fatal("room was given that there is not")
		}
		s.release(10, nil)
		synctest.Wait()
		if len(done) != 2 {
			t.Errorf("%d of 3 waiters have 5 bytes of 10, want 2", len(done))
		}
		broken := errors.New("broken")
		s.release(5, broken)
		synctest.Wait()
		var failed int
		for range len(done) {
			if err := <-done; errors.Is(err, broken) {
				failed++
			} else if err != nil {
				t.Error(err)
			}
		}
		if failed != 1 {
			t.Errorf("%d waiters were told of the failure, want 1", failed)
		}
	})
}
