// Package outlet is a transactional store of rows that the checker of a chaos run
// owns: it lives in the harness's process, which no fault touches, so that what
// it says of commits is beyond doubt. A job's sink reaches it over TCP.
//
// The store obeys the contract of sdk.Transactional strictly and tells of
// everything that breaks it: a commit of what was never staged, a write before
// the fence of its epoch, a checkpoint that is committed after a later one. What
// comes under an epoch below the fence is refused and counted: it is what a
// zombie does, and has no effect.
//
// Requests and answers are gob values on a connection, one request at a time.
// The server answers each connection on a goroutine of its own; a client's
// connection belongs to one goroutine at a time.
package outlet
