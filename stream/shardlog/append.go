package shardlog

import (
	"context"

	"github.com/cockroachdb/pebble/v2"

	"github.com/millrace/millrace/stream"
	"github.com/millrace/millrace/stream/block"
)

// Batch is a block for one shard.
type Batch struct {
	ID      ID
	Records block.Block
}

// Appended is the outcome of one Batch: the numbers of its first and last
// record, or why it is not in the log.
type Appended struct {
	First, Last stream.Sequence
	Err         error
}

// Append appends a block and returns once it is durable. The block, verified,
// is the log's from the call on.
func (l *Log) Append(ctx context.Context, id ID, records block.Block) (first, last stream.Sequence, err error) {
	a, o := l.newAppend(id, records)
	if o == nil {
		return a.First, a.Last, a.Err
	}
	if err := l.do(ctx, o); err != nil {
		return stream.Sequence{}, stream.Sequence{}, err
	}
	return a.First, a.Last, nil
}

// AppendAll appends blocks to several shards with one wait. Each fails alone.
func (l *Log) AppendAll(ctx context.Context, batches []Batch) []Appended {
	out := make([]*Appended, len(batches))
	ops := make([]*op, len(batches))
	for i, b := range batches {
		out[i], ops[i] = l.newAppend(b.ID, b.Records)
		if ops[i] == nil {
			continue
		}
		if err := l.submit(ctx, ops[i]); err != nil {
			out[i].Err, ops[i] = err, nil
		}
	}
	results := make([]Appended, len(batches))
	for i, o := range ops {
		if o != nil {
			// What the committer wrote may be read only after it is done with it.
			if err := l.wait(ctx, o); err != nil {
				results[i] = Appended{Err: err}
				continue
			}
		}
		results[i] = *out[i]
	}
	return results
}

// newAppend makes the op of one block; without one the outcome is settled.
func (l *Log) newAppend(id ID, records block.Block) (*Appended, *op) {
	a := &Appended{}
	s, release, err := l.shard(id)
	if err != nil {
		a.Err = err
		return a, nil
	}
	release()
	if records.Count() == 0 || len(records) > block.MaxBytes {
		a.Err = stream.Errorf(stream.InvalidArgument, "append a block of %d records and %d bytes: it must have a record and at most %d bytes", records.Count(), len(records), block.MaxBytes)
		return a, nil
	}
	return a, &op{
		bytes: len(records) + recordsKeyBytes, grows: true,
		prepare: func(b *pebble.Batch) error {
			if s.dropped {
				return notHere(id)
			}
			if s.sealed {
				return closed(id)
			}
			first, arrival := s.next, max(s.arrival, l.opt.Clock.Now().UnixMilli())
			if err := records.Assign(id.sequence(first), arrival); err != nil {
				return err
			}
			last := first + uint64(records.Count()) - 1
			writeEntry(b, id, last, entryBlock, records)
			s.next, s.arrival = last+1, arrival
			a.First, a.Last = id.sequence(first), id.sequence(last)
			return nil
		},
		publish: func() { s.extend(a.Last.Place()) },
	}
}

// writeEntry puts a value under the key of a log entry, copying it once.
func writeEntry(b *pebble.Batch, id ID, last uint64, kind byte, value []byte) {
	d := b.SetDeferred(recordsKeyBytes, len(value))
	copy(d.Key, recordsKey(id, last))
	d.Key[recordsKeyBytes-1] = kind
	copy(d.Value, value)
	// Finish cannot fail: the batch has no index.
	_ = d.Finish()
}
