package kinesis

import (
	"sync"
	"time"

	pb "github.com/millrace/millrace/proto/millrace/v1"
	"github.com/millrace/millrace/stream"
)

// The rates of Kinesis (service quotas of Data Streams, provisioned mode).
const (
	shardWriteBytes   = 1 << 20 // a second
	shardWriteRecords = 1000
	shardReadBytes    = 2 << 20
	shardReadCalls    = 5
)

// controlRates are calls a second of an account.
var controlRates = map[string]float64{
	"CreateStream": 5, "DeleteStream": 5, "DescribeStream": 10, "DescribeStreamSummary": 20, "ListStreams": 5,
	"AddTagsToStream": 5, "RemoveTagsFromStream": 5, "ListTagsForStream": 5,
	"IncreaseStreamRetentionPeriod": 5, "DecreaseStreamRetentionPeriod": 5, "ListShards": 1000,
	"SplitShard": 5, "MergeShards": 5, "UpdateShardCount": 10,
}

// limiter keeps token buckets of one second's worth. It counts what comes
// through this server: each task manager's API has its own.
type limiter struct {
	mu struct {
		sync.Mutex
		shards  map[shardKey]*shardBuckets
		control map[string]*bucket
	}
}

type shardKey struct {
	generation uint64
	shard      uint32
}

type shardBuckets struct {
	writeBytes, writeRecords, readBytes, readCalls bucket
}

// bucket refills at rate up to rate. It may go below zero: a large answer is
// paid for by the calls after it.
type bucket struct {
	rate, level float64
	at          time.Time
}

func newBucket(rate float64, now time.Time) bucket { return bucket{rate: rate, level: rate, at: now} }

func (b *bucket) refill(now time.Time) {
	b.level = min(b.rate, b.level+b.rate*now.Sub(b.at).Seconds())
	b.at = now
}

func newLimiter() *limiter {
	l := &limiter{}
	l.mu.shards = map[shardKey]*shardBuckets{}
	l.mu.control = map[string]*bucket{}
	return l
}

func (l *limiter) shardLocked(s *pb.Stream, shard uint32, now time.Time) *shardBuckets {
	k := shardKey{s.Generation, shard}
	b := l.mu.shards[k]
	if b == nil {
		b = &shardBuckets{
			newBucket(shardWriteBytes, now), newBucket(shardWriteRecords, now),
			newBucket(shardReadBytes, now), newBucket(shardReadCalls, now),
		}
		l.mu.shards[k] = b
	}
	for _, each := range []*bucket{&b.writeBytes, &b.writeRecords, &b.readBytes, &b.readCalls} {
		each.refill(now)
	}
	return b
}

// write takes one record of size bytes, if the shard's rates allow it.
func (l *limiter) write(s *pb.Stream, shard uint32, size int, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.shardLocked(s, shard, now)
	if b.writeRecords.level < 1 || b.writeBytes.level < float64(min(size, shardWriteBytes)) {
		return false
	}
	b.writeRecords.level--
	b.writeBytes.level -= float64(size)
	return true
}

// read takes one GetRecords call.
func (l *limiter) read(s *pb.Stream, shard uint32, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.shardLocked(s, shard, now)
	if b.readCalls.level < 1 || b.readBytes.level <= 0 {
		return false
	}
	b.readCalls.level--
	return true
}

// took charges what a call returned.
func (l *limiter) took(s *pb.Stream, shard uint32, size int, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shardLocked(s, shard, now).readBytes.level -= float64(size)
}

// control takes one call of a control operation.
func (l *limiter) control(name string, now time.Time) bool {
	rate, ok := controlRates[name]
	if !ok {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.mu.control[name]
	if b == nil {
		fresh := newBucket(rate, now)
		b = &fresh
		l.mu.control[name] = b
	}
	b.refill(now)
	if b.level < 1 {
		return false
	}
	b.level--
	return true
}

// admit picks the entries that the shards' rates allow; the others are marked
// in out. After one of a shard is refused, all later ones of it are.
func (c *call) admit(s *pb.Stream, entries []stream.Entry, out *putRecordsOut) (places []int, admitted []stream.Entry, err error) {
	var router *stream.Router
	if c.limiter != nil {
		if router, _, err = stream.RouteOf(s); err != nil {
			return nil, nil, err
		}
	}
	refused := map[uint32]bool{}
	for i := range entries {
		if router != nil {
			_, shard := router.Shard(entries[i].Hash)
			if refused[shard] || !c.limiter.write(s, shard, len(entries[i].Data)+len(entries[i].PartitionKey), c.now) {
				refused[shard] = true
				f := throttled(s.Name, shard)
				out.FailedRecordCount++
				out.Records[i] = putResult{ErrorCode: f.name, ErrorMessage: f.message}
				continue
			}
		}
		places, admitted = append(places, i), append(admitted, entries[i])
	}
	return places, admitted, nil
}
