// Package sink is the contract of sinks: plain ones, which write as records
// come, and transactional ones, whose output nobody sees until the checkpoint
// that covers it has completed.
//
// It has no code of its own but the marks on errors. Whoever implements it runs
// the suite of sdk/sdktest/sinktest; docs/sinks.md is its manual.
package sink
