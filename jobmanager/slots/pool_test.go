package slots

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const seeds = 10_000

// few is how many of the seeds a short run takes.
const few = 300

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

// A job that grows keeps what it holds, whether it gets more or not.
func TestResizeLosesNothing(t *testing.T) {
	p := New()
	p.Join("a", 3)
	p.Join("b", 1)
	p.Ask("job", 1)
	p.Ask("other", 2)
	if g := p.Resize("job", 3, 1); g != nil || p.Held("job") != 1 {
		t.Fatalf("granted %v from 1 free slot, the job holds %d", g, p.Held("job"))
	}
	got := p.Join("c", 1)
	want := []Grant{{Job: "job", Slots: []string{"a", "a", "c"}, Resize: 1}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("grants (-want +got):\n%s", diff)
	}
	got = p.Resize("job", 1, 2)
	want = []Grant{{Job: "job", Slots: []string{"a"}, Resize: 2}}
	if diff := cmp.Diff(want, got); diff != "" || p.Held("job") != 3 {
		t.Errorf("the job holds %d, grants (-want +got):\n%s", p.Held("job"), diff)
	}
	if p.Keep("job", []string{"a"}); p.Held("job") != 1 || p.Free() != 2 {
		t.Errorf("the job holds %d, %d are free", p.Held("job"), p.Free())
	}
	p.Resize("job", 5, 3)
	p.Keep("job", []string{"a"}) // withdrawn
	if g := p.Join("d", 4); g != nil {
		t.Errorf("granted %v to a job that gave up", g)
	}
}

// A job that holds nothing goes before those that want more.
func TestResizeWaitsForThoseWithNothing(t *testing.T) {
	p := New()
	p.Join("a", 4)
	p.Ask("rich", 2)
	p.Ask("poor", 3)
	if g := p.Resize("rich", 4, 1); g != nil {
		t.Fatalf("granted %v past a job that has nothing", g)
	}
	got := p.Join("b", 1)
	if len(got) != 1 || got[0].Job != "poor" {
		t.Errorf("granted %v", got)
	}
	got = p.Release("poor")
	want := []Grant{{Job: "rich", Slots: []string{"a", "a", "a", "b"}, Resize: 1}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("grants (-want +got):\n%s", diff)
	}
}

// A job that is to need less gives its slots to those that wait for them.
func TestAJobShrinksWhileAnotherWaits(t *testing.T) {
	p := New()
	p.Join("a", 2)
	p.Ask("rich", 2)
	p.Ask("poor", 1)
	got := p.Resize("rich", 1, 1)
	want := []Grant{{Job: "rich", Slots: []string{"a"}, Resize: 1}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("grants (-want +got):\n%s", diff)
	}
	got = p.Keep("rich", []string{"a"})
	want = []Grant{{Job: "poor", Slots: []string{"a"}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("grants once they are given back (-want +got):\n%s", diff)
	}
}

func TestRandomHistories(t *testing.T) {
	seeds := seeds
	if testing.Short() {
		seeds = few
	}
	for seed := range uint64(seeds) {
		r := rand.New(rand.NewPCG(seed, 1))
		p := New()
		asked := map[string]int{}
		pick := func(prefix string, n int) string { return fmt.Sprintf("%s%d", prefix, r.IntN(n)) }
		for step := range 100 {
			var grants []Grant
			had := map[string]int{}
			for j := range 6 {
				had[fmt.Sprint("job", j)] = p.Held(fmt.Sprint("job", j))
			}
			takes := ""
			switch r.IntN(7) {
			case 0:
				grants = p.Join(pick("tm", 5), 1+r.IntN(4))
				takes = "any" // one that comes back has lost what was held there
			case 1:
				p.Lose(pick("tm", 5))
				takes = "any"
			case 2, 3:
				job, n := pick("job", 6), 1+r.IntN(6)
				asked[job] = n
				grants, takes = p.Ask(job, n), job
			case 4:
				takes = pick("job", 6)
				grants = p.Release(takes)
			case 5:
				job, n := pick("job", 6), 1+r.IntN(6)
				if p.Held(job) > 0 {
					asked[job] = n
				}
				grants = p.Resize(job, n, uint64(n))
			case 6:
				takes = pick("job", 6)
				grants = p.Keep(takes, []string{pick("tm", 5), pick("tm", 5)})
				if n := p.Held(takes); n > 2 {
					t.Fatalf("seed %d step %d: %s keeps %d of 2 slots", seed, step, takes, n)
				}
			}
			for _, g := range grants {
				if len(g.Slots) != asked[g.Job] || g.Resize == 0 && p.Held(g.Job) != asked[g.Job] || p.Held(g.Job) < asked[g.Job] {
					t.Fatalf("seed %d step %d: %s got %v, asked for %d", seed, step, g.Job, g.Slots, asked[g.Job])
				}
			}
			for job, n := range had {
				if takes != "any" && takes != job && p.Held(job) < n {
					t.Fatalf("seed %d step %d: %s lost slots: %d after %d", seed, step, job, p.Held(job), n)
				}
			}
			if err := p.check(); err != nil {
				t.Fatalf("seed %d step %d: %v", seed, step, err)
			}
		}
	}
}
