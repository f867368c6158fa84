package kinesis

import (
	"math"
	"slices"
	"strconv"

	pb "github.com/millrace/millrace/proto/millrace/v1"
	"github.com/millrace/millrace/stream"
)

func itoa(n int) string { return strconv.Itoa(n) }

// filter is ShardFilter.
type filter struct {
	Type      string
	ShardId   string    `json:",omitempty"`
	Timestamp timestamp `json:",omitempty"`
}

type listShardsIn struct {
	streamID
	NextToken               string
	ExclusiveStartShardId   string
	MaxResults              *int64
	StreamCreationTimestamp *timestamp
	ShardFilter             *filter
}

type listShardsOut struct {
	Shards    []shardOut
	NextToken string `json:",omitempty"`
}

func (c *call) listShards(in *listShardsIn) (*listShardsOut, error) {
	max, err := within("maxResults", in.MaxResults, 10000, 1000)
	if err != nil {
		return nil, err
	}
	p := page{After: in.ExclusiveStartShardId, Filter: filter{Type: "FROM_TRIM_HORIZON"}}
	id := in.streamID
	if in.NextToken != "" {
		if id != (streamID{}) || p.After != "" || in.ShardFilter != nil || in.StreamCreationTimestamp != nil {
			return nil, faultf(invalidArgument, "NextToken cannot be provided together with a stream, ExclusiveStartShardId, ShardFilter or StreamCreationTimestamp.")
		}
		if p, err = c.page("shards", in.NextToken); err != nil {
			return nil, err
		}
		id = streamID{StreamName: p.Stream}
	} else if in.ShardFilter != nil {
		p.Filter = *in.ShardFilter
	}
	s, err := c.find(id)
	if err != nil {
		return nil, err
	}
	if t := in.StreamCreationTimestamp; t != nil && int64(*t)/1000 != s.CreatedMs/1000 {
		return nil, faultf(resourceNotFound, "Stream %s under account %s with that creation time not found.", s.Name, account)
	}
	shards, err := c.filtered(s, p.Filter)
	if err != nil {
		return nil, err
	}
	if p.After != "" {
		if shards, err = afterShard(shards, p.After); err != nil {
			return nil, err
		}
	}
	out := &listShardsOut{Shards: shards}
	if len(shards) > max {
		out.Shards = shards[:max]
		out.NextToken = c.tokens.seal("shards", page{Stream: s.Name, After: shards[max-1].ShardId, Filter: p.Filter, Made: c.now.UnixMilli()})
	}
	return out, nil
}

// filtered lists the shards that a filter asks for. A shard was open from its
// creation until it was closed; where its parents were closed it was created.
func (c *call) filtered(s *pb.Stream, f filter) ([]shardOut, error) {
	trimmed := horizon(s, c.now)
	switch f.Type {
	case "FROM_TRIM_HORIZON":
		return describeShards(s, shardsSince(s, trimmed))
	case "AT_TRIM_HORIZON":
		return describeShards(s, shardsAt(s, trimmed))
	case "AFTER_SHARD_ID":
		if f.ShardId == "" {
			return nil, faultf(invalidArgument, "ShardFilter of type AFTER_SHARD_ID needs a ShardId.")
		}
		shards, err := describeShards(s, shardsSince(s, trimmed))
		if err != nil {
			return nil, err
		}
		return afterShard(shards, f.ShardId)
	case "AT_LATEST":
		return describeShards(s, shardsSince(s, math.MaxInt64))
	case "AT_TIMESTAMP", "FROM_TIMESTAMP":
		if f.Timestamp == 0 {
			return nil, faultf(invalidArgument, "ShardFilter of type %s needs a Timestamp.", f.Type)
		}
		if f.Timestamp.time().After(c.now) {
			return nil, faultf(invalidArgument, "Timestamp of ShardFilter cannot be in the future.")
		}
		at := max(int64(f.Timestamp), trimmed)
		if f.Type == "AT_TIMESTAMP" {
			return describeShards(s, shardsAt(s, at))
		}
		return describeShards(s, shardsSince(s, at))
	}
	return nil, invalid("shardFilter.type", f.Type, "Member must satisfy enum value set: [AFTER_SHARD_ID, AT_TRIM_HORIZON, FROM_TRIM_HORIZON, AT_LATEST, AT_TIMESTAMP, FROM_TIMESTAMP]")
}

