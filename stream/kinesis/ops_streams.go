package kinesis

import (
	"cmp"
	"slices"
	"strings"
	"time"

	pb "github.com/millrace/millrace/proto/millrace/v1"
	"github.com/millrace/millrace/stream"
)

const account = "000000000000"

// streamID is how an operation names its stream: by name, by ARN, or by both
// when they agree. StreamId is reserved by the API and ignored.
type streamID struct {
	StreamName string
	StreamARN  string
}

// name resolves and checks it.
func (id streamID) name() (string, error) {
	name := id.StreamName
	if id.StreamARN != "" {
		parts := strings.SplitN(id.StreamARN, ":", 6)
		var rest string
		ok := len(parts) == 6 && parts[0] == "arn" && strings.HasPrefix(parts[1], "aws") && parts[2] == service
		if ok {
			rest, ok = strings.CutPrefix(parts[5], "stream/")
		}
		if !ok {
			return "", invalid("streamARN", id.StreamARN, `Member must satisfy regular expression pattern: arn:aws.*:kinesis:.*:\d{12}:stream/\S+`)
		}
		if name != "" && name != rest {
			return "", faultf(invalidArgument, "StreamName %s and StreamARN %s name different streams", name, id.StreamARN)
		}
		name = rest
	}
	if name == "" {
		return "", faultf(invalidArgument, "Either StreamARN or StreamName must be specified.")
	}
	if err := stream.CheckName(name); err != nil {
		return "", invalid("streamName", name, "Member must have length from 1 to 128 and satisfy regular expression pattern: [a-zA-Z0-9_.-]+")
	}
	return name, nil
}

func (c *call) arn(name string) string {
	return "arn:aws:kinesis:" + c.region + ":" + account + ":stream/" + name
}

// find returns the stream that an id names.
func (c *call) find(id streamID) (*pb.Stream, error) {
	name, err := id.name()
	if err != nil {
		return nil, err
	}
	s, err := c.cfg.Service.Describe(c.ctx, name)
	if stream.KindOf(err) == stream.NotFound && err != nil {
		return nil, faultf(resourceNotFound, "Stream %s under account %s not found.", name, account)
	}
	return s, err
}

type createStreamIn struct {
	StreamName         string
	ShardCount         *int64
	StreamModeDetails  *struct{ StreamMode string }
	Tags               map[string]string
	MaxRecordSizeInKiB *int64
}

func (c *call) createStream(in *createStreamIn) (*empty, error) {
	name, err := streamID{StreamName: in.StreamName}.name()
	if err != nil {
		return nil, err
	}
	if m := in.StreamModeDetails; m != nil && m.StreamMode != "PROVISIONED" {
		if m.StreamMode == "ON_DEMAND" {
			return nil, faultf(validation, "StreamMode ON_DEMAND is not served here: use PROVISIONED with a ShardCount")
		}
		return nil, invalid("streamModeDetails.streamMode", m.StreamMode, "Member must satisfy enum value set: [PROVISIONED, ON_DEMAND]")
	}
	if in.ShardCount == nil {
		return nil, faultf(validation, "ShardCount is required for a stream in mode PROVISIONED")
	}
	if *in.ShardCount < 1 {
		return nil, invalid("shardCount", *in.ShardCount, "Member must have value greater than or equal to 1")
	}
	if *in.ShardCount > stream.MaxShards {
		return nil, faultf(limitExceeded, "a stream has at most %d shards, not %d", stream.MaxShards, *in.ShardCount)
	}
	if in.MaxRecordSizeInKiB != nil && *in.MaxRecordSizeInKiB != 1024 {
		return nil, faultf(validation, "MaxRecordSizeInKiB other than 1024 is not served here")
	}
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	err = c.command(&pb.StreamCommand{Body: &pb.StreamCommand_Create{Create: &pb.CreateStream{
		Name: name, Shards: uint32(*in.ShardCount), Tags: in.Tags,
	}}})
	if err != nil && stream.KindOf(err) == stream.Exists {
		return nil, faultf(resourceInUse, "Stream %s under account %s already exists.", name, account)
	}
	return &empty{}, err
}

func (c *call) command(cmd *pb.StreamCommand) error { return c.cfg.Service.Command(c.ctx, cmd) }

func (c *call) deleteStream(in *struct {
	streamID
	EnforceConsumerDeletion bool
}) (*empty, error) {
	s, err := c.find(in.streamID)
	if err != nil {
		return nil, err
	}
	return &empty{}, c.command(&pb.StreamCommand{Body: &pb.StreamCommand_Delete{Delete: &pb.DeleteStream{Name: s.Name}}})
}

