// Package snapshot writes and reads runs: the sorted changes of one subtask's
// keyed state between two barriers, in the format of docs/formats/run.md.
//
// A Writer collects changes in one arena and Finish sorts and encodes them. A
// Reader opens a run for a range of key groups; Merge joins a chain of runs,
// oldest first, to the live state. ShouldCompact and Compact keep chains short.
//
// Everything is called from one goroutine at a time, beside the task, never
// on it. Nothing here starts goroutines or reads a clock; only Fetch does I/O.
// A run that is truncated or has a flipped bit is a *CorruptError, which names
// object and offset; a reader never returns half of a run as if it were all.
package snapshot
