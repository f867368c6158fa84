package stream

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The limits, Kinesis' own where it has one.
const (
	// MaxRecordBytes bounds data and partition key of one record together.
	MaxRecordBytes = 1 << 20
	// MaxPartitionKeyRunes bounds a partition key, in Unicode code points.
	MaxPartitionKeyRunes = 256
	// MaxPutRecords bounds the entries of one Put.
	MaxPutRecords = 500
	// MaxPutBytes bounds the data and keys of one Put.
	MaxPutBytes = 10 << 20
	// MaxReadRecords bounds the records of one Read.
	MaxReadRecords = 10_000
	// MaxReadBytes bounds the data and keys of one Read.
	MaxReadBytes = 10 << 20
	// MaxStreamNameBytes bounds a stream's name.
	MaxStreamNameBytes = 128
	// MaxShards bounds the shards that a stream is created with.
	MaxShards = 10_000
	// MaxTags bounds the tags of a stream.
	MaxTags = 50
	// MaxTagKeyRunes and MaxTagValueRunes bound one tag.
	MaxTagKeyRunes   = 128
	MaxTagValueRunes = 256

	// DefaultRetentionHours, MinRetentionHours and MaxRetentionHours bound
	// how long records are kept.
	DefaultRetentionHours = 24
	MinRetentionHours     = 24
	MaxRetentionHours     = 8760
)

// DurabilityLocal says that a shard's host has fsynced a record before it is
// acknowledged.
const DurabilityLocal = "local"

// CheckName accepts a stream name: 1 to 128 of a-z A-Z 0-9 _ . and -.
func CheckName(name string) error {
	if name == "" || len(name) > MaxStreamNameBytes {
		return Errorf(InvalidArgument, "stream name %q is %d bytes long; it may have 1 to %d", clip(name), len(name), MaxStreamNameBytes)
	}
	for i := range len(name) {
		c := name[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '.' || c == '-' {
			continue
		}
		return Errorf(InvalidArgument, "stream name %q has a character other than a-z, A-Z, 0-9, _, . and -", clip(name))
	}
	return nil
}

// CheckEntry accepts a record to put: a partition key of 1 to 256 code points,
// and not too large.
func CheckEntry(e *Entry) error {
	if n := len(e.PartitionKey); n == 0 || n > MaxPartitionKeyRunes && utf8.RuneCountInString(e.PartitionKey) > MaxPartitionKeyRunes {
		return Errorf(InvalidArgument, "partition key %q must have 1 to %d characters", clip(e.PartitionKey), MaxPartitionKeyRunes)
	}
	if n := len(e.Data) + len(e.PartitionKey); n > MaxRecordBytes {
		return Errorf(InvalidArgument, "record with partition key %q has %d bytes with its key; at most %d are allowed", clip(e.PartitionKey), n, MaxRecordBytes)
	}
	return nil
}

// ShardName is the id of a shard as clients see it: shardId-000000000007.
func ShardName(index uint32) string { return fmt.Sprintf("shardId-%012d", index) }

// ParseShardName reads a shard id. Like Kinesis it takes abbreviated ones too:
// what counts is the number after the last hyphen.
func ParseShardName(s string) (uint32, error) {
	i := strings.LastIndexByte(s, '-')
	if i <= 0 || len(s) > 128 {
		return 0, Errorf(InvalidArgument, "shard id %q is not of the form shardId-000000000000", clip(s))
	}
	n, err := strconv.ParseUint(s[i+1:], 10, 32)
	if err != nil {
		return 0, Errorf(InvalidArgument, "shard id %q does not end in a shard's number", clip(s))
	}
	return uint32(n), nil
}
