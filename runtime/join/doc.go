// Package join has the operators that bring two keyed streams together: Keyed
// (rows of a key, for ever or for a time to live), Interval (rows of a key whose
// event times are near), Window (rows of a key and a window), Temporal (each row
// with the version that was valid at its time), and, of one stream, Lookup (rows
// with what a function finds).
//
// What comes in at port 0 is the left side, at port 1 the right one. Each kept row
// is an entry of state of its own, so a key with many rows costs neither updates
// nor checkpoints more than one with few, and matching walks through rows where
// they lie. Where event time bounds a join, rows lie in stretches of time (era)
// that are dropped as a whole, in O(1), once the watermark has passed them.
//
// Outer joins do not retract: a row without a match comes out once, when it is
// final, which each operator says of itself. Barriers may fall while such rows come
// out, or windows: rows and keys that were dealt with are marked in the state, so a
// restore at any parallelism goes on behind them.
//
// Operators belong to the goroutine of their task. Rows are passed to Pair by
// pointer into state: it must neither change nor keep them.
package join
