package worker

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/millrace/millrace/runtime/keygroup"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// chained is the state of an operator with the chains of its subtasks, which
// merges keep short, in plain maps. Keys are numbers; a key's group is its
// remainder.
type chained struct {
	t      *testing.T
	seed   uint64
	rng    *rand.Rand
	groups int

	state   map[int]cell
	content map[identity]plainRun
	chains  []chain
	id      uint64
	crc     uint32

	written, mergedBytes, rescaled uint64
	recent                         []uint64 // written by checkpoint
	lives                          []uint64 // live after it
}

// patience is how many checkpoints two merges take, one after the other.
const patience = 10

type cell struct {
	ns   int64
	size int
	gone bool
}

type plainRun struct {
	cells map[int]cell
	drops map[int64]bool
	full  bool
}

// chain is that of one subtask.
type chain struct {
	groups keygroup.Range
	runs   []*pb.RunRef
	merges merges
	under  *merged // its result comes at checkpoint due
	due    uint64
}

const (
	cellBytes = 12
	headBytes = 100
)

func (p plainRun) length() uint64 {
	n := uint64(headBytes + 12*len(p.drops))
	for _, c := range p.cells {
		n += cellBytes
		if !c.gone {
			n += uint64(c.size)
		}
	}
	return n
}

func (w *chained) start(parallelism int) {
	old := w.chains
	w.chains = nil
	for i := range parallelism {
		c := chain{groups: keygroup.RangeOf(i, parallelism, w.groups), merges: merges{ready: map[place]*merged{}, live: map[place]live{}}}
		var theirs [][]*pb.RunRef
		for _, o := range old {
			if o.groups.Overlaps(c.groups.First, c.groups.Last) {
				theirs = append(theirs, o.runs)
			}
		}
		var ok bool
		if c.runs, ok = joinChains(theirs, c.groups); !ok {
			w.t.Fatalf("seed %d: the order of runs is lost", w.seed)
		}
		w.chains = append(w.chains, c)
	}
}

func (w *chained) ref(p plainRun, groups keygroup.Range, checkpoint uint64) *pb.RunRef {
	w.crc++
	r := &pb.RunRef{
		Object: fmt.Sprint("o", w.crc), Length: p.length(), Crc32C: w.crc, Checkpoint: checkpoint,
		KeyGroupFirst: uint32(groups.First), KeyGroupLast: uint32(groups.Last),
	}
	w.content[identityOf(r)] = p
	return r
}

// merge is what a Merger does, in plain maps: the newest entry of a key counts,
// unless a newer run hides it; without full, deletes and drops stay.
func (w *chained) merge(runs []*pb.RunRef, groups keygroup.Range, full bool) plainRun {
	out := plainRun{cells: map[int]cell{}, drops: map[int64]bool{}, full: full}
	for _, r := range runs {
		p := w.content[identityOf(r)]
		speaks := func(key int) bool {
			g := key % w.groups
			return groups.Contains(g) && g >= int(r.GetKeyGroupFirst()) && g <= int(r.GetKeyGroupLast())
		}
		for key, c := range out.cells {
			if speaks(key) && (p.full || p.drops[c.ns]) {
				delete(out.cells, key)
			}
		}
		for ns := range p.drops {
			if !full {
				out.drops[ns] = true
			}
		}
		for key, c := range p.cells {
			if groups.Contains(key % w.groups) {
				out.cells[key] = c
			}
		}
	}
	if full {
		maps.DeleteFunc(out.cells, func(_ int, c cell) bool { return c.gone })
	}
	return out
}

