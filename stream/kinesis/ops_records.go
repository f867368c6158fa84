package kinesis

import (
	"unicode/utf8"

	"github.com/millrace/millrace/stream"
)

type entryIn struct {
	Data            []byte
	PartitionKey    string
	ExplicitHashKey *string
}

// entry checks a record. Breaches of the model's constraints are validation
// faults that name the member.
func (in *entryIn) entry(member string) (stream.Entry, error) {
	e := stream.Entry{PartitionKey: in.PartitionKey, Data: in.Data}
	switch n := utf8.RuneCountInString(in.PartitionKey); {
	case n == 0:
		return e, invalid(member+"partitionKey", in.PartitionKey, "Member must have length greater than or equal to 1")
	case n > stream.MaxPartitionKeyRunes:
		return e, invalid(member+"partitionKey", in.PartitionKey, "Member must have length less than or equal to 256")
	case in.Data == nil:
		return e, invalid(member+"data", "null", "Member must not be null")
	case len(in.Data)+len(in.PartitionKey) > stream.MaxRecordBytes:
		return e, invalid(member+"data", "java.nio.HeapByteBuffer", "Member must have length less than or equal to 1048576")
	}
	if in.ExplicitHashKey == nil {
		e.Hash = stream.HashOf(in.PartitionKey)
		return e, nil
	}
	h, err := stream.ParseHashKey(*in.ExplicitHashKey)
	if err != nil {
		return e, faultf(invalidArgument, "Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was %s", *in.ExplicitHashKey)
	}
	e.Hash = h
	return e, nil
}

type putRecordOut struct {
	ShardId        string
	SequenceNumber string
	EncryptionType string
}

func (c *call) putRecord(in *struct {
	streamID
	entryIn
	SequenceNumberForOrdering string
	DryRun                    bool
}) (*putRecordOut, error) {
	e, err := in.entry("")
	if err != nil {
		return nil, err
	}
	s, err := c.find(in.streamID)
	if err != nil {
		return nil, err
	}
	if in.SequenceNumberForOrdering != "" {
		// Order per client and key holds anyway: a shard assigns numbers in
		// the order of its acknowledgements.
		seq, err := stream.ParseSequence(in.SequenceNumberForOrdering)
		if err == nil && seq.Generation() != s.Generation {
			err = seq.Of(s.Generation, seq.Shard())
		}
		if err != nil {
			return nil, faultf(invalidArgument, "ExclusiveMinimumSequenceNumber %s used in PutRecord on stream %s is invalid.", in.SequenceNumberForOrdering, s.Name)
		}
	}
	if in.DryRun {
		return nil, faultf(dryRun, "Request would have succeeded, but DryRun flag is set.")
	}
	entries := []stream.Entry{e}
	if c.limiter != nil {
		router, _, err := stream.RouteOf(s)
		if err != nil {
			return nil, err
		}
		if _, shard := router.Shard(e.Hash); !c.limiter.write(s, shard, len(e.Data)+len(e.PartitionKey), c.now) {
			return nil, throttled(s.Name, shard)
		}
	}
	res, err := c.cfg.Service.Put(c.ctx, s.Name, entries)
	if err != nil {
		return nil, err
	}
	if res[0].Err != nil {
		return nil, res[0].Err
	}
	return &putRecordOut{stream.ShardName(res[0].Shard), res[0].Sequence.String(), "NONE"}, nil
}

func throttled(name string, shard uint32) *fault {
	return faultf(throughputExceeded, "Rate exceeded for shard %s in stream %s under account %s.", stream.ShardName(shard), name, account)
}

type putRecordsIn struct {
	streamID
	Records []entryIn
	DryRun  bool
}

type putRecordsOut struct {
	FailedRecordCount int
	Records           []putResult
	EncryptionType    string
}

type putResult struct {
	SequenceNumber string `json:",omitempty"`
	ShardId        string `json:",omitempty"`
	ErrorCode      string `json:",omitempty"`
	ErrorMessage   string `json:",omitempty"`
}

func (c *call) putRecords(in *putRecordsIn) (*putRecordsOut, error) {
	switch n := len(in.Records); {
	case n == 0:
		return nil, invalid("records", "[]", "Member must have length greater than or equal to 1")
	case n > stream.MaxPutRecords:
		return nil, invalid("records", itoa(n)+" records", "Member must have length less than or equal to 500")
	}
	entries := make([]stream.Entry, len(in.Records))
	total := 0
	for i := range in.Records {
		var err error
		if entries[i], err = in.Records[i].entry("records." + itoa(i+1) + ".member."); err != nil {
			return nil, err
		}
		total += len(entries[i].Data) + len(entries[i].PartitionKey)
	}
	if total > stream.MaxPutBytes {
		return nil, faultf(invalidArgument, "Records size exceeds 10 MB limit")
	}
	s, err := c.find(in.streamID)
	if err != nil {
		return nil, err
	}
	if in.DryRun {
		return nil, faultf(dryRun, "Request would have succeeded, but DryRun flag is set.")
	}
	out := &putRecordsOut{Records: make([]putResult, len(entries)), EncryptionType: "NONE"}
	places, admitted, err := c.admit(s, entries, out)
	if err != nil {
		return nil, err
	}
	if len(admitted) == 0 {
		return out, nil
	}
	results, err := c.cfg.Service.Put(c.ctx, s.Name, admitted)
	if err != nil {
		return nil, err
	}
	for i, r := range results {
		o := &out.Records[places[i]]
		if r.Err != nil {
			out.FailedRecordCount++
			o.ErrorCode, o.ErrorMessage = internalFailure, r.Err.Error()
			continue
		}
		o.SequenceNumber, o.ShardId = r.Sequence.String(), stream.ShardName(r.Shard)
	}
	return out, nil
}

