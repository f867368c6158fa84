// Package chaos proves exactly-once from outside. It runs a cluster of real
// processes, feeds it accounts (package ledger), breaks it at random moments, and
// checks every commit that a store of its own (package outlet) receives.
//
//	go test ./internal/chaos                 the short form, under a minute
//	make chaos KILLS=1000                    the long form; SEED repeats a run
//	make chaos CHAOSFLAGS='-mixed -killing'  mostly kills, two a second
//	make chaos-controls                      each planted bug must be found
//
// Run is one run: it returns a Report, and an error for the first thing that a
// correct system never does, with the seed and the last faults. Faults are drawn
// from the seed; processes and clocks are real, so that a seed repeats the choices
// and not every interleaving. The kinds of faults are the table recipes: a kind is a
// line there and a method that makes it.
//
// Every process that a run starts it ends, by its id, and every folder that it
// makes it removes. It needs the process table of Linux.
package chaos
