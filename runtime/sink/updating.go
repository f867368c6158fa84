package sink

// Updating is a Sink that takes update streams: batches given to its Writer may
// have an Ops column, which says of each row whether it comes or goes (package
// batch). A Sink without it is given inserts only; what flows to it from an update
// stream is refused when the job is planned.
//
// A delete takes back a row that is equal to one inserted before. Changes of one
// row come to one writer, in order.
type Updating interface {
	// TakesUpdates says that it does, for sinks that do so only in some of
	// their forms.
	TakesUpdates() bool
}

// Keyed is an Updating Sink whose target knows rows by a key: an insert sets the
// row of its key, a delete takes it away. Rows of a key all come to one writer,
// and in order if they were made of one key of the operator before; then the last
// change of a key is the row's final state.
type Keyed[T any] interface {
	Updating
	// RowKey is the key of a row. It depends on the row alone, and is called by
	// several goroutines at once.
	RowKey(v T) string
}