type getRecordsOut struct {
	Records            []recordOut
	NextShardIterator  *string
	MillisBehindLatest int64
	ChildShards        []childShard `json:",omitempty"`
}

type recordOut struct {
	SequenceNumber              string
	ApproximateArrivalTimestamp timestamp
	Data                        []byte
	PartitionKey                string
	EncryptionType              string
}

type childShard struct {
	ShardId      string
	ParentShards []string
	HashKeyRange hashRange
}

func (c *call) getRecords(in *struct {
	StreamARN     string
	ShardIterator string
	Limit         *int64
	DryRun        bool
}) (*getRecordsOut, error) {
	limit, err := within("limit", in.Limit, stream.MaxReadRecords, stream.MaxReadRecords)
	if err != nil {
		return nil, err
	}
	var it iterator
	if !c.tokens.open("iterator", in.ShardIterator, &it) {
		return nil, faultf(invalidArgument, "Invalid ShardIterator.")
	}
	if !fresh(it.Made, c.now) {
		return nil, faultf(expiredIterator, "Iterator expired. The iterator was created at time %s while right now it is %s which is further in the future than the tolerated delay of %d milliseconds.", timestamp(it.Made).time().UTC().Format("Mon Jan 02 15:04:05 UTC 2006"), c.now.UTC().Format("Mon Jan 02 15:04:05 UTC 2006"), tokenLife.Milliseconds())
	}
	s, err := c.find(streamID{StreamName: it.Stream, StreamARN: in.StreamARN})
	if err != nil {
		return nil, err
	}
	if s.Generation != it.Generation {
		return nil, faultf(resourceNotFound, "Shard %s in stream %s under account %s does not exist", stream.ShardName(it.Shard), it.Stream, account)
	}
	if in.DryRun {
		return nil, faultf(dryRun, "Request would have succeeded, but DryRun flag is set.")
	}
	if c.limiter != nil && !c.limiter.read(s, it.Shard, c.now) {
		return nil, throttled(s.Name, it.Shard)
	}
	at := stream.Position{From: it.From, Sequence: it.Sequence, Timestamp: it.Timestamp}
	res, err := c.cfg.Service.Read(c.ctx, it.Stream, it.Shard, at, limit, stream.MaxReadBytes, 0)
	if err != nil {
		return nil, err
	}
	out := &getRecordsOut{Records: make([]recordOut, len(res.Records)), MillisBehindLatest: res.MillisBehind}
	size := 0
	for i, r := range res.Records {
		size += len(r.Data) + len(r.PartitionKey)
		data := r.Data
		if data == nil {
			data = []byte{}
		}
		out.Records[i] = recordOut{r.Sequence.String(), timestamp(r.Arrival), data, r.PartitionKey, "NONE"}
	}
	if c.limiter != nil {
		c.limiter.took(s, it.Shard, size, c.now)
	}
	if res.End {
		return out, c.children(s.Name, it.Shard, out)
	}
	it.From, it.Sequence, it.Timestamp = res.Next.From, res.Next.Sequence, res.Next.Timestamp
	it.Made = c.now.UnixMilli()
	next := c.tokens.seal("iterator", it)
	out.NextShardIterator = &next
	return out, nil
}

// children lists the shards that a closed one was split or merged into.
func (c *call) children(name string, parent uint32, out *getRecordsOut) error {
	s, err := c.cfg.Service.Describe(c.ctx, name)
	if err != nil {
		return err
	}
	for _, sh := range s.Shards {
		if sh.Parent != parent+1 && sh.AdjacentParent != parent+1 {
			continue
		}
		r, err := stream.RangeOf(sh)
		if err != nil {
			return err
		}
		child := childShard{ShardId: stream.ShardName(sh.Index), HashKeyRange: hashRange{r.First.String(), r.Last.String()}}
		for _, p := range []uint32{sh.Parent, sh.AdjacentParent} {
			if p > 0 {
				child.ParentShards = append(child.ParentShards, stream.ShardName(p-1))
			}
		}
		out.ChildShards = append(out.ChildShards, child)
	}
	return nil
}
