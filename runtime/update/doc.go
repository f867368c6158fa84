// Package update holds the operators of update streams: streams whose rows come
// and go. Such a stream is the changelog of a table. Its batches have an Ops
// column (package batch) that says of each row whether it is inserted or
// deleted; a row that changes is a delete of the old one and an insert of the new
// one, next to each other, in that order and in one batch.
//
// Rows carry no identity: a delete takes back a row that is equal to one that was
// inserted before and not yet deleted. So every function of a record that these
// operators are given must depend on the record alone. A delete and the insert
// it takes back travel the same way: they have the same key, and on the way from
// one subtask to another they keep their order.
//
// Keyed operators take a batch key by key. All rows of a key in a batch are
// folded into its state at once, and what that changes in the end is emitted
// once: several updates of one key become one. Nothing is held back: when Push
// returns, what has come out is the changelog of what has gone in.
//
// In a batch run (Context.Batch) keyed operators emit nothing before the end of
// their input, then every row of the result once, as inserts. Keys that were
// emitted are gone from the state, so a restart goes on where the checkpoint was.
package update
