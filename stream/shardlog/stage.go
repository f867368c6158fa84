package shardlog

import (
	"cmp"
	"context"
	"encoding/binary"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/millrace/millrace/internal/failpoint"
	pb "github.com/millrace/millrace/proto/millrace/v1"
	"github.com/millrace/millrace/stream"
	"github.com/millrace/millrace/stream/block"
)

// sinkName is one transactional sink across restores.
type sinkName struct {
	lineage, sink string
}

// sinkState is what a shard knows of a sink; it belongs to the committer.
//
//	Stage ──▶ open ──Commit──▶ meta.commits
//	            └──Fence──▶ gone
type sinkState struct {
	number uint32
	meta   sinkMeta
	open   map[txEpoch]map[blockID]staged
}

type txEpoch struct {
	epoch, checkpoint uint64
}

// staged is a durable block that nobody sees.
type staged struct {
	records uint32
	bytes   uint32
}

const stagedBytes = 8

func (s staged) encode() []byte {
	b := binary.LittleEndian.AppendUint32(nil, s.records)
	return binary.LittleEndian.AppendUint32(b, s.bytes)
}

func decodeStaged(b []byte) (staged, error) {
	if len(b) != stagedBytes {
		return staged{}, stream.Errorf(stream.Corrupt, "description of a staged block has %d bytes, want %d", len(b), stagedBytes)
	}
	return staged{binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])}, nil
}

// sink returns the state of a sink, new to the shard or not; a new one is in
// the batch, for blocks name it by number.
func (s *shard) sink(b *pebble.Batch, name sinkName) (*sinkState, error) {
	if st := s.sinks[name]; st != nil {
		return st, nil
	}
	st := &sinkState{number: s.nextSink, meta: sinkMeta{lineage: name.lineage, sink: name.sink}, open: make(map[txEpoch]map[blockID]staged)}
	s.nextSink++
	s.sinks[name] = st
	return st, s.saveSink(b, st)
}

func (s *shard) saveSink(b *pebble.Batch, st *sinkState) error {
	return b.Set(sinkKey(s.id, st.number), st.meta.encode(), nil)
}

func checkTransaction(tx *pb.Transaction) (sinkName, txEpoch, error) {
	if tx.GetLineage() == "" || tx.GetSink() == "" || len(tx.GetLineage()) > 256 || len(tx.GetSink()) > 1024 {
		return sinkName{}, txEpoch{}, stream.Errorf(stream.InvalidArgument, "a transaction must name its lineage (at most 256 bytes) and its sink (at most 1024)")
	}
	return sinkName{tx.GetLineage(), tx.GetSink()}, txEpoch{tx.GetEpoch(), tx.GetCheckpoint()}, nil
}

// Stage writes one block of a transaction, durable and invisible. Staging the
// same block again changes nothing; another one in its place is refused where
// its size tells.
func (l *Log) Stage(ctx context.Context, id ID, tx *pb.Transaction, subtask uint32, number uint64, records block.Block) error {
	s, release, err := l.shard(id)
	if err != nil {
		return err
	}
	release()
	name, te, err := checkTransaction(tx)
	if err != nil {
		return err
	}
	if records.Count() == 0 || len(records) > block.MaxBytes {
		return stream.Errorf(stream.InvalidArgument, "stage a block of %d records and %d bytes: it must have a record and at most %d bytes", records.Count(), len(records), block.MaxBytes)
	}
	if err := records.Check(); err != nil {
		return err
	}
	return l.do(ctx, &op{
		bytes: len(records) + 2*blockKeyBytes, grows: true,
		prepare: func(b *pebble.Batch) error {
			return s.stage(b, name, te, blockID{subtask, number}, records)
		},
	})
}

func (s *shard) stage(b *pebble.Batch, name sinkName, te txEpoch, at blockID, records block.Block) error {
	if s.dropped {
		return notHere(s.id)
	}
	st, err := s.sink(b, name)
	if err != nil {
		return err
	}
	if te.epoch < st.meta.fence {
		return st.stale(te.epoch)
	}
	if _, done, old := st.meta.find(te.epoch, te.checkpoint); done || old {
		return stream.Errorf(stream.InvalidArgument, "transaction %d/%d of sink %s is committed: nothing can be added to it", te.epoch, te.checkpoint, name.sink)
	}
	if s.sealed {
		return closed(s.id)
	}
	blocks := st.open[te]
	if blocks == nil {
		blocks = make(map[blockID]staged)
		st.open[te] = blocks
	}
	what := staged{uint32(records.Count()), uint32(len(records))}
	if was, sent := blocks[at]; sent && was != what {
		return stream.Errorf(stream.InvalidArgument,
			"block %d of subtask %d of transaction %d/%d of sink %s is staged with %d records in %d bytes, and is now to have %d in %d: something else writes with lineage %s",
			at.block, at.subtask, te.epoch, te.checkpoint, name.sink, was.records, was.bytes, what.records, what.bytes, name.lineage)
	}
	blocks[at] = what
	tx := txID{st.number, te.epoch, te.checkpoint}
	d := b.SetDeferred(blockKeyBytes, len(records))
	copy(d.Key, blockKey(keyStaged, s.id, tx, at))
	copy(d.Value, records)
	if err := d.Finish(); err != nil {
		return err
	}
	return b.Set(blockKey(keyUncommitted, s.id, tx, at), what.encode(), nil)
}

