// Package snapshot writes and reads runs: the sorted changes of one subtask's
// keyed state between two barriers, in the format of docs/formats/run.md.
//
// A Writer collects the changes of each key group, and sorts and encodes those of
// groups that are Done. With a Scratch it holds no more than that says: sorted
// parts go to a file and are merged at the end, to the same bytes. An Opener opens the runs of a chain
// where they are, in a copy on this machine or in the bucket, and reads them in
// windows, some ahead. Merge joins them, oldest first, to the live state, and
// Replay gives their changes to whoever makes that state anew. Choose and Merger
// keep chains short and small.
//
// Everything is called from one goroutine at a time, beside the task, never
// on it. A reader's read-ahead has goroutines, which end with the window that
// they read; Close waits for them. Nothing else here starts any.
//
// A run that is truncated or has a flipped bit is a *CorruptError, which names
// object and offset. A reader gives out no entry of a block that it has not
// checked, so that what it gave before an error is right, though not all. What
// may pass is tried again: a bucket that does not answer, bytes that were hurt on
// their way; and what does not check in a copy is read from the bucket.
package snapshot
