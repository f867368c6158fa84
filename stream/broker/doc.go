// Package broker is a task manager's view of all streams: stream.Service over
// the shards in its own log and, for the others, over the shard protocol.
//
// The task manager pushes every version of the catalog into SetCatalog, which
// creates and drops local shards; it never decides placement. All methods may
// be called from any goroutine. The broker starts no goroutine that outlives a
// call, and owns neither the log nor the client given to it.
package broker
