// Package slots decides which slots of which task managers a job gets.
//
// Pool is a step machine: task managers come and go, jobs ask and release,
// and every call returns the grants that it made possible. A job gets all the
// slots that it asked for or none; requests wait in their order, so a large
// one is never starved by small ones behind it. Slots of one job spread evenly
// over task managers: each next slot is taken where the job holds the fewest,
// then where the most are free, then at the smallest id.
//
// A job that holds slots may ask for another number of them and loses none
// meanwhile: Resize grants what it would hold, Keep says what it does hold from
// then on. Fewer are granted at once; more, when no job waits that holds nothing,
// and a request that does not fit holds nothing back.
//
// Pool has no goroutine, clock or lock: its owner calls it from one goroutine.
// It never takes a slot away: a lost task manager's slots are gone, and the job
// that held them asks again.
package slots
