// Package inflight reads the entries of records that a barrier has overtaken
// (docs/formats/inflight.md) by what they say of themselves: without the types of
// the job. Package runtime/exchange writes them and takes the records up.
//
// Everything is a pure function and may be called from any goroutine. What does
// not add up is an error that wraps ErrCorrupt; no input makes it take more
// memory than a small multiple of itself.
package inflight
