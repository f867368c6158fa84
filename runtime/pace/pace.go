// Package pace bounds how many records are taken at a time by how fast they
// are dealt with.
//
// What is on its way when a barrier comes must be dealt with before it, so a
// task that is slow, or that waits for a slow one, is to have little on its
// way: so much as takes it a few hundredths of a second, not so much as fits.
package pace

import "time"

// memory is the working time that a Pace remembers.
const memory = 100 * time.Millisecond

// Pace is the rate at which one task deals with records, counted over the time
// that it worked or was held back by others, not over the time that it had
// nothing to do. The zero value knows no rate and bounds nothing. It belongs to
// one goroutine.
type Pace struct {
	records float64
	time    float64 // in nanoseconds
}

// Took says that records took so long.
func (p *Pace) Took(records int, d time.Duration) {
	// What came before fades by as much as the memory moves on: one slow batch
	// makes the fast ones forgotten.
	keep := max(0, 1-float64(d)/float64(memory))
	p.records = keep*p.records + float64(records)
	p.time = keep*p.time + float64(d)
	if p.time > float64(memory) { // so that a very slow one is forgotten, too
		p.records *= float64(memory) / p.time
		p.time = float64(memory)
	}
}

// Known says whether anything was dealt with yet.
func (p *Pace) Known() bool { return p.time > 0 }

// First is how many records to begin with while no pace is known: few, for they
// may turn out to take seconds each.
const First = 16

// Within is how many records can be dealt with in d: at least 1, at most most.
func (p *Pace) Within(d time.Duration, most int) int {
	if p.time <= 0 {
		return most
	}
	n := p.records * float64(d) / p.time
	if n >= float64(most) {
		return most
	}
	return max(1, int(n))
}
