// Package state keeps the keyed state of one operator instance: typed, dense
// tables in memory, in the order of the key hash, with a barrier that costs
// O(1).
//
// A Store belongs to the goroutine of its task, and so do its tables and
// handles; only Frozen.Write runs elsewhere, beside the task, without locks
// between the two. Tables are declared while the operator opens, then Load
// fills them from a restored checkpoint, then records come.
//
// A table is a set of pages, each holding the keys of a contiguous range of
// hashes; a page that is full splits, so a table grows page by page and never
// rehashes. Pages are free of pointers when key and value are, so that the
// garbage collector does not walk the state; strings of a page lie together, so
// that it has little to mark (text.go).
//
// Table and Spaces are generic where they search and assign. Below that a table
// is the same code for all types, which reaches entries by their addresses.
//
// Freeze bumps the store's epoch and hands the list of pages changed since the
// last one to a Frozen. The first write to one of those pages after that puts a
// copy in its place and leaves the page, now immutable, to the Frozen. Its
// changes stay with the store until Release says that the checkpoint is
// durable: a Frozen that was aborted, or not released before the next Freeze, is
// carried into that one's delta.
//
// With UseDisk pages beyond a budget are on a disk, which tiered state is about
// (tier.go). Get, Upsert, Delete, Scan and Ease then panic with a DiskError when it
// fails; the store is over with it.
//
// Entries of a state with a TTL expire (ttl.go): the operator says what time it
// is with SetEventTime before each record and timer, and with Passed what it has
// reached; brooms remove what is over (sweep.go) while Ahead is called, and at
// barriers. What other tables have for an entry goes with it (OnExpire, Parts).
//
// Keys passed with a hash must always come with the same one: that of
// keygroup.HasherOf for their type, or of the table's own hash function.
//
// Values read with Get are for reading. Nobody may keep memory that a value
// holds (a slice, a map) and write to it later: the copy that a checkpoint
// needs is made when the value is next asked for.
package state
