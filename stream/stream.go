package stream

import (
	"context"
	"time"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Record is one record of a shard.
type Record struct {
	Sequence     Sequence
	PartitionKey string
	Data         []byte
	// Arrival is when the shard took the record, in Unix milliseconds.
	Arrival int64
}

// Entry is a record to append. Hash is MD5 of the partition key unless an
// explicit hash key was given.
type Entry struct {
	PartitionKey string
	Hash         HashKey
	Data         []byte
}

// PutResult answers one entry of Put, in request order.
type PutResult struct {
	Shard    uint32
	Sequence Sequence
	Err      error
}

// From says where a read begins.
type From uint8

// The five iterator types.
const (
	FromAtSequence From = iota
	FromAfterSequence
	FromTimestamp
	FromTrimHorizon
	FromLatest
)

// Position is a place in a shard, to read from.
type Position struct {
	From      From
	Sequence  Sequence
	Timestamp int64 // Unix milliseconds, for FromTimestamp
}

// ReadResult is a piece of a shard.
type ReadResult struct {
	Records []Record
	// Next continues after the last record. It is the position read from when
	// there was none, resolved to a sequence number.
	Next Position
	// MillisBehind is the age of the record after the last one; 0 at the tip.
	MillisBehind int64
	// End says that the shard is closed and fully read.
	End bool
}

// Service is what a front over streams needs: the Kinesis API and tools. The
// broker of a task manager implements it for every stream of the cluster,
// wherever its shards live. Errors are *Error of this package.
type Service interface {
	// Catalog returns the current streams with their shards.
	Catalog(ctx context.Context) (*pb.Catalog, error)
	// Describe returns one stream.
	Describe(ctx context.Context, name string) (*pb.Stream, error)
	// Command changes the catalog; it returns once the change is durable.
	Command(ctx context.Context, cmd *pb.StreamCommand) error
	// Put appends entries, each to the shard that its hash belongs to, in
	// order within a shard, and returns after they are durable. An entry may
	// fail alone. An error means that none was tried.
	Put(ctx context.Context, name string, entries []Entry) ([]PutResult, error)
	// Read returns up to maxRecords records and about maxBytes bytes, at
	// least one record when there is one. At the tip it waits up to wait.
	Read(ctx context.Context, name string, shard uint32, at Position, maxRecords, maxBytes int, wait time.Duration) (ReadResult, error)
}
