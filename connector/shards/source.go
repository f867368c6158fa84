package shards

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"
	"unsafe"

	"github.com/millrace/millrace/sdk"
	"github.com/millrace/millrace/stream"
	"github.com/millrace/millrace/stream/block"
	"github.com/millrace/millrace/stream/client"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Source reads a stream of the cluster, decoding records with codec (sdk.JSON,
// sdk.CSV, sdk.Records for data with partition key and place, …). It begins at
// the oldest record kept; see Latest and AtTimestamp. It never ends by itself,
// but can be drained. Where a shard is split or merged, its children are read
// when it has been read to its end, so that records of one key stay in order.
func Source[T any](name string, codec sdk.Codec[T], opts ...SourceOption) sdk.Source[T] {
	s := &source{stream: name, readAhead: 4 << 20}
	for _, o := range opts {
		o(s)
	}
	return sdk.Decoding(s, codec)
}

// SourceOption changes Source.
type SourceOption func(*source)

// Latest begins behind the records that are in the stream when the job is
// started for the first time.
func Latest() SourceOption { return func(s *source) { s.from = stream.FromLatest } }

// AtTimestamp begins at the first record that arrived at or after t.
func AtTimestamp(t time.Time) SourceOption {
	return func(s *source) { s.from, s.at = stream.FromTimestamp, t.UnixMilli() }
}

// ReadAhead bounds the bytes that are read ahead for each shard: 4 MiB without
// it.
func ReadAhead(bytes int) SourceOption { return func(s *source) { s.readAhead = bytes } }

// SkipExpired lets the job go on when records that it had not read yet have
// outlived the stream's retention. Without it that is an error, for they are
// lost to the job.
func SkipExpired() SourceOption { return func(s *source) { s.skipExpired = true } }

type source struct {
	stream      string
	from        stream.From
	at          int64
	readAhead   int
	skipExpired bool
}

func (s *source) Name() string { return "from-" + s.stream }

// Timed: a record comes with the time of its arrival.
func (s *source) Timed() bool { return true }

func (s *source) Bounded() bool { return false }

func (s *source) Check() error {
	if s.readAhead < 1 {
		return fmt.Errorf("shards: read ahead of %d bytes: it must be at least 1", s.readAhead)
	}
	return stream.CheckName(s.stream)
}

// payload of a split: the stream's generation, which tells a deleted stream of
// the same name apart, and the position behind which reading begins, as of the
// job's first start; zero to read from where the options say.
type payload struct {
	generation uint64
	start      stream.Sequence
}

func (p payload) encode() []byte {
	return append(binary.BigEndian.AppendUint64(nil, p.generation), p.start[:]...)
}

func decodePayload(s sdk.Split) (p payload, index uint32, err error) {
	if index, err = stream.ParseShardName(s.ID); err != nil {
		return p, 0, err
	}
	if len(s.Payload) != 24 {
		return p, 0, fmt.Errorf("split %s: %d bytes of description where 24 are wanted", s.ID, len(s.Payload))
	}
	p.generation = binary.BigEndian.Uint64(s.Payload)
	p.start = stream.Sequence(s.Payload[8:])
	return p, index, nil
}

func (s *source) Splits(ctx context.Context, env sdk.SourceEnv, known []sdk.Split) ([]sdk.Split, error) {
	l, err := dial(env.ShardAddress, env.Log)
	if err != nil {
		return nil, fmt.Errorf("read stream %s: %w", s.stream, err)
	}
	defer l.release()
	described, err := l.describe(ctx, s.stream)
	if err != nil {
		return nil, err
	}
	read, finished := map[uint32]bool{}, map[uint32]bool{}
	for _, k := range known {
		p, index, err := decodePayload(k)
		if err != nil {
			return nil, err
		}
		if p.generation != described.GetGeneration() {
			return nil, fmt.Errorf("stream %s was deleted and created again since the checkpoint that the job restores: "+
				"start the job without a savepoint, or name the source anew", s.stream)
		}
		read[index], finished[index] = true, k.Finished
	}
	var splits []sdk.Split
	for _, sh := range s.fresh(described, read) {
		p := payload{generation: described.GetGeneration()}
		switch {
		case s.from != stream.FromLatest:
		case len(known) > 0:
			// A child is read from its start.
			p.start = stream.StartingSequence(p.generation, sh.GetIndex())
		default:
			if p.start, err = l.Tip(ctx, s.shard(p, sh.GetIndex())); err != nil {
				return nil, fmt.Errorf("find the tip of %s of stream %s: %w", stream.ShardName(sh.GetIndex()), s.stream, err)
			}
		}
		if p, q := sh.GetParent(), sh.GetAdjacentParent(); p > 0 && finished[p-1] && (q == 0 || finished[q-1]) {
			read[sh.GetIndex()] = true // from now on
		}
		splits = append(splits, sdk.Split{ID: stream.ShardName(sh.GetIndex()), Payload: p.encode(), Parents: parents(sh)})
	}
	for _, k := range known {
		_, index, err := decodePayload(k)
		if err != nil {
			return nil, err
		}
		if k.Finished && succeeded(described, index, read) {
			continue
		}
		for _, sh := range described.GetShards() {
			if sh.GetIndex() == index {
				k.Parents = parents(sh)
			}
		}
		splits = append(splits, k)
	}
	return splits, nil
}

// fresh are the shards that the job has not heard of: at its first start all, or
// those that are open where it begins at their tips, and later the children of
// shards that it has heard of. What it left out at the start it never reads.
func (s *source) fresh(described *pb.Stream, read map[uint32]bool) []*pb.Shard {
	var fresh []*pb.Shard
	for _, sh := range described.GetShards() {
		switch {
		case read[sh.GetIndex()] || sh.GetChange() == pb.Shard_CHANGE_OPENING:
		case len(read) > 0:
			if p, q := sh.GetParent(), sh.GetAdjacentParent(); p > 0 && read[p-1] && (q == 0 || read[q-1]) {
				fresh = append(fresh, sh)
			}
		case s.from != stream.FromLatest || !sh.GetClosed():
			fresh = append(fresh, sh)
		}
	}
	return fresh
}

// succeeded says that the children of a shard are there and all being read.
func succeeded(described *pb.Stream, parent uint32, read map[uint32]bool) bool {
	children := 0
	for _, sh := range described.GetShards() {
		if sh.GetParent() != parent+1 && sh.GetAdjacentParent() != parent+1 {
			continue
		}
		if !read[sh.GetIndex()] {
			return false
		}
		children++
	}
	return children > 0
}

func parents(sh *pb.Shard) []string {
	var ids []string
	for _, p := range []uint32{sh.GetParent(), sh.GetAdjacentParent()} {
		if p > 0 {
			ids = append(ids, stream.ShardName(p-1))
		}
	}
	return ids
}

func (s *source) shard(p payload, index uint32) client.Shard {
	return client.Shard{Stream: s.stream, Generation: p.generation, Index: index}
}

// Tip implements sdk.Tipper.
func (s *source) Tip(ctx context.Context, env sdk.SourceEnv, split sdk.Split) ([]byte, error) {
	p, index, err := decodePayload(split)
	if err != nil {
		return nil, err
	}
	l, err := dial(env.ShardAddress, env.Log)
	if err != nil {
		return nil, err
	}
	defer l.release()
	tip, err := l.Tip(ctx, s.shard(p, index))
	if err != nil || tip.Place() == 0 {
		return nil, err
	}
	return tip[:], nil
}

func (s *source) Open(ctx context.Context, env sdk.SourceEnv, split sdk.Split, position []byte) (sdk.Reader[sdk.Record], error) {
	p, index, err := decodePayload(split)
	if err != nil {
		return nil, err
	}
	r := &reader{source: s, split: split.ID, last: p.start, env: env}
	if len(position) > 0 {
		if r.last, err = stream.SequenceFromBytes(position); err != nil {
			return nil, err
		}
	}
	at := stream.Position{From: s.from, Timestamp: s.at}
	switch {
	case !r.last.IsZero():
		at = stream.Position{From: stream.FromAfterSequence, Sequence: r.last}
	case s.from == stream.FromAtSequence:
		at = stream.Position{From: stream.FromTrimHorizon}
	}
	if r.link, err = dial(env.ShardAddress, env.Log); err != nil {
		return nil, err
	}
	// The reader outlives the context of Open, which is that of the start.
	r.reader = r.link.OpenReader(context.WithoutCancel(ctx), client.ReaderConfig{
		Shard: s.shard(p, index), At: at, MaxBytes: s.readAhead, Wake: env.Wake,
	})
	return r, nil
}

// reader reads one shard. The blocks it is given are never changed, so records
// point into them.
type reader struct {
	*source
	split  string
	env    sdk.SourceEnv
	link   *link
	reader *client.Reader

	records block.Iterator
	// last is the last record polled, or the position read from; zero at the
	// beginning of a shard. While draining it moves over expired records too.
	last stream.Sequence
	// stop is where a drain ends.
	stopping bool
	stop     stream.Sequence
	skipped  uint64
	polled   []stream.Sequence
}

func (r *reader) Poll(b *sdk.Batch[sdk.Record], max int) (sdk.ReadStatus, error) {
	r.polled = r.polled[:0]
	if r.ended() {
		return sdk.ReadEnded, nil
	}
	var rec block.Record
	for {
		for len(r.polled) < max && r.records.Next(&rec) {
			if r.stopping && rec.Sequence.Compare(r.stop) > 0 {
				return sdk.ReadEnded, nil
			}
			r.last = rec.Sequence
			r.polled = append(r.polled, rec.Sequence)
			b.Append(sdk.Record{Key: text(rec.Key), Data: rec.Data}, rec.Arrival)
			if r.ended() {
				return sdk.ReadEnded, nil
			}
		}
		if err := r.records.Err(); err != nil {
			return sdk.ReadEnded, fmt.Errorf("%s behind sequence number %v: %w", r.where(), r.last, err)
		}
		if len(r.polled) > 0 {
			return sdk.ReadMore, nil
		}
		blk, status := r.reader.Next()
		if err := r.checkSkipped(); err != nil {
			return sdk.ReadEnded, err
		}
		if status != client.Ready && r.stopping {
			// Retention may have removed all up to the end of the drain.
			if passed := r.reader.Passed(); passed.Compare(r.last) > 0 {
				r.last = passed
			}
			if r.ended() {
				return sdk.ReadEnded, nil
			}
		}
		switch status {
		case client.Ready:
			r.records = blk.Records()
		case client.CaughtUp:
			return sdk.ReadEmpty, nil
		case client.Fetching:
			return sdk.ReadWaiting, nil
		case client.Ended:
			if r.stopping {
				return sdk.ReadEnded, nil
			}
			return sdk.ReadFollowed, nil
		case client.Failed:
			return sdk.ReadEnded, fmt.Errorf("%s behind sequence number %v: %w", r.where(), r.last, r.reader.Err())
		}
	}
}

// text is a string over bytes that nobody changes.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// ended says that a drain has reached its end.
func (r *reader) ended() bool { return r.stopping && r.last.Compare(r.stop) >= 0 }

// checkSkipped refuses a gap that retention has torn.
func (r *reader) checkSkipped() error {
	skipped := r.reader.Skipped()
	if skipped == r.skipped {
		return nil
	}
	lost := skipped - r.skipped
	r.skipped = skipped
	if !r.skipExpired {
		return fmt.Errorf("%s: %d records behind sequence number %v have outlived the stream's retention before they were read: "+
			"raise the retention, and give the source shards.SkipExpired() to go on without them", r.where(), lost, r.last)
	}
	if r.env.Log != nil {
		r.env.Log.Warn("records expired unread", "stream", r.stream, "shard", r.split, "records", lost)
	}
	return nil
}

func (r *reader) where() string { return "stream " + r.stream + ", " + r.split }

// Where implements sdk.RecordReader.
func (r *reader) Where(i int) string {
	return fmt.Sprintf("%s, sequence number %v", r.where(), r.polled[i])
}

func (r *reader) Position() []byte {
	if r.last.IsZero() {
		return nil
	}
	return slices.Clone(r.last[:])
}

func (r *reader) StopAfter(position []byte) {
	r.stopping = true
	if seq, err := stream.SequenceFromBytes(position); err == nil {
		r.stop = seq
	}
}

func (r *reader) Lag() (millis, records int64) { return r.reader.Lag() }

func (r *reader) Close() error {
	err := r.reader.Close()
	if e := r.link.release(); err == nil {
		err = e
	}
	return err
}
