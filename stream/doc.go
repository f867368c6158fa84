// Package stream is the vocabulary of durable streams: hash keys, sequence
// numbers, errors, limits, and the Service that fronts are written against.
//
// A stream is a set of shards that partition the 128-bit MD5 hash space of the
// partition key. A shard is an ordered log, hosted by one task manager; the
// sequence numbers of its records rise by one. What is in the sub-rooms:
//
//	block     records as bytes: on the wire and in the log
//	catalog   the decisions about streams and who hosts their shards (pure)
//	shardlog  the log of the shards of one task manager, in Pebble
//	client    the shard protocol, for workers and for other task managers
//	server    its other end
//	broker    Service over the local shards and the client
//	kinesis   the Kinesis API over Service
//
// The package holds values only: it starts no goroutine, reads no clock and
// touches no disk.
package stream
