package catalog

import (
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	pb "github.com/millrace/millrace/proto/millrace/v1"
	"github.com/millrace/millrace/stream"
)

// Region and account of the ARNs that streams carry.
const arnPrefix = "arn:aws:kinesis:us-east-1:000000000000:stream/"

// Decide carries out a command. The catalog that it returns has the next
// version; errors are *stream.Error. nil stands for an empty catalog.
func Decide(cat *pb.Catalog, cmd *pb.StreamCommand, now time.Time) (*pb.Catalog, error) {
	next := successor(cat)
	var err error
	switch body := cmd.GetBody().(type) {
	case *pb.StreamCommand_Create:
		err = create(next, body.Create, now)
	case *pb.StreamCommand_Delete:
		err = remove(next, body.Delete.GetName())
	case *pb.StreamCommand_SetRetention:
		err = setRetention(next, body.SetRetention)
	case *pb.StreamCommand_Tag:
		err = tag(next, body.Tag)
	case *pb.StreamCommand_Untag:
		err = untag(next, body.Untag)
	case *pb.StreamCommand_Split:
		err = split(next, body.Split, now)
	case *pb.StreamCommand_Merge:
		err = merge(next, body.Merge, now)
	case *pb.StreamCommand_Scale:
		err = scale(next, body.Scale, now)
	default:
		err = stream.Errorf(stream.InvalidArgument, "stream command of a kind that this job manager does not know: upgrade it")
	}
	if err != nil {
		return nil, err
	}
	return next, nil
}

// Find returns a stream of a catalog by name.
func Find(cat *pb.Catalog, name string) (*pb.Stream, error) {
	for _, s := range cat.GetStreams() {
		if s.GetName() == name {
			return s, nil
		}
	}
	return nil, stream.Errorf(stream.NotFound, "stream %s does not exist", name)
}

func successor(cat *pb.Catalog) *pb.Catalog {
	if cat == nil {
		return &pb.Catalog{Version: 1}
	}
	next := proto.CloneOf(cat)
	next.Version++
	return next
}

func create(cat *pb.Catalog, c *pb.CreateStream, now time.Time) error {
	if err := stream.CheckName(c.GetName()); err != nil {
		return err
	}
	if n := c.GetShards(); n < 1 || n > stream.MaxShards {
		return stream.Errorf(stream.InvalidArgument, "stream %s with %d shards: a stream has 1 to %d", c.GetName(), n, stream.MaxShards)
	}
	if err := checkTags(c.GetName(), c.GetTags()); err != nil {
		return err
	}
	if s, err := Find(cat, c.GetName()); err == nil {
		if s.GetStatus() == pb.Stream_STATUS_DELETING {
			return stream.Errorf(stream.InUse, "stream %s is being deleted: wait until it is gone", c.GetName())
		}
		return stream.Errorf(stream.Exists, "stream %s exists", c.GetName())
	}
	cat.LastGeneration = max(cat.GetLastGeneration()+1, uint64(now.Unix()))
	s := &pb.Stream{
		Name:           c.GetName(),
		Arn:            arnPrefix + c.GetName(),
		CreatedMs:      now.UnixMilli(),
		RetentionHours: stream.DefaultRetentionHours,
		Tags:           c.GetTags(),
		Status:         pb.Stream_STATUS_CREATING,
		Generation:     cat.GetLastGeneration(),
		Durability:     stream.DurabilityLocal,
		ChangedVersion: cat.GetVersion(),
	}
	for i, r := range stream.EvenRanges(int(c.GetShards())) {
		s.Shards = append(s.Shards, &pb.Shard{
			Index: uint32(i), HashFirst: r.First[:], HashLast: r.Last[:], CreatedMs: now.UnixMilli(),
		})
	}
	if err := place(cat, s); err != nil {
		return err
	}
	cat.Streams = append(cat.Streams, s)
	slices.SortFunc(cat.Streams, byName)
	return nil
}

