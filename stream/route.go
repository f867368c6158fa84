package stream

import (
	"bytes"
	"slices"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// RouteOf builds the router of a stream's open shards, which it also returns,
// in the order of their ranges: the order of the places that the router
// answers. While a split or merge is under way the parents count as open and the
// children do not.
func RouteOf(s *pb.Stream) (*Router, []*pb.Shard, error) {
	var open []*pb.Shard
	for _, sh := range s.GetShards() {
		if !sh.GetClosed() && sh.GetChange() != pb.Shard_CHANGE_OPENING {
			open = append(open, sh)
		}
	}
	slices.SortFunc(open, func(a, b *pb.Shard) int { return bytes.Compare(a.GetHashFirst(), b.GetHashFirst()) })
	ranges := make([]HashRange, len(open))
	shards := make([]uint32, len(open))
	for i, sh := range open {
		r, err := RangeOf(sh)
		if err != nil {
			return nil, nil, Errorf(Internal, "stream %s: %s: %w", s.GetName(), ShardName(sh.GetIndex()), err)
		}
		ranges[i], shards[i] = r, sh.GetIndex()
	}
	router, err := NewRouter(ranges, shards)
	if err != nil {
		return nil, nil, Errorf(Internal, "stream %s: %w", s.GetName(), err)
	}
	return router, open, nil
}

// RangeOf is a shard's part of the hash space.
func RangeOf(sh *pb.Shard) (HashRange, error) {
	first, err := HashKeyFromBytes(sh.GetHashFirst())
	if err != nil {
		return HashRange{}, err
	}
	last, err := HashKeyFromBytes(sh.GetHashLast())
	return HashRange{First: first, Last: last}, err
}