type shardOut struct {
	ShardId               string
	ParentShardId         string `json:",omitempty"`
	AdjacentParentShardId string `json:",omitempty"`
	HashKeyRange          hashRange
	SequenceNumberRange   sequenceRange
}

type hashRange struct{ StartingHashKey, EndingHashKey string }

type sequenceRange struct {
	StartingSequenceNumber string
	EndingSequenceNumber   string `json:",omitempty"`
}

// shardsOut describes shards of a stream, in the order of their ids: those that
// are open, and the closed ones of which a record may be left. Children that are
// not open yet are nobody's business.
func shardsOut(s *pb.Stream, now time.Time) ([]shardOut, error) {
	return describeShards(s, shardsSince(s, horizon(s, now)))
}

// horizon is the time before which nothing is left of a stream, in Unix
// milliseconds.
func horizon(s *pb.Stream, now time.Time) int64 {
	return max(s.CreatedMs, now.Add(-time.Duration(s.RetentionHours)*time.Hour).UnixMilli())
}

// shardsSince are the shards that were open at a time or later.
func shardsSince(s *pb.Stream, millis int64) []*pb.Shard {
	var shards []*pb.Shard
	for _, sh := range s.Shards {
		if sh.Change != pb.Shard_CHANGE_OPENING && (!sh.Closed || sh.ClosedMs >= millis) {
			shards = append(shards, sh)
		}
	}
	slices.SortFunc(shards, func(a, b *pb.Shard) int { return cmp.Compare(a.Index, b.Index) })
	return shards
}

func describeShards(s *pb.Stream, shards []*pb.Shard) ([]shardOut, error) {
	out := make([]shardOut, len(shards))
	for i, sh := range shards {
		r, err := stream.RangeOf(sh)
		if err != nil {
			return nil, err
		}
		out[i] = shardOut{
			ShardId:             stream.ShardName(sh.Index),
			HashKeyRange:        hashRange{r.First.String(), r.Last.String()},
			SequenceNumberRange: sequenceRange{StartingSequenceNumber: stream.StartingSequence(s.Generation, sh.Index).String()},
		}
		if sh.Parent > 0 {
			out[i].ParentShardId = stream.ShardName(sh.Parent - 1)
		}
		if sh.AdjacentParent > 0 {
			out[i].AdjacentParentShardId = stream.ShardName(sh.AdjacentParent - 1)
		}
		if sh.Closed {
			end, err := stream.SequenceFromBytes(sh.EndingSequence)
			if err != nil {
				return nil, err
			}
			out[i].SequenceNumberRange.EndingSequenceNumber = end.String()
		}
	}
	return out, nil
}

type modeDetails struct{ StreamMode string }

// description has the members that DescribeStream and its summary share.
type description struct {
	StreamName              string
	StreamARN               string
	StreamStatus            string
	StreamModeDetails       modeDetails
	RetentionPeriodHours    uint32
	StreamCreationTimestamp timestamp
	EnhancedMonitoring      []monitoring
	EncryptionType          string
	MaxRecordSizeInKiB      int
}

type monitoring struct{ ShardLevelMetrics []string }

func (c *call) describe(s *pb.Stream) description {
	return description{
		StreamName: s.Name, StreamARN: c.arn(s.Name), StreamStatus: status(s.Status),
		StreamModeDetails:    modeDetails{"PROVISIONED"},
		RetentionPeriodHours: s.RetentionHours, StreamCreationTimestamp: timestamp(s.CreatedMs),
		EnhancedMonitoring: []monitoring{{[]string{}}}, EncryptionType: "NONE",
		MaxRecordSizeInKiB: stream.MaxRecordBytes / 1024,
	}
}

func status(s pb.Stream_Status) string { return strings.TrimPrefix(s.String(), "STATUS_") }

type describeStreamOut struct {
	StreamDescription struct {
		description
		Shards        []shardOut
		HasMoreShards bool
	}
}

