// Package journal is the cluster's log of decisions: numbered objects of a
// bucket, each written if absent, whose fold is the state of the cluster.
//
// A journal object that exists is the truth. Of two leaders that write the
// same number one collides: Append returns ErrLeadershipLost, and from then on
// always does. A write whose reply was lost is settled by reading the object
// back and comparing the writer's nonce, so Append never writes a record twice
// and never calls a written one failed.
//
// Open reads the latest snapshot and the records behind it, and appends
// LeaderElected: only then its caller leads. Every SnapshotEvery records the
// fold is written as a snapshot, and what it covers is deleted, save the last
// SnapshotEvery records: an older leader that writes late must still collide
// (see Journal.trim).
//
// Journal is safe for any goroutine; appends are written one at a time in the
// order of their calls. It starts no goroutine. An append that fails because
// the bucket does is not in the fold, and the caller may try again; the next
// append settles first what became of it. It never interprets what jobs mean
// beyond the fold of pb.JournalSnapshot.
package journal
