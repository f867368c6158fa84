// Package checkpoint decides when the checkpoints of one job begin, complete
// and go away. Its rooms are the formats: manifest and snapshot.
//
// Coordinator is a pure step machine: Step takes an event and the time and
// returns actions. It starts no goroutine, reads no clock and does no I/O; the
// job master embeds it, calls it from its own goroutine and carries its
// actions out. Nothing that it is told late, twice or for a checkpoint that it
// gave up changes anything.
//
// A checkpoint is complete when the journal names its manifest, not before; the
// coordinator says so with Completed and then waits for Committed before it
// begins the next one, so that what sinks have not committed yet is always
// what the latest checkpoint holds.
//
// Retention counts names, not references: an object goes when a completed
// checkpoint that is newer does not name it and no retained one does. An
// object of a savepoint is the user's and never goes. What an earlier epoch left,
// and nobody remembers, is found by listing and goes too (sweep.go).
package checkpoint
