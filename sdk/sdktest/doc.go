// Package sdktest runs jobs, and parts of jobs, in tests.
//
// Operator drives a piece of a job by hand, on the goroutine of the test:
// records with times go in, event time and the clock move when the test says so,
// results come out, and a snapshot can be taken and restored at any point.
// Nothing waits, nothing happens by itself, so a test gives the same result each
// time.
//
// Run runs a whole job inside the test's process on the runtime that clusters
// use, checkpoints included, until its bounded sources end, in virtual time; Collect
// is a sink that keeps what was committed.
//
// A failure of the job or of an operator fails the test.
package sdktest