func (st *sinkState) stale(epoch uint64) error {
	return stream.Errorf(stream.StaleEpoch, "epoch %d of sink %s is fenced: epoch %d has taken over", epoch, st.meta.sink, st.meta.fence)
}

// Commit makes the staged blocks of a transaction visible, ordered by subtask
// and block. It refuses unless what is staged is what counts name. Repeated,
// it answers already, with the number of records of the first time, or is refused
// if counts name another number; commits of long ago are answered so too, with 0
// records. In a sealed shard nothing can become visible: the error is of kind
// Closed, and Staged and Moved are the way.
func (l *Log) Commit(ctx context.Context, id ID, tx *pb.Transaction, counts []*pb.StagedCount) (records uint64, already bool, err error) {
	s, release, err := l.shard(id)
	if err != nil {
		return 0, false, err
	}
	release()
	name, te, err := checkTransaction(tx)
	if err != nil {
		return 0, false, err
	}
	var tip uint64
	var done committed
	o := &op{
		bytes: 1024,
		prepare: func(b *pebble.Batch) (err error) {
			done, err = s.commit(b, name, te, counts, l.opt.Clock.Now().UnixMilli(), false)
			tip = s.next - 1
			return err
		},
		publish: func() {
			if !done.already {
				s.extend(tip)
			}
		},
	}
	if err := failpoint.Hit("commit.at-shard"); err != nil {
		return 0, false, err
	}
	if err := l.do(ctx, o); err != nil {
		return 0, false, err
	}
	if err := failpoint.Hit("commit.after-shard"); err != nil {
		return 0, false, err
	}
	return done.records, done.already, nil
}

type committed struct {
	records uint64
	already bool
}

func (s *shard) commit(b *pebble.Batch, name sinkName, te txEpoch, counts []*pb.StagedCount, now int64, moved bool) (committed, error) {
	if s.dropped {
		return committed{}, notHere(s.id)
	}
	st, err := s.sink(b, name)
	if err != nil {
		return committed{}, err
	}
	blocks := st.open[te]
	if c, found, old := st.meta.find(te.epoch, te.checkpoint); found || old && len(blocks) == 0 {
		if found {
			if err := s.repeats(name, te, c, counts); err != nil {
				return committed{}, err
			}
		}
		return committed{c.records, true}, nil
	}
	if len(blocks) == 0 && te.epoch < st.meta.fence {
		// Had the fence kept it, its blocks would be here.
		return committed{}, st.stale(te.epoch)
	}
	order, records, err := s.complete(name, te, blocks, counts)
	if err != nil {
		return committed{}, err
	}
	switch {
	case moved:
		order = nil // nothing of it stays here
	case records > 0 && s.sealed:
		return committed{}, closed(s.id)
	case records > 0:
		if err := s.link(b, st, te, order, now); err != nil {
			return committed{}, err
		}
	}
	for at := range blocks {
		if _, used := slices.BinarySearchFunc(order, at, compareBlocks); used {
			continue
		}
		if err := s.unstage(b, txID{st.number, te.epoch, te.checkpoint}, at); err != nil {
			return committed{}, err
		}
	}
	delete(st.open, te)
	st.meta.remember(commit{te.epoch, te.checkpoint, records})
	return committed{records: records}, s.saveSink(b, st)
}

// repeats refuses the commit of a transaction that has been committed with other
// records than counts name: to call it done would be to lose them.
func (s *shard) repeats(name sinkName, te txEpoch, c commit, counts []*pb.StagedCount) error {
	var records uint64
	for _, n := range counts {
		records += n.GetRecords()
	}
	if records == c.records {
		return nil
	}
	return stream.Errorf(stream.Incomplete,
		"commit %d/%d of sink %s at %s: it has been committed with %d records, the checkpoint names %d: something else writes with lineage %s",
		te.epoch, te.checkpoint, name.sink, stream.ShardName(s.id.Shard), c.records, records, name.lineage)
}

