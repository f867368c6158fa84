package state

import (
	"iter"

	"github.com/millrace/millrace/checkpoint/snapshot"
	"github.com/millrace/millrace/runtime/keygroup"
)

// A snapshot is written in steps of some key groups each, in their order, so that
// the writer sorts little at a time, and what it sorts is in the caches.

// pagesAStep is how many pages a step has, about, unless a single key group has
// more. Tests have it smaller.
var pagesAStep = 512

// steps parts key groups evenly.
type steps struct {
	groups keygroup.Range
	n      int
}

func stepsFor(groups keygroup.Range, pages int) steps {
	return steps{groups, max(1, min(pages/pagesAStep, groups.Len()))}
}

// step is that which is being written.
type step struct {
	w           *snapshot.Writer
	groups      keygroup.Range // of all steps
	number      int
	first, last uint64 // hashes
	changed     int    // entries that changed in the last epoch, so far
}

// begin makes s the step of a number, and returns its last key group.
func (all steps) begin(s *step, number int) (group int) {
	at := func(n int) int { return all.groups.First + (n*all.groups.Len()+all.n-1)/all.n }
	group = at(number+1) - 1
	s.number = number
	s.first, _ = hashesOf(at(number), all.groups.N)
	_, s.last = hashesOf(group, all.groups.N)
	return group
}

// of is the step of a hash; those that are none of the groups' belong to the
// first or the last.
func (all steps) of(hash uint64) int {
	group := min(max(keygroup.Of(hash, all.groups.N), all.groups.First), all.groups.Last)
	return (group - all.groups.First) * all.n / all.groups.Len()
}

// parted are the numbers of things by steps.
type parted struct {
	order  []uint32
	starts []int // of the steps in order
	all    int   // with a single step there is no order
}

// sort parts n things by the hashes that each has. One that has hashes of several
// steps is in all of them.
func (all steps) sort(n int, hashes func(i int) (first, last uint64)) parted {
	if all.n == 1 {
		return parted{all: n}
	}
	p := parted{starts: make([]int, all.n+2)}
	each := func(f func(step, i int)) {
		for i := range n {
			first, last := hashes(i)
			for s := all.of(first); s <= all.of(last); s++ {
				f(s, i)
			}
		}
	}
	each(func(s, _ int) { p.starts[s+2]++ })
	for s := range all.n {
		p.starts[s+2] += p.starts[s+1]
	}
	p.order = make([]uint32, p.starts[all.n+1])
	each(func(s, i int) {
		p.order[p.starts[s+1]] = uint32(i)
		p.starts[s+1]++
	})
	return p
}

// of yields the numbers of a step, in their order.
func (p *parted) of(s *step) iter.Seq[int] {
	return func(yield func(int) bool) {
		if p.starts == nil {
			for i := range p.all {
				if !yield(i) {
					return
				}
			}
			return
		}
		for _, i := range p.order[p.starts[s.number]:p.starts[s.number+1]] {
			if !yield(int(i)) {
				return
			}
		}
	}
}
