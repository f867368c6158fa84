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
	// Resize is the tag of the Resize that is granted, 0 for an Ask. The job
	// holds what it held before as well, until it calls Keep.
	Resize uint64
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
//  2. A job holds slots or waits, not both; it resizes only what it holds.
//  3. The first waiting request does not fit.
//  4. No resize waits that is to fewer slots or, while no request waits, that fits.
type Pool struct {
	total   map[string]int
	held    map[string]map[string]int // job, task manager, slots
	waiting []Waiting
	resizes []resize
}

// resize is a Resize that has not been granted: want slots in all.
type resize struct {
	job  string
	want int
	tag  uint64
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
// order of their ids. Their other slots stay theirs until released; a Resize of
// theirs is withdrawn.
func (p *Pool) Lose(id string) []string {
	delete(p.total, id)
	return p.drop(id)
}

func (p *Pool) drop(id string) (jobs []string) {
	for job, at := range p.held {
		if _, ok := at[id]; ok {
			delete(at, id)
			p.forget(job) // it is to ask again
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
	p.forget(job)
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
	p.forget(job)
	if i := p.waits(job); i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
	}
	return p.serve()
}

// Resize requests n slots for a job that holds some, of which it loses none: the
// grant, perhaps at once, names n of those that it then holds. It replaces an
// earlier Resize of the job. A job that holds nothing has nothing to resize.
func (p *Pool) Resize(job string, n int, tag uint64) []Grant {
	p.forget(job)
	if p.Held(job) > 0 {
		p.resizes = append(p.resizes, resize{job, n, tag})
	}
	return p.serve()
}

// Keep gives back what a job holds beyond these slots, and withdraws a Resize
// that was not granted. What it does not hold it does not get.
func (p *Pool) Keep(job string, slots []string) []Grant {
	p.forget(job)
	keep := map[string]int{}
	for _, id := range slots {
		if keep[id] < p.held[job][id] {
			keep[id]++
		}
	}
	if p.held[job] != nil {
		p.held[job] = keep
	}
	return p.serve()
}

func (p *Pool) forget(job string) {
	p.resizes = slices.DeleteFunc(p.resizes, func(r resize) bool { return r.job == job })
}

func (p *Pool) waits(job string) int {
	return slices.IndexFunc(p.waiting, func(w Waiting) bool { return w.Job == job })
}

// serve grants waiting requests from the first on, until one does not fit; then
// resizes: to fewer slots, which take nothing from those who wait, and, if none
// waits any more, to more that fit.
func (p *Pool) serve() (grants []Grant) {
	for len(p.waiting) > 0 && p.waiting[0].Want <= p.Free() {
		w := p.waiting[0]
		p.waiting = p.waiting[1:]
		took := p.grow(map[string]int{}, w.Want)
		p.held[w.Job] = took
		grants = append(grants, Grant{Job: w.Job, Slots: listed(took)})
	}
	for i := 0; i < len(p.resizes); {
		r := p.resizes[i]
		held := p.Held(r.job)
		if r.want > held && (len(p.waiting) > 0 || r.want > held+p.Free()) {
			i++
			continue
		}
		p.resizes = slices.Delete(p.resizes, i, i+1)
		chosen := maps.Clone(p.held[r.job])
		if r.want > held {
			p.held[r.job] = p.grow(chosen, r.want)
		} else {
			shrink(chosen, r.want)
		}
		grants = append(grants, Grant{Job: r.job, Slots: listed(chosen), Resize: r.tag})
	}
	return grants
}

// grow adds free slots to those of a job until it has n, each where it has the
// fewest.
func (p *Pool) grow(took map[string]int, n int) map[string]int {
	free := p.free()
	ids := slices.Sorted(maps.Keys(free))
	for count(took) < n {
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
	return took
}

// shrink takes slots away until n are left, each where the job has the most.
func shrink(took map[string]int, n int) {
	for count(took) > n {
		ids := slices.Sorted(maps.Keys(took))
		slices.Reverse(ids) // of equals the last goes
		most := slices.MaxFunc(ids, func(a, b string) int { return took[a] - took[b] })
		if took[most]--; took[most] == 0 {
			delete(took, most)
		}
	}
}

func count(took map[string]int) (n int) {
	for _, k := range took {
		n += k
	}
	return n
}

// listed names slots one by one, those of one task manager side by side.
func listed(took map[string]int) []string {
	slots := make([]string, 0, count(took))
	for _, id := range slices.Sorted(maps.Keys(took)) {
		for range took[id] {
			slots = append(slots, id)
		}
	}
	return slots
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
func (p *Pool) Held(job string) int { return count(p.held[job]) }

// Resizes lists the jobs that wait for another number of slots.
func (p *Pool) Resizes() (jobs []string) {
	for _, r := range p.resizes {
		jobs = append(jobs, r.job)
	}
	return jobs
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
	for _, r := range p.resizes {
		if p.waits(r.job) >= 0 {
			return fmt.Errorf("invariant 2: job %s waits and resizes", r.job)
		}
		if held := p.Held(r.job); r.want <= held || len(p.waiting) == 0 && r.want <= held+p.Free() {
			return fmt.Errorf("invariant 4: job %s waits for %d slots, holds %d and %d are free", r.job, r.want, p.Held(r.job), p.Free())
		}
	}
	if len(p.waiting) > 0 && p.waiting[0].Want <= p.Free() {
		return fmt.Errorf("invariant 3: job %s waits for %d slots, %d are free", p.waiting[0].Job, p.waiting[0].Want, p.Free())
	}
	return nil
}