// complete compares what is staged with what the checkpoint names and returns
// the blocks in their order.
func (s *shard) complete(name sinkName, te txEpoch, blocks map[blockID]staged, counts []*pb.StagedCount) ([]blockID, uint64, error) {
	want := make(map[uint32]*pb.StagedCount, len(counts))
	for _, c := range counts {
		want[c.GetSubtask()] = c
	}
	type sum struct{ blocks, records uint64 }
	have := make(map[uint32]sum, len(counts))
	order := make([]blockID, 0, len(blocks))
	var records uint64
	for at, st := range blocks {
		c := want[at.subtask]
		if c == nil || at.block >= c.GetBlocks() {
			// Staged, yet no part of the checkpoint: an attempt to send it whose
			// answer never came. Nobody counts on it.
			continue
		}
		h := have[at.subtask]
		have[at.subtask] = sum{h.blocks + 1, h.records + uint64(st.records)}
		order = append(order, at)
		records += uint64(st.records)
	}
	for subtask, c := range want {
		if h := have[subtask]; h.blocks != c.GetBlocks() || h.records != c.GetRecords() {
			return nil, 0, stream.Errorf(stream.Incomplete,
				"commit %d/%d of sink %s at %s: subtask %d has %d blocks with %d records staged, the checkpoint names %d with %d",
				te.epoch, te.checkpoint, name.sink, stream.ShardName(s.id.Shard), subtask, h.blocks, h.records, c.GetBlocks(), c.GetRecords())
		}
	}
	slices.SortFunc(order, compareBlocks)
	return order, records, nil
}

func compareBlocks(a, b blockID) int {
	return cmp.Or(cmp.Compare(a.subtask, b.subtask), cmp.Compare(a.block, b.block))
}

// link puts pointers to the staged blocks into the log.
func (s *shard) link(b *pebble.Batch, st *sinkState, te txEpoch, order []blockID, now int64) error {
	blocks, tx := st.open[te], txID{st.number, te.epoch, te.checkpoint}
	arrival, next := max(s.arrival, now), s.next
	var value []byte
	for _, at := range order {
		count := blocks[at].records
		last := next + uint64(count) - 1
		value = pointer{tx: tx, block: at, first: next, count: count, arrival: arrival}.encode(value[:0])
		writeEntry(b, s.id, last, entryPointer, value)
		if err := b.Delete(blockKey(keyUncommitted, s.id, tx, at), nil); err != nil {
			return err
		}
		next = last + 1
	}
	s.next, s.arrival = next, arrival
	return b.Set(committedKey(s.id, next-1), tx.encode(), nil)
}

func (s *shard) unstage(b *pebble.Batch, tx txID, at blockID) error {
	if err := b.Delete(blockKey(keyUncommitted, s.id, tx, at), nil); err != nil {
		return err
	}
	return b.Delete(blockKey(keyStaged, s.id, tx, at), nil)
}

// Fence refuses from now on everything of (lineage, sink) below an epoch, and
// drops what is staged for it below that epoch, save the transactions to keep.
// It returns the number of blocks dropped. A lower epoch than that of an
// earlier fence is refused.
func (l *Log) Fence(ctx context.Context, id ID, lineage, sink string, epoch uint64, keep []*pb.Transaction) (uint64, error) {
	s, release, err := l.shard(id)
	if err != nil {
		return 0, err
	}
	release()
	name, _, err := checkTransaction(&pb.Transaction{Lineage: lineage, Sink: sink})
	if err != nil {
		return 0, err
	}
	var dropped uint64
	err = l.do(ctx, &op{
		bytes: 1024,
		prepare: func(b *pebble.Batch) (err error) {
			dropped, err = s.fence(b, name, epoch, keep)
			return err
		},
	})
	if err != nil {
		// The committer may not be done with dropped.
		return 0, err
	}
	return dropped, nil
}

func (s *shard) fence(b *pebble.Batch, name sinkName, epoch uint64, keep []*pb.Transaction) (uint64, error) {
	if s.dropped {
		return 0, notHere(s.id)
	}
	st, err := s.sink(b, name)
	if err != nil {
		return 0, err
	}
	if epoch < st.meta.fence {
		return 0, st.stale(epoch)
	}
	kept := make(map[txEpoch]bool, len(keep))
	for _, tx := range keep {
		if tx.GetLineage() != name.lineage || tx.GetSink() != name.sink {
			continue // of the savepoint that a fork started from: not fenced here
		}
		kept[txEpoch{tx.GetEpoch(), tx.GetCheckpoint()}] = true
	}
	var dropped uint64
	for te, blocks := range st.open {
		if te.epoch >= epoch || kept[te] {
			continue
		}
		for at := range blocks {
			if err := s.unstage(b, txID{st.number, te.epoch, te.checkpoint}, at); err != nil {
				return 0, err
			}
			dropped++
		}
		delete(st.open, te)
	}
	st.meta.fence = epoch
	return dropped, s.saveSink(b, st)
}
