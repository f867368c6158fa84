// Package timer keeps timers of keys: (time, key) pairs, each at most once,
// fired in order of time. The times of a key are keyed state, so they are in
// every checkpoint and follow their key when a job is rescaled; the order among
// keys is a heap in memory that Rebuild makes again from the state.
//
// All methods are for the goroutine of the task.
package timer
