// Package sdk is how jobs are written: typed streams from sources through
// operators to sinks, in event time, with state that survives failures.
//
//	func main() { sdk.Main(build) }
//
//	func build(env *sdk.Env) error {
//		env.Name("hot-pages")
//		bound := env.Duration("bound", time.Minute, "how late a visit may be")
//		sdk.From(env, shards.Source("visits", sdk.JSON[Visit]())).
//			WithTimestamps(sdk.BoundedOutOfOrderness(bound, func(v Visit) time.Time { return v.At })).
//			KeyBy(func(v Visit) string { return v.Page }).
//			Window(sdk.Sliding(time.Hour, time.Minute)).
//			Aggregate("hits", sdk.Count[Visit](), func(w sdk.Window, page string, n int64) Hits {
//				return Hits{page, w.End, n}
//			}).
//			To(shards.Sink("hits", sdk.JSON[Hits](), func(h Hits) string { return h.Page }))
//		return nil
//	}
//
// # A binary is a job
//
// Main makes a program a job. `go run` it, and the whole job runs inside that
// process; give the binary to `millrace run`, and its subtasks run on a cluster,
// on as many task managers as there are. The build function only describes the
// job: it is run again in every worker, must come to the same graph each time,
// and sees nothing but the job's flags (Env.String, Env.Duration and others).
//
// # Streams
//
// From makes a DataStream of a source. Map, TryMap, Filter, FilterMap, FlatMap,
// Union and Process make further ones, Rebalance and Broadcast spread them, KeyBy
// partitions them by key, and To ends them in a sink. On a KeyedStream, Reduce,
// Aggregate and Process keep state for each key, and Window cuts it into windows
// of time: Tumbling, Sliding, Cumulating or Session, which Trigger fires early and
// Evict thins out. Connect puts two streams before one operator, ConnectBroadcast
// one before all subtasks of another.
//
// AsyncMap makes many calls at a time to what is outside of the job.
//
// Streams are joined by key: Join brings together the records of a key, within
// bounds of event time (Join.Between), windows (Join.Window) or a time to live,
// inner and outer; JoinVersions each record with the version of a table that was
// valid at its time; Lookup with what a table outside of the job says now.
//
// Operators are typed all the way: a record is never put into an interface,
// and between operators of one chain it is passed on by a function call. Records
// are immutable once emitted, and must not be changed by who receives them.
//
// # Running results
//
// A result that changes is a table, and its stream the table's changelog: rows
// come and go. Updates is such a stream, apart from streams of records, and
// KeyedUpdates what makes them: running aggregates that take rows out again
// (Aggregate, Max, Min), the first rows of each key (TopN), one row of each key
// (Last, Best, Distinct) and exact numbers of different values (CountDistinct,
// AggregateDistinct). Results can be results of results:
//
//	bids.KeyBy(auction).AsUpdates().
//		Max("prices", price, func(auction int64, max int64) Sold { return Sold{auction, max} }).
//		KeyBy(category).
//		Aggregate("means", sdk.MeanOf(Sold.Price), func(category string, m sdk.Mean[int64]) Row { … }).
//		To(table)
//
// Several changes of one key within a batch become one. The stream ends in a sink
// that takes updates (UpdatingSink), or becomes one of records with Changes.
//
// Env.Batch, and the flag --batch of every job, make a run over bounded input
// show final results only.
//
// # Time
//
// WithTimestamps says what the event time of a record is and how far records may
// be out of order. Event time moves on as records come, window results and timers
// fire when it has passed them, and what comes later than that is late: it goes
// to a side output (Late) or is counted, never silently lost. Processing time is
// there where event time is not (Windows.InProcessingTime, SetProcessingTimer).
//
// # State, names and failures
//
// A checkpoint is taken every second (Env.CheckpointEvery). After a failure the
// job restarts from the last one: sources go back to their positions, state and
// timers are as they were, and sinks that are Transactional show each result
// exactly once: those of the packages below connector do. Sinks that are not, such
// as WriteFiles and Func, see the records since the checkpoint again.
//
// State of a KeyedStream.Process is a Value, List, Map, Reducing or Aggregating for
// each key, and expires if it is declared with a TTL. Operators such as Reduce, First
// and TopN keep something for each key for ever, unless they are given a TTL.
//
// What keeps state has a name, by which a restore finds it: operators on keyed
// streams take theirs as an argument, sources and sinks have one from what they
// read and write, and Named changes it. State types and record types may be any
// Go types made of numbers, strings, structs, slices, arrays, maps, pointers and
// time.Time; fields may be added, removed and widened between versions of a job.
//
// # What is refused
//
// A wrong job is refused when it is planned, before a record flows, with the
// operator's name and a remedy: types that cannot be encoded or be keys, state
// without a name, two operators with one name, event time where there are no
// timestamps, a stream that ends nowhere, an unknown flag. See Plan.
//
// # Testing
//
// Package sdktest runs jobs and operators in virtual time; sdktest/sinktest proves
// transactional sinks.
package sdk
