package shardlog

import (
	"context"
	"errors"

	"github.com/cockroachdb/pebble/v2"

	pb "github.com/millrace/millrace/proto/millrace/v1"
	"github.com/millrace/millrace/stream"
	"github.com/millrace/millrace/stream/block"
)

// A transaction may be staged in a shard, complete and in a checkpoint, when the
// shard is sealed. Its records belong to the children then:
//
//	Commit ──Closed──▶ Staged ─▶ staged and committed in the children ─▶ Moved
//
// Any of it may be repeated. Until Moved the blocks stay, so whoever is
// interrupted begins again.

// Staged returns the blocks of a transaction that counts name, in the order in
// which Commit would make them visible. already says that there is nothing to do.
func (l *Log) Staged(ctx context.Context, id ID, tx *pb.Transaction, counts []*pb.StagedCount) (blocks []block.Block, already bool, err error) {
	s, release, err := l.shard(id)
	if err != nil {
		return nil, false, err
	}
	defer release()
	name, te, err := checkTransaction(tx)
	if err != nil {
		return nil, false, err
	}
	var order []blockID
	var number uint32
	var done bool
	err = l.do(ctx, &op{prepare: func(*pebble.Batch) error {
		if s.dropped {
			return notHere(id)
		}
		st := s.sinks[name]
		if st == nil {
			return stream.Errorf(stream.Incomplete, "transaction %d/%d of sink %s: nothing was ever staged for it at %s", te.epoch, te.checkpoint, name.sink, stream.ShardName(id.Shard))
		}
		if _, found, old := st.meta.find(te.epoch, te.checkpoint); found || old && len(st.open[te]) == 0 {
			done = true
			return nil
		}
		number = st.number
		var err error
		order, _, err = s.complete(name, te, st.open[te], counts)
		return err
	}})
	if err != nil || done {
		return nil, done, err
	}
	for _, at := range order {
		b, err := l.staged(id, txID{number, te.epoch, te.checkpoint}, at)
		if errors.Is(err, pebble.ErrNotFound) {
			return nil, false, stream.Errorf(stream.Incomplete, "transaction %d/%d of sink %s at %s: block %d of subtask %d went while it was read: a newer attempt has fenced it",
				te.epoch, te.checkpoint, name.sink, stream.ShardName(id.Shard), at.block, at.subtask)
		}
		if err != nil {
			return nil, false, l.unread(err)
		}
		blocks = append(blocks, b)
	}
	return blocks, false, nil
}

// Moved ends a transaction whose records have been committed in the children:
// its blocks go, and it counts as committed.
func (l *Log) Moved(ctx context.Context, id ID, tx *pb.Transaction, counts []*pb.StagedCount) (records uint64, already bool, err error) {
	s, release, err := l.shard(id)
	if err != nil {
		return 0, false, err
	}
	release()
	name, te, err := checkTransaction(tx)
	if err != nil {
		return 0, false, err
	}
	var done committed
	err = l.do(ctx, &op{
		bytes: 1024,
		prepare: func(b *pebble.Batch) (err error) {
			done, err = s.commit(b, name, te, counts, 0, true)
			return err
		},
	})
	if err != nil {
		return 0, false, err
	}
	return done.records, done.already, nil
}
