// Package source is the contract of sources. A source is a set of splits (a
// shard, a file, a range of numbers), each read in order by one reader; the
// runtime spreads the splits over subtasks, keeps a watermark for each, and
// checkpoints each one's position.
package source

import (
	"context"
	"log/slog"

	"github.com/millrace/millrace/runtime/batch"
)

// Split is a part of a source that is read independently of the others.
type Split struct {
	// ID is unique in the source and stable across restarts.
	ID string
	// Payload is the source's own description of the split.
	Payload []byte
	// Parents are the ids of the splits that this one follows: it is read when
	// they have been read to their ends, so that what moved from one to the other
	// stays in order. One that the source neither knows nor lists is taken as read.
	Parents []string
	// Finished says, of a known split, that it has been read to its end.
	Finished bool
}

// Env is what a source may use of its surroundings.
type Env struct {
	JobName      string
	Operator     string
	Subtask      int
	ShardAddress string
	Log          *slog.Logger
	// Wake tells the task that a reader which answered Empty has more. Any
	// goroutine may call it; it never blocks.
	Wake func()
}

// Source lists and opens splits. Its methods run on goroutines of the worker,
// not on the task's, and may block; ctx ends with the attempt.
type Source[T any] interface {
	// Splits lists the source's splits. It is called at the beginning of an
	// attempt, in one place; known are those of the restored checkpoint. It is
	// called again when splits have ended that others follow (Followed): the
	// answer's new ones are read then if their parents are finished. A finished
	// split that is not listed is forgotten.
	Splits(ctx context.Context, env Env, known []Split) ([]Split, error)
	// Open starts reading a split after position, which is empty at the
	// beginning and else what Reader.Position returned. Several splits may be
	// opened at once. One that follows others is opened while its task waits.
	Open(ctx context.Context, env Env, split Split, position []byte) (Reader[T], error)
	// Bounded says that every split ends by itself.
	Bounded() bool
}

// Tipper is a source whose splits have a tip, an end as of now: it can be
// drained. A source that is neither bounded nor a Tipper ends a drain at
// wherever its readers stand.
type Tipper interface {
	// Tip returns the position of the last record of the split, or empty
	// when it holds none.
	Tip(ctx context.Context, env Env, split Split) ([]byte, error)
}

// Status is what a reader answers.
type Status uint8

const (
	// More: there may be more at once.
	More Status = iota
	// Empty: the reader has caught up with its split; it calls Wake when
	// there is more. A split that stays empty becomes idle.
	Empty
	// Waiting: there is more, but it is not here yet; it calls Wake. A split
	// that waits never becomes idle.
	Waiting
	// Ended: there will never be more.
	Ended
	// Followed: there will never be more, but others follow. The split holds event
	// time until they are being read, and Splits lists all of them at once.
	Followed
)

// Reader reads one split. The task's goroutine calls Poll and Position; they
// never block.
type Reader[T any] interface {
	// Poll appends up to max records to b, in order. Times may be batch.NoTime
	// where the source knows none. An error fails the task and names the
	// place in the split.
	Poll(b *batch.Batch[T], max int) (Status, error)
	// Position is after the last record that Poll returned.
	Position() []byte
	// StopAfter makes the reader answer Ended once it has returned the record
	// at position (at once if it is past it, or the position is empty).
	StopAfter(position []byte)
	// Lag is how far behind the tip the reader is: milliseconds and records,
	// -1 where it cannot know.
	Lag() (millis int64, records int64)
	Close() error
}
