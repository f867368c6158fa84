package pace

import (
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	var p Pace
	if got := p.Within(50*time.Millisecond, 2048); got != 2048 {
		t.Errorf("without a rate: %d records, want all 2048", got)
	}
	for range 100 {
		p.Took(512, 5*time.Microsecond) // 100 M/s
	}
	if got := p.Within(50*time.Millisecond, 2048); got != 2048 {
		t.Errorf("at 100 M/s: %d records, want all 2048", got)
	}
	// One batch at 1,000 a second, and the bound follows.
	p.Took(512, 512*time.Millisecond)
	if got := p.Within(50*time.Millisecond, 2048); got < 45 || got > 60 {
		t.Errorf("after one slow batch: %d records", got)
	}
	for range 5 {
		p.Took(50, 50*time.Millisecond)
	}
	if got := p.Within(50*time.Millisecond, 2048); got < 45 || got > 60 {
		t.Errorf("at 1,000/s: %d records in 50 ms, want about 50", got)
	}
	for range 40 {
		p.Took(1, time.Second)
	}
	if got := p.Within(50*time.Millisecond, 2048); got != 1 {
		t.Errorf("at 1/s: %d records, want 1", got)
	}
	// Fast again: within a few hundred records of small batches.
	batches := 0
	for p.Within(50*time.Millisecond, 2048) < 2048 {
		n := p.Within(50*time.Millisecond, 2048)
		p.Took(n, time.Duration(n)*100)
		if batches++; batches > 100 {
			t.Fatalf("after %d fast batches still %d records", batches, n)
		}
	}
}
