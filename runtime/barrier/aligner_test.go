package barrier

import (
	"math/rand/v2"
	"testing"
	"time"
)

// entry is one thing in a simulated channel: a record, or a barrier.
type entry struct {
	barrier uint64
}

// simulation plays a task with several channels and checks what the Aligner
// makes it do.
type simulation struct {
	t        *testing.T
	seed     uint64
	rng      *rand.Rand
	channels [][]entry
	taken    []int
	blocked  []bool
	now      time.Time
	aligner  *Aligner
	aligned  map[uint64]int
	aborted  map[uint64]int
	// unaligned breaks the task on purpose: it ignores Block.
	unaligned bool
	failed    bool
}

func (s *simulation) fail(format string, args ...any) {
	s.t.Helper()
	s.failed = true
	if !s.unaligned {
		s.t.Fatalf("seed %d: "+format, append([]any{s.seed}, args...)...)
	}
}

func newSimulation(t *testing.T, seed uint64, missing bool) *simulation {
	s := &simulation{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 7)), aligned: map[uint64]int{}, aborted: map[uint64]int{}, now: time.UnixMilli(1000)}
	n := 1 + s.rng.IntN(6)
	last := uint64(1 + s.rng.IntN(5))
	for range n {
		var c []entry
		for id := uint64(1); id <= last; id++ {
			for range s.rng.IntN(4) {
				c = append(c, entry{})
			}
			if !missing || id == last || s.rng.IntN(4) > 0 {
				c = append(c, entry{barrier: id})
			}
		}
		s.channels = append(s.channels, append(c, entry{}))
	}
	s.taken, s.blocked = make([]int, n), make([]bool, n)
	s.aligner = NewAligner(n)
	return s
}

// step takes one entry from a random channel that is not blocked and says
// whether there was one.
func (s *simulation) step() bool {
	var open []int
	for i, c := range s.channels {
		if !s.blocked[i] && s.taken[i] < len(c) {
			open = append(open, i)
		}
	}
	if len(open) == 0 {
		return false
	}
	i := open[s.rng.IntN(len(open))]
	e := s.channels[i][s.taken[i]]
	s.taken[i]++
	s.now = s.now.Add(time.Millisecond)
	if e.barrier != 0 {
		s.obey(i, s.aligner.Barrier(i, Barrier{ID: e.barrier, TriggeredMillis: 1000}, s.now))
	}
	return true
}

func (s *simulation) obey(channel int, step Step) {
	if step.Aborted != 0 {
		s.aborted[step.Aborted]++
	}
	if step.Aligned {
		s.checkCut(step.Barrier.ID)
		s.aligned[step.Barrier.ID]++
	}
	if step.Unblock {
		clear(s.blocked)
	}
	if step.Block && !s.unaligned {
		s.blocked[channel] = true
	}
}

// checkCut verifies that what was taken in is on every channel exactly what
// comes before the barrier.
func (s *simulation) checkCut(id uint64) {
	for i, c := range s.channels {
		at := 0
		for at < len(c) && c[at].barrier != id {
			at++
		}
		if at == len(c) {
			s.fail("checkpoint %d aligned, channel %d has no such barrier", id, i)
		} else if s.taken[i] != at+1 {
			s.fail("checkpoint %d aligned with %d entries of channel %d taken, the barrier is number %d", id, s.taken[i], i, at+1)
		}
	}
}

func (s *simulation) run(cancel bool) {
	var cancelled uint64
	for s.step() {
		if cancel && s.rng.IntN(20) == 0 {
			id := uint64(1 + s.rng.IntN(5))
			cancelled = max(cancelled, id)
			s.obey(-1, s.aligner.Cancel(id))
		}
	}
	for i, c := range s.channels {
		if s.taken[i] != len(c) {
			s.fail("channel %d stays blocked after %d of %d entries", i, s.taken[i], len(c))
		}
	}
	for id, n := range s.aligned {
		if n != 1 || s.aborted[id] != 0 {
			s.fail("checkpoint %d aligned %d times, aborted %d times", id, n, s.aborted[id])
		}
	}
	if id, _ := s.aligner.Aligning(); id != 0 {
		s.fail("checkpoint %d is still being aligned", id)
	}
	last := s.channels[0][len(s.channels[0])-2].barrier
	if last > cancelled && s.aligned[last] != 1 {
		s.fail("checkpoint %d, on every channel, aligned %d times", last, s.aligned[last])
	}
}

