package slots

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// Grant gives a job its slots: Slots[i] is the task manager of slot i.
// Slots of one task manager are neighbours, so that subtasks with neighbouring
// key groups share a worker.
type Grant struct {
	Job   string
	Slots []string
}

// Waiting is a request that has not been granted.
type Waiting struct {
	Job  string
	Want int
}

// TaskManager is what the pool knows of one.
type TaskManager struct {
	ID          string
	Total, Free int
}

// Pool holds the slots of a cluster. Invariants (check):
//
//  1. used by jobs ≤ total, for every task manager.
//  2. A job holds slots or waits, not both.
//  3. The first waiting request does not fit.
type Pool struct {
	total   map[string]int
	held    map[string]map[string]int // job, task manager, slots
	waiting []Waiting
}

// New returns an empty pool.
func New() *Pool {
	return &Pool{total: map[string]int{}, held: map[string]map[string]int{}}
}

// Join adds a task manager with n slots. One that is known by this id is
// replaced: what its former run held is lost.
func (p *Pool) Join(id string, n int) []Grant {
	p.drop(id)
	p.total[id] = n
	return p.serve()
}

// Lose removes a task manager and returns the jobs that held slots there, in
// order of their ids. Their other slots stay theirs until released.
func (p *Pool) Lose(id string) []string {
	delete(p.total, id)
	return p.drop(id)
}

func (p *Pool) drop(id string) (jobs []string) {
	for job, at := range p.held {
		if _, ok := at[id]; ok {
			delete(at, id)
			jobs = append(jobs, job)
		}
	}
	slices.Sort(jobs)
	return jobs
}

// Ask requests n slots for a job; what it holds is released first, and an
// earlier request of it is replaced, keeping its place.
func (p *Pool) Ask(job string, n int) []Grant {
	delete(p.held, job)
	w := Waiting{Job: job, Want: n}
	if i := p.waits(job); i >= 0 {
		p.waiting[i] = w
	} else {
		p.waiting = append(p.waiting, w)
	}
	return p.serve()
}

// Release gives back all that a job holds or waits for.
func (p *Pool) Release(job string) []Grant {
	delete(p.held, job)
	if i := p.waits(job); i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
	}
	return p.serve()
}

func (p *Pool) waits(job string) int {
	return slices.IndexFunc(p.waiting, func(w Waiting) bool { return w.Job == job })
}

// serve grants waiting requests from the first on, until one does not fit.
func (p *Pool) serve() (grants []Grant) {
	for len(p.waiting) > 0 && p.waiting[0].Want <= p.Free() {
		w := p.waiting[0]
		p.waiting = p.waiting[1:]
		grants = append(grants, p.grant(w))
	}
	return grants
}

// grant takes the slots of a request that fits.
func (p *Pool) grant(w Waiting) Grant {
	free := p.free()
	took := map[string]int{}
	ids := slices.Sorted(maps.Keys(free))
	for range w.Want {
		best := slices.MinFunc(ids, func(a, b string) int {
			full := func(id string) int {
				if free[id] == 0 {
					return 1
				}
				return 0
			}
			return cmp.Or(full(a)-full(b), took[a]-took[b], free[b]-free[a])
		})
		free[best]--
		took[best]++
	}
	g := Grant{Job: w.Job, Slots: make([]string, 0, w.Want)}
	for _, id := range ids {
		for range took[id] {
			g.Slots = append(g.Slots, id)
		}
	}
	p.held[w.Job] = took
	return g
}

func (p *Pool) free() map[string]int {
	free := maps.Clone(p.total)
	for _, at := range p.held {
		for id, n := range at {
			free[id] -= n
		}
	}
	return free
}

// Total is the number of slots of all task managers.
func (p *Pool) Total() (n int) {
	for _, t := range p.total {
		n += t
	}
	return n
}

// Free is the number of slots that no job holds.
func (p *Pool) Free() (n int) {
	for _, f := range p.free() {
		n += f
	}
	return n
}

// Held is the number of slots that a job holds.
func (p *Pool) Held(job string) (n int) {
	for _, h := range p.held[job] {
		n += h
	}
	return n
}

// Waiting lists the requests that wait, in their order.
func (p *Pool) Waiting() []Waiting { return slices.Clone(p.waiting) }

// TaskManagers lists the task managers by id.
func (p *Pool) TaskManagers() []TaskManager {
	free := p.free()
	var all []TaskManager
	for _, id := range slices.Sorted(maps.Keys(p.total)) {
		all = append(all, TaskManager{ID: id, Total: p.total[id], Free: free[id]})
	}
	return all
}

// check returns the first invariant that does not hold.
func (p *Pool) check() error {
	for id, f := range p.free() {
		if f < 0 {
			return fmt.Errorf("invariant 1: task manager %s has %d free slots", id, f)
		}
	}
	for _, w := range p.waiting {
		if p.held[w.Job] != nil {
			return fmt.Errorf("invariant 2: job %s waits and holds slots", w.Job)
		}
	}
	if len(p.waiting) > 0 && p.waiting[0].Want <= p.Free() {
		return fmt.Errorf("invariant 3: job %s waits for %d slots, %d are free", p.waiting[0].Job, p.waiting[0].Want, p.Free())
	}
	return nil
}
