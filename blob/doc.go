// Package blob stores whole objects in a bucket: a folder, memory, or S3.
//
// The bucket is what a cluster must not lose: journal, binaries, checkpoints.
// Every Bucket promises the same, and package blobtest proves it for each:
//
//   - A write that returned nil is durable (memory: as long as the process).
//   - A reader sees a whole object or none, whatever crashed and when.
//   - PutIfAbsent and CompareAndSwap are atomic among all processes that use
//     the bucket, and none of them can hold up another: there is no lock.
//   - A write that failed may have happened. Who must know puts a nonce into
//     the object and reads it back.
//
// All methods may be called from any goroutine. A Bucket starts no goroutine
// that outlives a call. It never retries what the caller could not have
// retried itself, and never interprets what it stores.
//
// Keys are '/'-separated segments; ValidateKey says which. A key that holds an
// object can not also be a folder: with object "a" there is no "a/b".
package blob
