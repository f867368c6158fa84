// Package catalog decides about streams: creation, deletion, retention, tags,
// how shards are split and merged, and which task manager hosts which shard. It is pure: every function takes a
// catalog and the time, and returns a new catalog or an error; it never
// changes its arguments, holds no state, starts no goroutine and does no I/O.
//
// The job manager is its only caller. It journals what Decide, SetHost, Sealed
// and Settle return before anybody hears of it, sends it to every task manager, and
// calls Settle when they report which version they have applied:
//
//	CreateStream ─▶ CREATING ──owners have applied──▶ ACTIVE
//	DeleteStream ─▶ DELETING ──live owners have applied──▶ gone
//	SplitShard, MergeShards, ScaleStream ─▶ UPDATING ──parents sealed, children open──▶ ACTIVE
//
// A shard stays with its host while that is away: its records are on that
// host's disk and wait there. Only what holds nothing yet is placed
// anew: the shards of a stream that is CREATING, the children of a split.
package catalog
