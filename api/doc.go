// Package api is the face that clients see: openapi.yaml, the hand-kept
// specification of the REST interface, and the one catalogue of error codes.
//
// An error has a code, a kebab-case key of the catalogue that never changes
// its meaning; the code decides HTTP status, title and the remedy shown when
// the raiser names none. Error carries it through Go, pb.Error between
// processes, Body over HTTP (Flink's errors list beside the fields of
// RFC 9457).
//
// Everything here is a value: safe for any goroutine, no I/O, no state. The
// package never matches error text.
package api
