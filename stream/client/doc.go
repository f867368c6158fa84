// Package client speaks the shard protocol (docs/protocols.md): it reads,
// appends, stages and commits records at whichever task manager hosts a shard,
// without HTTP.
//
// A Client keeps the catalog and one connection per host; all its methods may
// be called from any goroutine. It dials at the first request and starts a
// reading and a writing goroutine per connection, which Close ends and waits
// for. Requests are multiplexed: they wait for each other nowhere but at the
// bound on what is under way. When a host answers not-owner or is away, the
// client asks for the catalog again and tries the request anew, with backoff,
// until RetryFor is over; errors are *stream.Error.
//
// A Reader prefetches one shard for a task that must not block; a Stager
// collects a sink's records into blocks and pipelines them. The package never
// decides who owns a shard and never retries an Append whose outcome is not
// known.
package client