// checkpoint changes the state and appends what changed to the chains, into
// which finished merges go first.
func (w *chained) checkpoint(workload string) {
	w.id++
	changed := make([]plainRun, len(w.chains))
	for i := range changed {
		changed[i] = plainRun{cells: map[int]cell{}, drops: map[int64]bool{}}
	}
	of := func(key int) *plainRun {
		for i := range w.chains {
			if w.chains[i].groups.Contains(key % w.groups) {
				return &changed[i]
			}
		}
		panic("no owner")
	}
	set := func(key int, c cell) {
		if old, ok := w.state[key]; ok && old.ns != c.ns {
			return // a key is of one namespace here
		}
		w.state[key] = c
		of(key).cells[key] = c
	}
	remove := func(key int) {
		if c, ok := w.state[key]; ok {
			delete(w.state, key)
			of(key).cells[key] = cell{ns: c.ns, gone: true}
		}
	}
	w.work(workload, set, remove, func(ns int64) {
		maps.DeleteFunc(w.state, func(_ int, c cell) bool { return c.ns == ns })
		for i := range changed {
			maps.DeleteFunc(changed[i].cells, func(_ int, c cell) bool { return c.ns == ns })
			changed[i].drops[ns] = true
		}
	})
	written := uint64(0)
	for i := range w.chains {
		c := &w.chains[i]
		if c.under != nil && c.due <= w.id {
			c.merges.ready[place{}] = c.under
			c.under = nil
		}
		c.runs, _ = c.merges.put(place{}, c.runs)
		delete(c.merges.ready, place{})
		if len(changed[i].cells) > 0 || len(changed[i].drops) > 0 {
			c.runs = append(c.runs, w.ref(changed[i], c.groups, w.id))
			written += changed[i].length()
		}
		if c.under != nil {
			continue
		}
		from, due := choose(c.runs, c.groups, w.live(c.groups))
		if !due {
			continue
		}
		runs := append([]*pb.RunRef(nil), c.runs[from:]...)
		p := w.merge(runs, c.groups, from == 0)
		c.under = &merged{runs: runs, ref: w.ref(p, c.groups, runs[len(runs)-1].GetCheckpoint())}
		c.due = w.id + 1 + uint64(w.rng.IntN(4))
		w.mergedBytes += p.length()
	}
	w.written += written
	w.recent = append(w.recent, written)
}

func (w *chained) work(workload string, set func(int, cell), remove func(int), drop func(int64)) {
	const keys = 5000
	switch workload {
	case "updates of 1 %":
		if len(w.state) == 0 {
			for key := range keys {
				set(key, cell{size: 90})
			}
		}
		for range keys / 100 {
			set(w.rng.IntN(keys), cell{size: 90})
		}
	case "few hot keys":
		for range 2000 {
			set(w.rng.IntN(300), cell{size: 50 + w.rng.IntN(1000)})
		}
	case "comes and goes":
		for range 400 {
			set(w.rng.IntN(keys), cell{size: w.rng.IntN(400)})
			remove(w.rng.IntN(keys))
		}
		if w.rng.IntN(40) == 0 {
			for key := range w.state {
				remove(key)
			}
		}
	case "windows":
		for range 500 {
			key := w.rng.IntN(keys)
			set(int(w.id/4)*keys+key, cell{ns: int64(w.id / 4), size: 100})
		}
		if w.id%4 == 0 && w.id >= 12 {
			drop(int64(w.id/4) - 3)
		}
	case "grows":
		for i := range 100 {
			set(int(w.id)*300+i, cell{size: 100})
		}
	}
}

func (w *chained) live(groups keygroup.Range) uint64 {
	n := uint64(headBytes)
	for key, c := range w.state {
		if groups.Contains(key % w.groups) {
			n += cellBytes + uint64(c.size)
		}
	}
	return n
}

// check compares what the chains say with the state, and their size with the
// bound.
func (w *chained) check(what string) {
	got, referenced, longest := map[int]cell{}, map[identity]uint64{}, 0
	for _, c := range w.chains {
		if w.id%8 == 0 {
			maps.Copy(got, w.merge(c.runs, c.groups, true).cells)
		}
		for _, r := range c.runs {
			referenced[identityOf(r)] = r.GetLength()
		}
		longest = max(longest, len(c.runs))
	}
	if w.id%8 == 0 && !maps.Equal(got, w.state) {
		w.t.Fatalf("seed %d, %s, checkpoint %d: the chains hold %d keys, the state %d, or others", w.seed, what, w.id, len(got), len(w.state))
	}
	sum := uint64(0)
	for _, n := range referenced {
		sum += n
	}
	// What was written, and was live, while the merges under way ran and those
	// before them; and the floor of each chain.
	slack := uint64(len(w.chains)) * (64 << 10) * 7 / 4
	for _, n := range w.recent[max(0, len(w.recent)-patience):] {
		slack += n
	}
	w.lives = append(w.lives, w.live(keygroup.Range{First: 0, Last: w.groups - 1, N: w.groups}))
	if live := slices.Max(w.lives[max(0, len(w.lives)-patience):]); sum > 2*live+slack {
		w.t.Fatalf("seed %d, %s, checkpoint %d, %d subtasks: %d bytes referenced, %d live, slack %d", w.seed, what, w.id, len(w.chains), sum, live, slack)
	}
	if longest > w.most() {
		w.t.Fatalf("seed %d, %s, checkpoint %d: a chain of %d runs", w.seed, what, w.id, longest)
	}
}

