// Package schema reads the texts that describe encoded values
// (docs/formats/codec.md) and works on the bytes by them alone, without the Go
// types that wrote them: it says what differs between two versions and whether
// the newer one can read the older, passes over values, prints them as JSON,
// and computes the hash of a key.
//
// Package runtime/codec derives schemas from Go types and moves values between
// bytes and memory; what may change between versions is decided here, so that a
// plan is judged by the same rules as a restore.
//
// Everything is a pure function and may be called from any goroutine. Bytes that
// are not the encoding of a value are an error (ErrCorrupt), never a panic; no
// function takes memory out of proportion to its input.
package schema
