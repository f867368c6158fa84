// Package clustertest proves the promises of Millrace from outside: its tests
// build bin/millrace and job binaries once, run them as real processes on
// loopback, end them with signals at random moments, and look at nothing but
// the command line, REST, the Kinesis API and the process table.
//
// It has no code besides its tests. Every process that a test starts it also
// ends, by its id. Random moments come from a seed that a failure prints:
//
//	MILLRACE_SEED=n    repeats the choices of a failed run
//	MILLRACE_KILLS=n   rounds of the kill test, 20 at the least
//
// The tests need the process table of Linux and are built there only.
package clustertest