func (c *call) describeStream(in *struct {
	streamID
	Limit                 *int64
	ExclusiveStartShardId string
}) (*describeStreamOut, error) {
	limit, err := within("limit", in.Limit, 10000, 100)
	if err != nil {
		return nil, err
	}
	s, err := c.find(in.streamID)
	if err != nil {
		return nil, err
	}
	shards, err := shardsOut(s, c.now)
	if err != nil {
		return nil, err
	}
	if in.ExclusiveStartShardId != "" {
		if shards, err = afterShard(shards, in.ExclusiveStartShardId); err != nil {
			return nil, err
		}
	}
	out := &describeStreamOut{}
	out.StreamDescription.description = c.describe(s)
	out.StreamDescription.HasMoreShards = len(shards) > limit
	out.StreamDescription.Shards = shards[:min(limit, len(shards))]
	return out, nil
}

// within checks an optional number from 1 to max.
func within(member string, v *int64, max, otherwise int) (int, error) {
	switch {
	case v == nil:
		return otherwise, nil
	case *v < 1:
		return 0, invalid(member, *v, "Member must have value greater than or equal to 1")
	case *v > int64(max):
		return 0, invalid(member, *v, "Member must have value less than or equal to "+itoa(max))
	}
	return int(*v), nil
}

func afterShard(shards []shardOut, id string) ([]shardOut, error) {
	n, err := stream.ParseShardName(id)
	if err != nil {
		return nil, err
	}
	name := stream.ShardName(n)
	i := slices.IndexFunc(shards, func(s shardOut) bool { return s.ShardId > name })
	if i < 0 {
		return []shardOut{}, nil
	}
	return shards[i:], nil
}

type describeSummaryOut struct {
	StreamDescriptionSummary struct {
		description
		OpenShardCount int
		ConsumerCount  int
	}
}

func (c *call) describeStreamSummary(in *struct{ streamID }) (*describeSummaryOut, error) {
	s, err := c.find(in.streamID)
	if err != nil {
		return nil, err
	}
	out := &describeSummaryOut{}
	out.StreamDescriptionSummary.description = c.describe(s)
	for _, sh := range s.Shards {
		if !sh.Closed && sh.Change != pb.Shard_CHANGE_OPENING {
			out.StreamDescriptionSummary.OpenShardCount++
		}
	}
	return out, nil
}

type streamSummary struct {
	StreamName              string
	StreamARN               string
	StreamStatus            string
	StreamModeDetails       modeDetails
	StreamCreationTimestamp timestamp
}

type listStreamsOut struct {
	StreamNames     []string
	StreamSummaries []streamSummary
	HasMoreStreams  bool
	NextToken       string `json:",omitempty"`
}

func (c *call) listStreams(in *struct {
	Limit                    *int64
	NextToken                string
	ExclusiveStartStreamName string
}) (*listStreamsOut, error) {
	limit, err := within("limit", in.Limit, 10000, 100)
	if err != nil {
		return nil, err
	}
	after := in.ExclusiveStartStreamName
	if in.NextToken != "" {
		if after != "" {
			return nil, faultf(invalidArgument, "NextToken and ExclusiveStartStreamName cannot be provided together.")
		}
		p, err := c.page("streams", in.NextToken)
		if err != nil {
			return nil, err
		}
		after = p.After
	}
	catalog, err := c.cfg.Service.Catalog(c.ctx)
	if err != nil {
		return nil, err
	}
	streams := slices.SortedFunc(slices.Values(catalog.Streams), func(a, b *pb.Stream) int { return cmp.Compare(a.Name, b.Name) })
	out := &listStreamsOut{StreamNames: []string{}, StreamSummaries: []streamSummary{}}
	for _, s := range streams {
		if s.Name <= after {
			continue
		}
		if len(out.StreamNames) == min(limit, 100) {
			out.HasMoreStreams = true
			out.NextToken = c.tokens.seal("streams", page{After: out.StreamNames[len(out.StreamNames)-1], Made: c.now.UnixMilli()})
			break
		}
		out.StreamNames = append(out.StreamNames, s.Name)
		out.StreamSummaries = append(out.StreamSummaries, streamSummary{
			StreamName: s.Name, StreamARN: c.arn(s.Name), StreamStatus: status(s.Status),
			StreamModeDetails: modeDetails{"PROVISIONED"}, StreamCreationTimestamp: timestamp(s.CreatedMs),
		})
	}
	return out, nil
}

// page opens a list token.
func (c *call) page(kind, token string) (page, error) {
	var p page
	if !c.tokens.open(kind, token, &p) {
		return p, faultf(invalidArgument, "NextToken is invalid.")
	}
	if !fresh(p.Made, c.now) {
		return p, faultf(expiredToken, "NextToken has expired: a token is good for %v.", tokenLife)
	}
	return p, nil
}