func remove(cat *pb.Catalog, name string) error {
	s, err := Find(cat, name)
	if err != nil {
		return err
	}
	if s.GetStatus() == pb.Stream_STATUS_DELETING {
		return stream.Errorf(stream.InUse, "stream %s is being deleted already", name)
	}
	s.Status, s.ChangedVersion = pb.Stream_STATUS_DELETING, cat.GetVersion()
	return nil
}

func setRetention(cat *pb.Catalog, c *pb.SetRetention) error {
	s, err := settled(cat, c.GetName())
	if err != nil {
		return err
	}
	hours, was := c.GetHours(), s.GetRetentionHours()
	if hours < stream.MinRetentionHours || hours > stream.MaxRetentionHours {
		return stream.Errorf(stream.InvalidArgument, "retention of stream %s: %d hours; it may be %d to %d", s.GetName(), hours, stream.MinRetentionHours, stream.MaxRetentionHours)
	}
	if c.GetIncrease() && hours < was {
		return stream.Errorf(stream.InvalidArgument, "retention of stream %s is %d hours and cannot be increased to %d: decrease it", s.GetName(), was, hours)
	}
	if !c.GetIncrease() && hours > was {
		return stream.Errorf(stream.InvalidArgument, "retention of stream %s is %d hours and cannot be decreased to %d: increase it", s.GetName(), was, hours)
	}
	s.RetentionHours = hours
	return nil
}

func tag(cat *pb.Catalog, c *pb.TagStream) error {
	s, err := settled(cat, c.GetName())
	if err != nil {
		return err
	}
	all := make(map[string]string, len(s.GetTags())+len(c.GetTags()))
	for _, tags := range []map[string]string{s.GetTags(), c.GetTags()} {
		for k, v := range tags {
			all[k] = v
		}
	}
	if err := checkTags(s.GetName(), all); err != nil {
		return err
	}
	s.Tags = all
	return nil
}

func untag(cat *pb.Catalog, c *pb.UntagStream) error {
	s, err := settled(cat, c.GetName())
	if err != nil {
		return err
	}
	for _, k := range c.GetKeys() {
		delete(s.Tags, k)
	}
	return nil
}

// settled finds a stream that may be changed.
func settled(cat *pb.Catalog, name string) (*pb.Stream, error) {
	s, err := Find(cat, name)
	if err != nil {
		return nil, err
	}
	if st := s.GetStatus(); st != pb.Stream_STATUS_ACTIVE {
		return nil, stream.Errorf(stream.InUse, "stream %s is %s: wait until it is ACTIVE", name, statusName(st))
	}
	return s, nil
}

func checkTags(name string, tags map[string]string) error {
	if len(tags) > stream.MaxTags {
		return stream.Errorf(stream.InvalidArgument, "stream %s with %d tags: at most %d are allowed", name, len(tags), stream.MaxTags)
	}
	for k, v := range tags {
		if n := utf8.RuneCountInString(k); n < 1 || n > stream.MaxTagKeyRunes {
			return stream.Errorf(stream.InvalidArgument, "stream %s: a tag's key has %d characters; it may have 1 to %d", name, n, stream.MaxTagKeyRunes)
		}
		if n := utf8.RuneCountInString(v); n > stream.MaxTagValueRunes {
			return stream.Errorf(stream.InvalidArgument, "stream %s: the value of tag %q has %d characters; it may have up to %d", name, k, n, stream.MaxTagValueRunes)
		}
	}
	return nil
}

func statusName(s pb.Stream_Status) string {
	switch s {
	case pb.Stream_STATUS_CREATING:
		return "CREATING"
	case pb.Stream_STATUS_ACTIVE:
		return "ACTIVE"
	case pb.Stream_STATUS_DELETING:
		return "DELETING"
	case pb.Stream_STATUS_UPDATING:
		return "UPDATING"
	}
	return fmt.Sprintf("in status %d", s)
}
