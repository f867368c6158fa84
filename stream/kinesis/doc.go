// Package kinesis is the API of Amazon Kinesis Data Streams over a
// stream.Service, for unmodified AWS clients: JSON 1.1 and CBOR 1.1 bodies,
// Signature Version 4, HTTP/1.1, HTTP/2 over TLS and in clear text.
//
// A Server is an http.Handler and may be called from any goroutine. It holds
// no state besides rate-limit buckets: iterators and list tokens carry their
// own contents, authenticated, for 300 seconds.
//
// Served: CreateStream, DeleteStream, DescribeStream, DescribeStreamSummary,
// ListStreams, ListShards, SplitShard, MergeShards, UpdateShardCount, PutRecord,
// PutRecords, GetShardIterator, GetRecords, IncreaseStreamRetentionPeriod,
// DecreaseStreamRetentionPeriod, AddTagsToStream, RemoveTagsFromStream, ListTagsForStream. Every other
// operation is answered with UnknownOperationException. Any region is
// accepted and appears in ARNs; the account is always 000000000000.
//
// Size, count and paging limits are those of Kinesis and always hold; its rate
// limits hold when Config.RateLimits is set. Within one PutRecords call, when
// an entry of a shard fails, later entries of that shard fail too, so a caller
// that sends the failed ones again keeps their order.
package kinesis
