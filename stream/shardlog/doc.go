// Package shardlog is the log of all shards of one task manager: one Pebble
// store, keyed by (kind, generation, shard, place), whose values are record
// blocks (docs/formats/shardlog.md).
//
// # Promises
//
//  1. What Append, Stage, Commit or Fence acknowledged is on disk: fsynced.
//     There is no lazy mode.
//  2. Places of a shard rise by one from 1, in the order of acknowledgement;
//     arrival times never fall. A reader sees records in that order, none
//     missing, and none before it is durable.
//  3. A staged block is invisible until Commit, which makes all blocks of its
//     transaction visible in the shard by one batch: all or nothing, also
//     across a power loss. Commit may be repeated.
//  4. After Fence, nothing of (lineage, sink) below its epoch gets in, save the
//     commit of a transaction that the fence kept.
//  5. Retention hides records in order from the oldest on; none comes back.
//  6. A shard that is sealed takes no record after that, also across a power
//     loss; what it acknowledged before is its content for good. A transaction that
//     was staged in it can still be taken out, to be committed elsewhere.
//
// # Who calls
//
// Every method may be called from any goroutine while Run runs. One goroutine,
// Run's committer, decides all writes: it gathers what waits, assigns places,
// and writes one Pebble batch with one fsync for all of it; the answers,
// refusals too, are given after that fsync, so that no answer rests on state
// that a power loss could take back. Callers wait in a bounded queue. Readers
// take Pebble's iterators and never wait for writers.
//
// # Failure
//
// A failed write or fsync, beside the writes too, leaves what is on disk unknown:
// the log fails for good, every later write is answered StoreFailed, and only
// opening it again helps. Where Pebble has given up in the middle, the folder is free
// again when the process ends. Reads of what was acknowledged go on. A disk with too
// little room is no failure: appends are refused with DiskFull before anything is
// written. A read that fails is answered StoreFailed, one that meets damage Corrupt.
//
// The package never retries a write, never drops a shard by itself, and knows
// nothing of owners and hosts.
package shardlog
