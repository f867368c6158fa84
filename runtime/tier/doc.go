// Package tier keeps pages of keyed state that are not in memory in a folder of
// the local disk, in Pebble. A Disk is a state.Disk for all stores of a process.
//
// What makes state durable is a checkpoint, so nothing here outlives the process:
// there is no write-ahead log, no file is synced, and Open empties the folder.
//
// Any goroutine may call a Disk, until Close. Commit waits while more is written than
// can be flushed; all who wait look again after each flush. The first failure of
// a write, also one in the background, and the first of a read, a block whose checksum
// is wrong among them, are those of all later calls: what was written may be lost then,
// and only a restore helps. No call waits for a disk that has failed. What is read
// is what was written, or an error.
package tier
