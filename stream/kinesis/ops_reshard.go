package kinesis

import (
	pb "github.com/millrace/millrace/proto/millrace/v1"
	"github.com/millrace/millrace/stream"
)

// shardIndex reads a shard id that a member names.
func shardIndex(member, id string) (uint32, error) {
	if id == "" {
		return 0, invalid(member, id, "Member must have length greater than or equal to 1")
	}
	return stream.ParseShardName(id)
}

// splitShard begins a split; the stream is UPDATING until the children are open.
func (c *call) splitShard(in *struct {
	streamID
	ShardToSplit       string
	NewStartingHashKey string
}) (*empty, error) {
	shard, err := shardIndex("shardToSplit", in.ShardToSplit)
	if err != nil {
		return nil, err
	}
	at, err := stream.ParseHashKey(in.NewStartingHashKey)
	if err != nil {
		return nil, invalid("newStartingHashKey", in.NewStartingHashKey, "Member must satisfy regular expression pattern: 0|([1-9]\\d{0,38})")
	}
	s, err := c.find(in.streamID)
	if err != nil {
		return nil, err
	}
	return &empty{}, c.command(&pb.StreamCommand{Body: &pb.StreamCommand_Split{Split: &pb.SplitShard{
		Name: s.Name, Shard: shard, StartingHash: at[:],
	}}})
}

func (c *call) mergeShards(in *struct {
	streamID
	ShardToMerge         string
	AdjacentShardToMerge string
}) (*empty, error) {
	shard, err := shardIndex("shardToMerge", in.ShardToMerge)
	if err != nil {
		return nil, err
	}
	adjacent, err := shardIndex("adjacentShardToMerge", in.AdjacentShardToMerge)
	if err != nil {
		return nil, err
	}
	s, err := c.find(in.streamID)
	if err != nil {
		return nil, err
	}
	return &empty{}, c.command(&pb.StreamCommand{Body: &pb.StreamCommand_Merge{Merge: &pb.MergeShards{
		Name: s.Name, Shard: shard, Adjacent: adjacent,
	}}})
}

type scaleOut struct {
	StreamName        string
	StreamARN         string
	CurrentShardCount int
	TargetShardCount  int
}

// updateShardCount splits or merges each shard at most once. Where the target is
// neither half nor twice the present number, ranges come out uneven: no shard is
// split and merged in one change.
func (c *call) updateShardCount(in *struct {
	streamID
	TargetShardCount *int64
	ScalingType      string
}) (*scaleOut, error) {
	if in.ScalingType != "UNIFORM_SCALING" {
		return nil, invalid("scalingType", in.ScalingType, "Member must satisfy enum value set: [UNIFORM_SCALING]")
	}
	if in.TargetShardCount == nil {
		return nil, invalid("targetShardCount", "null", "Member must not be null")
	}
	target, err := within("targetShardCount", in.TargetShardCount, stream.MaxShards, 0)
	if err != nil {
		return nil, err
	}
	s, err := c.find(in.streamID)
	if err != nil {
		return nil, err
	}
	_, open, err := stream.RouteOf(s)
	if err != nil {
		return nil, err
	}
	out := &scaleOut{StreamName: s.Name, StreamARN: c.arn(s.Name), CurrentShardCount: len(open), TargetShardCount: target}
	return out, c.command(&pb.StreamCommand{Body: &pb.StreamCommand_Scale{Scale: &pb.ScaleStream{Name: s.Name, Shards: uint32(target)}}})
}
