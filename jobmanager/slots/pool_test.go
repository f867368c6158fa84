package slots

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSpreadsEvenly(t *testing.T) {
	p := New()
	p.Join("a", 4)
	p.Join("b", 2)
	p.Join("c", 1)
	got := p.Ask("job", 5)
	want := []Grant{{Job: "job", Slots: []string{"a", "a", "b", "b", "c"}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("grants (-want +got):\n%s", diff)
	}
}

func TestAllOrNothingInOrder(t *testing.T) {
	p := New()
	if g := p.Ask("large", 3); g != nil {
		t.Fatalf("granted %v without slots", g)
	}
	if g := p.Join("a", 2); g != nil {
		t.Fatalf("granted %v: want nothing for a job of 3 from 2 slots", g)
	}
	if g := p.Ask("small", 1); g != nil {
		t.Fatalf("granted %v past the request before it", g)
	}
	got := p.Join("b", 2)
	want := []Grant{{Job: "large", Slots: []string{"a", "a", "b"}}, {Job: "small", Slots: []string{"b"}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("grants (-want +got):\n%s", diff)
	}
}

func TestLostTaskManager(t *testing.T) {
	p := New()
	p.Join("a", 2)
	p.Join("b", 2)
	p.Ask("job", 4)
	if diff := cmp.Diff([]string{"job"}, p.Lose("b")); diff != "" {
		t.Errorf("jobs hit (-want +got):\n%s", diff)
	}
	if g := p.Ask("job", 4); g != nil {
		t.Fatalf("granted %v from 2 slots", g)
	}
	got := p.Join("b", 2)
	if len(got) != 1 || got[0].Job != "job" || len(got[0].Slots) != 4 {
		t.Errorf("grants after the task manager came back: %v", got)
	}
}

func TestRandomHistories(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		p := New()
		asked := map[string]int{}
		pick := func(prefix string, n int) string { return fmt.Sprintf("%s%d", prefix, r.IntN(n)) }
		for step := range 200 {
			var grants []Grant
			switch r.IntN(5) {
			case 0:
				grants = p.Join(pick("tm", 5), 1+r.IntN(4))
			case 1:
				p.Lose(pick("tm", 5))
			case 2, 3:
				job, n := pick("job", 6), 1+r.IntN(6)
				asked[job] = n
				grants = p.Ask(job, n)
			case 4:
				grants = p.Release(pick("job", 6))
			}
			for _, g := range grants {
				if len(g.Slots) != asked[g.Job] || p.Held(g.Job) != asked[g.Job] {
					t.Fatalf("seed %d step %d: %s got %v, asked for %d", seed, step, g.Job, g.Slots, asked[g.Job])
				}
			}
			if err := p.check(); err != nil {
				t.Fatalf("seed %d step %d: %v", seed, step, err)
			}
		}
	}
}