// shardsAt are the shards that were open at a time: they partition the hash
// space.
func shardsAt(s *pb.Stream, millis int64) []*pb.Shard {
	return slices.DeleteFunc(shardsSince(s, millis), func(sh *pb.Shard) bool {
		return sh.CreatedMs > millis || sh.Closed && sh.ClosedMs == millis
	})
}

type iteratorIn struct {
	streamID
	ShardId                string
	ShardIteratorType      string
	StartingSequenceNumber string
	Timestamp              *timestamp
	DryRun                 bool
}

type iteratorOut struct{ ShardIterator string }

func (c *call) getShardIterator(in *iteratorIn) (*iteratorOut, error) {
	if in.ShardId == "" {
		return nil, invalid("shardId", in.ShardId, "Member must have length greater than or equal to 1")
	}
	s, err := c.find(in.streamID)
	if err != nil {
		return nil, err
	}
	n, err := stream.ParseShardName(in.ShardId)
	if err != nil {
		return nil, err
	}
	if !hasShard(s, n) {
		return nil, faultf(resourceNotFound, "Shard %s in stream %s under account %s does not exist", stream.ShardName(n), s.Name, account)
	}
	it := iterator{Stream: s.Name, Generation: s.Generation, Shard: n, Made: c.now.UnixMilli()}
	if err := c.begin(&it, in); err != nil {
		return nil, err
	}
	if in.DryRun {
		return nil, faultf(dryRun, "Request would have succeeded, but DryRun flag is set.")
	}
	return &iteratorOut{c.tokens.seal("iterator", it)}, nil
}

// begin finds where an iterator type starts.
func (c *call) begin(it *iterator, in *iteratorIn) error {
	if in.StartingSequenceNumber != "" && in.ShardIteratorType != "AT_SEQUENCE_NUMBER" && in.ShardIteratorType != "AFTER_SEQUENCE_NUMBER" {
		return faultf(invalidArgument, "StartingSequenceNumber does not go with ShardIteratorType %s.", in.ShardIteratorType)
	}
	if in.Timestamp != nil && in.ShardIteratorType != "AT_TIMESTAMP" {
		return faultf(invalidArgument, "Timestamp does not go with ShardIteratorType %s.", in.ShardIteratorType)
	}
	switch in.ShardIteratorType {
	case "TRIM_HORIZON":
		it.From = stream.FromTrimHorizon
	case "LATEST":
		// LATEST is fixed now, not at the first read.
		res, err := c.cfg.Service.Read(c.ctx, it.Stream, it.Shard, stream.Position{From: stream.FromLatest}, 1, 1, 0)
		if err != nil {
			return err
		}
		it.From, it.Sequence = res.Next.From, res.Next.Sequence
	case "AT_TIMESTAMP":
		switch {
		case in.Timestamp == nil:
			return faultf(invalidArgument, "Must specify timestamp parameter for iterator of type AT_TIMESTAMP.")
		case in.Timestamp.time().After(c.now):
			return faultf(invalidArgument, "The timestampInMillis parameter cannot be greater than the currentTimestampInMillis.")
		}
		it.From, it.Timestamp = stream.FromTimestamp, int64(*in.Timestamp)
	case "AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER":
		it.From = stream.FromAtSequence
		if in.ShardIteratorType == "AFTER_SEQUENCE_NUMBER" {
			it.From = stream.FromAfterSequence
		}
		if in.StartingSequenceNumber == "" {
			return faultf(invalidArgument, "Must specify StartingSequenceNumber for iterator of type %s.", in.ShardIteratorType)
		}
		var err error
		if it.Sequence, err = stream.ParseSequence(in.StartingSequenceNumber); err != nil {
			return err
		}
		return it.Sequence.Of(it.Generation, it.Shard)
	default:
		return invalid("shardIteratorType", in.ShardIteratorType, "Member must satisfy enum value set: [AT_SEQUENCE_NUMBER, AFTER_SEQUENCE_NUMBER, TRIM_HORIZON, LATEST, AT_TIMESTAMP]")
	}
	return nil
}

// hasShard counts children that are about to open: who has read a parent to its
// end was told their names, maybe by a host that has heard more than this one.
func hasShard(s *pb.Stream, index uint32) bool {
	return slices.ContainsFunc(s.Shards, func(sh *pb.Shard) bool { return sh.Index == index })
}
