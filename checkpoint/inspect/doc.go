// Package inspect reads checkpoints and savepoints for people, from the bucket
// alone: neither the job's binary nor a cluster is needed.
//
// Summarize says what a manifest names, Rows gives keyed state entry by entry, as
// it would be restored (tombstones and older runs are merged away), and Verify reads
// every object and says what is damaged. Rows and Verify read runs block by block:
// memory does not grow with the state, but by its largest entries.
//
// Everything runs on the caller's goroutine and can be cancelled by its context.
// What is damaged is an error that names object and offset; nothing is guessed.
package inspect