// most is how long a chain may be: sixteen runs for each of two steps of sizes,
// those that come while merges run, and those of before rescales.
func (w *chained) most() int {
	if w.rescaled == 0 {
		return 2*16 + patience
	}
	return 2*16 + patience + mostNarrow
}

// Under any workload, with merges that take a while, through rescales: the chains
// hold the state, in twice its size at most, and what merging writes is bounded by
// what changed.
func TestChainsStaySmall(t *testing.T) {
	seeds := uint64(3)
	if testing.Short() {
		seeds = 1
	}
	for _, workload := range []string{"updates of 1 %", "few hot keys", "comes and goes", "windows", "grows"} {
		for _, rescales := range []bool{false, true} {
			for seed := range seeds {
				w := &chained{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 6)), groups: 16, state: map[int]cell{}, content: map[identity]plainRun{}}
				w.start(2)
				for range 120 {
					if rescales && w.rng.IntN(50) == 0 {
						w.start(1 + w.rng.IntN(5))
						w.rescaled += w.live(keygroup.Range{First: 0, Last: 15, N: 16})
						// Chains begin as they are: what was merging is lost, and
						// what others had may lie in several.
						w.recent = append(w.recent, w.live(keygroup.Range{First: 0, Last: 15, N: 16})*2)
					}
					w.checkpoint(workload)
					w.check(workload)
				}
				amplification := float64(w.mergedBytes) / float64(w.written)
				t.Logf("%-14s rescales %-5v seed %d: %d KB changed, %.2f times that merged", workload, rescales, seed, w.written>>10, amplification)
				if w.mergedBytes > 2*w.written+2*w.rescaled {
					t.Errorf("%s, seed %d: %d bytes changed, %d merged", workload, seed, w.written, w.mergedBytes)
				}
			}
		}
	}
}

// A job that is rescaled again and again, and of whose state nothing is ever dead,
// has no longer chains for it.
func TestChainsStayShortOverManyRescales(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	const seed = 1
	w := &chained{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 6)), groups: 16, state: map[int]cell{}, content: map[identity]plainRun{}, rescaled: 1}
	longest := 0
	for range 40 {
		w.start(1 + w.rng.IntN(5))
		for range patience + 5 {
			w.checkpoint("grows")
		}
		for _, c := range w.chains {
			longest = max(longest, len(c.runs))
		}
	}
	w.id += 8 - w.id%8
	w.check("many rescales") // that it is all there
	t.Logf("the longest chain had %d runs; %d KB changed, %d KB merged", longest, w.written>>10, w.mergedBytes>>10)
	if longest > w.most() {
		t.Errorf("the longest chain had %d runs, at most %d are allowed", longest, w.most())
	}
}

// Runs of before a rescale, which speak for fewer key groups, become part of a
// full run only.
func TestNarrowRunsAreNotMergedWithNewerOnes(t *testing.T) {
	mine := keygroup.Range{First: 0, Last: 7, N: 8}
	runs := func(narrow, own int) (chain []*pb.RunRef) {
		chain = []*pb.RunRef{{Length: 1 << 30, KeyGroupLast: 3}, {Length: 1 << 30, KeyGroupFirst: 4, KeyGroupLast: 7}}
		for range narrow {
			chain = append(chain, &pb.RunRef{Length: 1000, KeyGroupLast: 3})
		}
		for range own {
			chain = append(chain, &pb.RunRef{Length: 1000, KeyGroupLast: 7})
		}
		return chain
	}
	for _, c := range []struct {
		narrow, own int
		live        uint64
		from        int
		merge       bool
	}{
		{10, 5, 2 << 30, 0, false},
		{10, 6, 2 << 30, 12, true},
		{15, 1, 2 << 30, 0, false},
		{16, 0, 2 << 30, 0, false},
		{0, 16, 2 << 30, 2, true},
		{10, 6, 1 << 30, 0, true},
	} {
		from, merge := choose(runs(c.narrow, c.own), mine, c.live)
		if merge != c.merge || merge && from != c.from {
			t.Errorf("%d narrow runs and %d own, %d live: from %d, %v", c.narrow, c.own, c.live, from, merge)
		}
	}
}
