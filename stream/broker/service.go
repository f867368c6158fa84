package broker

import (
	"context"
	"sync"
	"time"

	pb "github.com/millrace/millrace/proto/millrace/v1"
	"github.com/millrace/millrace/stream"
	"github.com/millrace/millrace/stream/block"
	"github.com/millrace/millrace/stream/client"
	"github.com/millrace/millrace/stream/shardlog"
)

// part is what one Put sends to one shard: a block and the entries in it.
type part struct {
	shard   *pb.Shard
	builder block.Builder
	entries []int
	refused error // an entry before was not taken: later ones must not overtake it
}

// Put implements stream.Service. The entries of one shard are one block: they
// are in the log together or not at all. An entry that is refused takes the
// later ones of its shard with it, so that their order holds. Entries of a shard
// that is being split or merged wait for its children.
func (b *Broker) Put(ctx context.Context, name string, entries []stream.Entry) ([]stream.PutResult, error) {
	s, err := b.writable(name)
	if err != nil {
		return nil, err
	}
	if len(entries) > stream.MaxPutRecords {
		return nil, stream.Errorf(stream.InvalidArgument, "put of %d records: at most %d are allowed", len(entries), stream.MaxPutRecords)
	}
	size := 0
	for i := range entries {
		size += len(entries[i].Data) + len(entries[i].PartitionKey)
	}
	if size > stream.MaxPutBytes {
		return nil, stream.Errorf(stream.InvalidArgument, "put of %d bytes: at most %d are allowed", size, stream.MaxPutBytes)
	}
	results := make([]stream.PutResult, len(entries))
	todo := make([]int, len(entries))
	for i := range todo {
		todo[i] = i
	}
	for {
		b.put(ctx, s, entries, todo, results)
		todo = todo[:0]
		var closed []uint32
		for i := range results {
			if results[i].Err != nil && stream.KindOf(results[i].Err) == stream.Closed {
				todo = append(todo, i)
				closed = append(closed, results[i].Shard)
			}
		}
		if len(todo) == 0 {
			return results, nil
		}
		// What a closed shard refused is in no shard.
		err := b.awaitClosed(ctx, name, s.GetGeneration(), closed)
		if err == nil {
			s, err = b.writable(name)
		}
		if err != nil {
			for _, i := range todo {
				results[i].Err = err
			}
			return results, nil
		}
	}
}

// put tries the entries that todo names, in order.
func (b *Broker) put(ctx context.Context, s *streamView, entries []stream.Entry, todo []int, results []stream.PutResult) {
	parts := make([]part, len(s.open))
	for _, i := range todo {
		e := &entries[i]
		place, shard := s.router.Shard(e.Hash)
		p := &parts[place]
		p.shard = s.open[place]
		results[i].Shard = shard
		if p.refused == nil {
			p.refused = stream.CheckEntry(e)
		} else {
			p.refused = stream.Errorf(stream.KindOf(p.refused), "not tried: an earlier record of %s was refused", stream.ShardName(shard))
		}
		if results[i].Err = p.refused; p.refused != nil {
			continue
		}
		p.builder.Add(e.PartitionKey, e.Hash, e.Data)
		p.entries = append(p.entries, i)
	}
	b.send(ctx, s, parts, results)
}

// send appends the parts, all at once, and fills in the results.
func (b *Broker) send(ctx context.Context, s *streamView, parts []part, results []stream.PutResult) {
	var local []shardlog.Batch
	var locals []*part
	var remote sync.WaitGroup
	for i := range parts {
		p := &parts[i]
		if p.builder.Count() == 0 {
			continue
		}
		records := p.builder.Finish()
		if p.shard.GetOwner() == b.cfg.ID {
			local = append(local, shardlog.Batch{ID: shardlog.ID{Generation: s.GetGeneration(), Shard: p.shard.GetIndex()}, Records: records})
			locals = append(locals, p)
			continue
		}
		remote.Go(func() {
			a, err := b.client.Append(ctx, client.Shard{Stream: s.GetName(), Generation: s.GetGeneration(), Index: p.shard.GetIndex()}, records)
			p.settle(results, a.First, err)
		})
	}
	for i, a := range b.cfg.Log.AppendAll(ctx, local) {
		locals[i].settle(results, a.First, a.Err)
	}
	remote.Wait()
}

func (p *part) settle(results []stream.PutResult, first stream.Sequence, err error) {
	for n, i := range p.entries {
		if results[i].Err = err; err == nil {
			results[i].Sequence = first.WithPlace(first.Place() + uint64(n))
		}
	}
}

// writable finds a stream that takes records.
func (b *Broker) writable(name string) (*streamView, error) {
	s, err := b.stream(name)
	if err != nil {
		return nil, err
	}
	switch s.GetStatus() {
	case pb.Stream_STATUS_ACTIVE, pb.Stream_STATUS_UPDATING:
		return s, nil
	case pb.Stream_STATUS_DELETING:
		return nil, stream.Errorf(stream.NotFound, "stream %s is being deleted", name)
	}
	return nil, stream.Errorf(stream.InUse, "stream %s is being created: wait until it is ACTIVE", name)
}

// Read implements stream.Service.
func (b *Broker) Read(ctx context.Context, name string, shard uint32, at stream.Position, maxRecords, maxBytes int, wait time.Duration) (stream.ReadResult, error) {
	s, err := b.stream(name)
	if err != nil {
		return stream.ReadResult{}, err
	}
	sh := s.shards[shard]
	if sh == nil {
		return stream.ReadResult{}, stream.Errorf(stream.ShardNotFound, "stream %s has no %s", name, stream.ShardName(shard))
	}
	maxRecords = min(max(maxRecords, 1), stream.MaxReadRecords)
	maxBytes = min(max(maxBytes, 1), stream.MaxReadBytes)
	if sh.GetOwner() == b.cfg.ID {
		id := shardlog.ID{Generation: s.GetGeneration(), Shard: shard}
		a, err := b.cfg.Log.Read(ctx, id, shardlog.ReadRequest{At: at, MaxRecords: maxRecords, MaxBytes: maxBytes, Wait: wait})
		if err != nil {
			return stream.ReadResult{}, err
		}
		return result(a.Records, a.Next, a.MillisBehind, a.End)
	}
	a, err := b.client.Read(ctx, client.Shard{Stream: name, Generation: s.GetGeneration(), Index: shard},
		client.ReadRequest{At: at, MaxRecords: maxRecords, MaxBytes: maxBytes, Wait: wait})
	if err != nil {
		return stream.ReadResult{}, err
	}
	return result(a.Records, a.Next, a.MillisBehind, a.End)
}

func result(records block.Block, next stream.Sequence, behind int64, end bool) (stream.ReadResult, error) {
	r := stream.ReadResult{
		Next:         stream.Position{From: stream.FromAfterSequence, Sequence: next},
		MillisBehind: behind, End: end,
	}
	if n := records.Count(); n > 0 {
		r.Records = make([]stream.Record, 0, n)
	}
	it := records.Records()
	for rec := (block.Record{}); it.Next(&rec); {
		r.Records = append(r.Records, stream.Record{
			Sequence: rec.Sequence, PartitionKey: string(rec.Key), Data: rec.Data, Arrival: rec.Arrival,
		})
	}
	return r, it.Err()
}
