// Package shards connects jobs to the durable stream shards of their cluster.
//
// Source reads a stream. Each shard is a split, its position the sequence number
// of the last record taken in, so every record counts once in the job's state,
// through failures, restores and rescaling. Records are read ahead up to a bound
// in bytes; event time defaults to a record's arrival.
//
// Sink writes a stream, exactly once by default: records are staged at the
// shards, fsynced and invisible, and all records of a checkpoint become readable
// when it has completed, at once in each shard. A failure in between is settled
// on restore: what the checkpoint holds is committed, the rest is dropped, and a
// process of an older attempt that still lives can write nothing more. Records
// with one key keep the order in which one subtask wrote them.
//
// A missing stream is an error for a source, naming the command that creates it,
// and is created by a sink. Shards belong to a cluster: a job that runs by hand,
// in its own process, has none.
//
// The methods of a Source and a Sink are called by the runtime (see packages
// sdk and runtime/source); nothing here starts a goroutine except through the
// client of the shards, which is closed with the last reader or writer that uses
// it.
package shards