func TestAlignedCutsAreConsistent(t *testing.T) {
	for seed := range uint64(20_000) {
		missing, cancel := seed%2 == 1, seed%4 >= 2
		s := newSimulation(t, seed, missing)
		s.run(cancel)
		if !missing && !cancel {
			last := s.channels[0][len(s.channels[0])-2].barrier
			for id := uint64(1); id <= last; id++ {
				if s.aligned[id] != 1 {
					s.fail("checkpoint %d, on every channel, aligned %d times", id, s.aligned[id])
				}
			}
		}
	}
}

// TestSimulationSeesUnalignedTasks shows that the simulation tells: a task that
// does not block its channels must be caught.
func TestSimulationSeesUnalignedTasks(t *testing.T) {
	caught := 0
	for seed := range uint64(200) {
		s := newSimulation(t, seed, false)
		s.unaligned = true
		s.run(false)
		if s.failed {
			caught++
		}
	}
	if caught < 100 {
		t.Fatalf("a task that never blocks was caught with %d of 200 seeds", caught)
	}
}

func TestNewerBarrierOvertakes(t *testing.T) {
	now := time.UnixMilli(5000)
	a := NewAligner(3)
	at := func(channel int, id uint64) Step {
		now = now.Add(10 * time.Millisecond)
		return a.Barrier(channel, Barrier{ID: id, TriggeredMillis: 5000}, now)
	}
	if s := at(0, 1); !s.Block || s.Aligned {
		t.Fatalf("first barrier: %+v", s)
	}
	if s := at(1, 2); s.Aborted != 1 || !s.Unblock || !s.Block || s.Aligned {
		t.Fatalf("newer barrier: %+v", s)
	}
	if s := at(2, 1); s != (Step{}) {
		t.Fatalf("stale barrier: %+v", s)
	}
	at(0, 2)
	s := at(2, 2)
	if !s.Aligned || !s.Unblock || s.Block || s.Barrier.ID != 2 {
		t.Fatalf("last barrier: %+v", s)
	}
	if s.StartDelay != 20*time.Millisecond || s.Alignment != 30*time.Millisecond {
		t.Fatalf("start delay %v, alignment %v, want 20ms and 30ms", s.StartDelay, s.Alignment)
	}
}

func TestCancel(t *testing.T) {
	now := time.UnixMilli(0)
	a := NewAligner(2)
	a.Barrier(0, Barrier{ID: 1}, now)
	if s := a.Cancel(1); s.Aborted != 1 || !s.Unblock {
		t.Fatalf("cancel of the one under way: %+v", s)
	}
	if s := a.Barrier(1, Barrier{ID: 1}, now); s != (Step{}) {
		t.Fatalf("barrier of a cancelled checkpoint: %+v", s)
	}
	if s := a.Cancel(3); s != (Step{}) {
		t.Fatalf("cancel before the barrier: %+v", s)
	}
	if s := a.Barrier(0, Barrier{ID: 3}, now); s != (Step{}) {
		t.Fatalf("barrier cancelled before it came: %+v", s)
	}
	if s := a.Barrier(0, Barrier{ID: 4}, now); !s.Block {
		t.Fatalf("next barrier: %+v", s)
	}
}

func TestSingleChannelAlignsAtOnce(t *testing.T) {
	a := NewAligner(1)
	s := a.Barrier(0, Barrier{ID: 9, Terminal: true}, time.UnixMilli(1))
	if !s.Aligned || s.Block || s.Unblock || !s.Barrier.Terminal {
		t.Fatalf("got %+v", s)
	}
	if s := a.Barrier(0, Barrier{ID: 9}, time.UnixMilli(2)); s != (Step{}) {
		t.Fatalf("repeated barrier: %+v", s)
	}
}
