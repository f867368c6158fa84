package client

import (
	"context"
	"log/slog"
	"net"
	"time"

	pb "github.com/millrace/millrace/proto/millrace/v1"
	"github.com/millrace/millrace/stream"
	"github.com/millrace/millrace/stream/block"
)

// Config says how a Client reaches the cluster.
type Config struct {
	// Address of the shard socket of a task manager, the local one if there is
	// a choice: the catalog comes from there.
	Address string
	// Catalog is asked for the catalog instead of Address, where set.
	Catalog func(ctx context.Context) (*pb.Catalog, error)
	// Dial opens connections; a net.Dialer without one.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// RetryFor bounds how long a request is tried again while its shard's host
	// is away or the catalog is behind: 0 means 10 s, negative not at all. A
	// request whose outcome is unknown is tried again only where that is
	// harmless: Append is not.
	RetryFor time.Duration
	Log      *slog.Logger
}

// Shard names a shard, whoever hosts it.
type Shard struct {
	Stream     string
	Generation uint64
	Index      uint32
}

// ReadRequest asks for records of a shard.
type ReadRequest struct {
	At stream.Position
	// MaxRecords and MaxBytes bound the answer, which holds at least one
	// record if there is one; 0 means 10,000 and 1 MiB.
	MaxRecords, MaxBytes int
	// Wait bounds the wait for a record at the tip.
	Wait time.Duration
}

// ReadAnswer is a piece of a shard.
type ReadAnswer struct {
	// Records is nil if there were none.
	Records block.Block
	// Next is the sequence number of the last record, or where the read
	// stood: read on with FromAfterSequence.
	Next stream.Sequence
	// Tip is the last readable sequence number.
	Tip stream.Sequence
	// MillisBehind is the age of the first record after Next; 0 at the tip.
	MillisBehind int64
	// Skipped counts the records between the position asked for and the first
	// one here that retention has removed.
	Skipped uint64
	// End says that the shard is closed and fully read.
	End bool
}

// AppendAnswer names the first and the last record of an appended block.
type AppendAnswer struct {
	First, Last stream.Sequence
}

// StageRequest carries one block of a transaction.
type StageRequest struct {
	Transaction *pb.Transaction
	Subtask     uint32
	// Block counts from 0, without gaps, per transaction, subtask and shard.
	Block   uint64
	Records block.Block
}

// ReaderConfig describes a Reader.
type ReaderConfig struct {
	Shard Shard
	At    stream.Position
	// MaxBytes bounds the blocks that wait for Next; 0 means 4 MiB.
	MaxBytes int
	// Wake is called, from a goroutine of the reader, when Next or Err has
	// something after having had nothing. It must not block.
	Wake func()
}

// StagerConfig describes a Stager.
type StagerConfig struct {
	Stream        *pb.Stream
	Lineage, Sink string
	Epoch         uint64
	Subtask       uint32
	// Transaction numbers the first transaction; it must be above those that
	// the sink used before in this epoch.
	Transaction uint64
	// BlockBytes is the size at which a block is sent; 0 means 64 KiB.
	BlockBytes int
	// MaxBytes bounds what is sent and not yet acknowledged; Add waits above
	// it. 0 means 8 MiB.
	MaxBytes int
	// Park, where set, is how Add, Flush and Finish wait: until room can be
	// received from.
	Park func(room <-chan struct{}) error
}

// ShardCount is what one subtask staged at one shard for one transaction: the
// content of a sink's handle.
type ShardCount struct {
	Shard   Shard
	Blocks  uint64
	Records uint64
}
