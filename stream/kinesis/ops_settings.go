package kinesis

import (
	"maps"
	"slices"
	"unicode/utf8"

	pb "github.com/millrace/millrace/proto/millrace/v1"
	"github.com/millrace/millrace/stream"
)

type retentionIn struct {
	streamID
	RetentionPeriodHours int64
}

func (c *call) increaseRetention(in *retentionIn) (*empty, error) { return c.retention(in, true) }

func (c *call) decreaseRetention(in *retentionIn) (*empty, error) { return c.retention(in, false) }

func (c *call) retention(in *retentionIn, increase bool) (*empty, error) {
	s, err := c.find(in.streamID)
	if err != nil {
		return nil, err
	}
	h, now := in.RetentionPeriodHours, int64(s.RetentionHours)
	switch {
	case h < stream.MinRetentionHours:
		return nil, faultf(invalidArgument, "Minimum allowed retention period is %d hours. Requested retention period (%d hours) is too short.", stream.MinRetentionHours, h)
	case h > stream.MaxRetentionHours:
		return nil, faultf(invalidArgument, "Maximum allowed retention period is %d hours. Requested retention period (%d hours) is too long.", stream.MaxRetentionHours, h)
	case increase && h < now:
		return nil, faultf(invalidArgument, "Requested retention period (%d hours) for stream %s can not be shorter than existing retention period (%d hours). Use DecreaseRetentionPeriod API.", h, s.Name, now)
	case !increase && h > now:
		return nil, faultf(invalidArgument, "Requested retention period (%d hours) for stream %s can not be longer than existing retention period (%d hours). Use IncreaseRetentionPeriod API.", h, s.Name, now)
	}
	return &empty{}, c.command(&pb.StreamCommand{Body: &pb.StreamCommand_SetRetention{SetRetention: &pb.SetRetention{
		Name: s.Name, Hours: uint32(h), Increase: increase,
	}}})
}

// checkTags holds tags to Kinesis' limits.
func checkTags(tags map[string]string) error {
	if len(tags) > stream.MaxTags {
		return faultf(invalidArgument, "a stream has at most %d tags, not %d", stream.MaxTags, len(tags))
	}
	for k, v := range tags {
		if n := utf8.RuneCountInString(k); n == 0 || n > stream.MaxTagKeyRunes {
			return invalid("tags", k, "Map keys must have length from 1 to 128")
		}
		if utf8.RuneCountInString(v) > stream.MaxTagValueRunes {
			return invalid("tags", v, "Map values must have length from 0 to 256")
		}
	}
	return nil
}

func (c *call) addTags(in *struct {
	streamID
	Tags map[string]string
}) (*empty, error) {
	if len(in.Tags) == 0 {
		return nil, invalid("tags", "{}", "Member must have length greater than or equal to 1")
	}
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	s, err := c.find(in.streamID)
	if err != nil {
		return nil, err
	}
	return &empty{}, c.command(&pb.StreamCommand{Body: &pb.StreamCommand_Tag{Tag: &pb.TagStream{Name: s.Name, Tags: in.Tags}}})
}

func (c *call) removeTags(in *struct {
	streamID
	TagKeys []string
}) (*empty, error) {
	if n := len(in.TagKeys); n == 0 || n > stream.MaxTags {
		return nil, invalid("tagKeys", in.TagKeys, "Member must have length from 1 to 50")
	}
	s, err := c.find(in.streamID)
	if err != nil {
		return nil, err
	}
	return &empty{}, c.command(&pb.StreamCommand{Body: &pb.StreamCommand_Untag{Untag: &pb.UntagStream{Name: s.Name, Keys: in.TagKeys}}})
}

type tag struct{ Key, Value string }

type listTagsOut struct {
	Tags        []tag
	HasMoreTags bool
}

func (c *call) listTags(in *struct {
	streamID
	ExclusiveStartTagKey string
	Limit                *int64
}) (*listTagsOut, error) {
	limit, err := within("limit", in.Limit, stream.MaxTags, stream.MaxTags)
	if err != nil {
		return nil, err
	}
	s, err := c.find(in.streamID)
	if err != nil {
		return nil, err
	}
	out := &listTagsOut{Tags: []tag{}}
	for _, k := range slices.Sorted(maps.Keys(s.Tags)) {
		if k <= in.ExclusiveStartTagKey && in.ExclusiveStartTagKey != "" {
			continue
		}
		if len(out.Tags) == limit {
			out.HasMoreTags = true
			break
		}
		out.Tags = append(out.Tags, tag{k, s.Tags[k]})
	}
	return out, nil
}
