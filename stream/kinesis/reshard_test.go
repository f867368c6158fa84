package kinesis

import (
	"fmt"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	pb "github.com/millrace/millrace/proto/millrace/v1"
	"github.com/millrace/millrace/stream"
	"github.com/millrace/millrace/stream/catalog"
)

const half = "170141183460469231731687303715884105728" // 2^127

func shardIDs(shards []types.Shard) []string {
	out := []string{}
	for _, sh := range shards {
		out = append(out, (*sh.ShardId)[len(*sh.ShardId)-1:])
	}
	return out
}

func listed(t *testing.T, k *kinesis.Client, f types.ShardFilterType, at *time.Time) []types.Shard {
	t.Helper()
	in := &kinesis.ListShardsInput{StreamName: aws.String("s")}
	if f != "" {
		in.ShardFilter = &types.ShardFilter{Type: f, Timestamp: at}
	}
	out, err := k.ListShards(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return out.Shards
}

func putKeys(t *testing.T, k *kinesis.Client, from, to int) {
	t.Helper()
	in := &kinesis.PutRecordsInput{StreamName: aws.String("s")}
	for i := from; i < to; i++ {
		in.Records = append(in.Records, types.PutRecordsRequestEntry{PartitionKey: aws.String(fmt.Sprint(i % 10)), Data: fmt.Append(nil, i)})
	}
	out, err := k.PutRecords(t.Context(), in)
	if err != nil || *out.FailedRecordCount != 0 {
		t.Fatal(out, err)
	}
}

// A client follows a shard through a split and a merge as the KCL does: it reads
// a shard to its end, which names the children.
func TestAConsumerFollowsSplitsAndMerges(t *testing.T) {
	r := newRig(t, nil)
	k := r.client()
	create(t, k, "s", 1)
	putKeys(t, k, 0, 50)
	began := r.clock.Now()
	r.clock.Advance(time.Minute)
	if _, err := k.SplitShard(t.Context(), &kinesis.SplitShardInput{StreamName: aws.String("s"), ShardToSplit: aws.String("shardId-000000000000"), NewStartingHashKey: aws.String(half)}); err != nil {
		t.Fatal(err)
	}
	putKeys(t, k, 50, 100)
	r.clock.Advance(time.Minute)
	split := r.clock.Now()
	r.clock.Advance(time.Minute)
	if _, err := k.MergeShards(t.Context(), &kinesis.MergeShardsInput{StreamName: aws.String("s"), ShardToMerge: aws.String("shardId-000000000002"), AdjacentShardToMerge: aws.String("shardId-000000000001")}); err != nil {
		t.Fatal(err)
	}
	putKeys(t, k, 100, 150)
	last := map[string]int{}
	todo, read := []string{"shardId-000000000000"}, map[string]bool{}
	for len(todo) > 0 {
		id := todo[0]
		todo = todo[1:]
		it := iteratorFor(t, k, kinesis.GetShardIteratorInput{StreamName: aws.String("s"), ShardId: &id, ShardIteratorType: types.ShardIteratorTypeTrimHorizon})
		read[id] = true
		for it != nil {
			out, err := k.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: it, Limit: aws.Int32(7)})
			if err != nil {
				t.Fatal(err)
			}
			for _, rec := range out.Records {
				var n int
				if _, err := fmt.Sscan(string(rec.Data), &n); err != nil || last[*rec.PartitionKey] > n {
					t.Fatalf("key %s: %d after %d", *rec.PartitionKey, n, last[*rec.PartitionKey])
				}
				last[*rec.PartitionKey] = n
			}
			if it = out.NextShardIterator; it != nil {
				if len(out.ChildShards) > 0 {
					t.Fatalf("%s names children before its end", id)
				}
				if len(out.Records) == 0 {
					break
				}
				continue
			}
			for _, child := range out.ChildShards {
				ready := !slices.Contains(todo, *child.ShardId)
				for _, p := range child.ParentShards {
					ready = ready && read[p]
				}
				if ready {
					todo = append(todo, *child.ShardId)
				}
			}
		}
	}
	for key := range 10 {
		if got := last[fmt.Sprint(key)]; got != 140+key {
			t.Errorf("key %d: the last record is %d, want %d", key, got, 140+key)
		}
	}
	if len(read) != 4 {
		t.Errorf("read %v, want 4 shards", read)
	}
	for want, got := range map[string][]types.Shard{
		"[0 1 2 3] all":       listed(t, k, "", nil),
		"[3] latest":          listed(t, k, types.ShardFilterTypeAtLatest, nil),
		"[0] trim":            listed(t, k, types.ShardFilterTypeAtTrimHorizon, nil),
		"[0] at the start":    listed(t, k, types.ShardFilterTypeAtTimestamp, &began),
		"[1 2] at the split":  listed(t, k, types.ShardFilterTypeAtTimestamp, &split),
		"[1 2 3] from there":  listed(t, k, types.ShardFilterTypeFromTimestamp, &split),
		"[0 1 2 3] from trim": listed(t, k, types.ShardFilterTypeFromTrimHorizon, nil),
	} {
		if ids := fmt.Sprint(shardIDs(got)); ids != want[:len(ids)] {
			t.Errorf("%s: %s", want, ids)
		}
	}
	d, err := k.DescribeStream(t.Context(), &kinesis.DescribeStreamInput{StreamName: aws.String("s")})
	if err != nil || len(d.StreamDescription.Shards) != 4 {
		t.Fatal(d, err)
	}
	merged := d.StreamDescription.Shards[3]
	if *merged.ParentShardId != "shardId-000000000002" || *merged.AdjacentParentShardId != "shardId-000000000001" || merged.SequenceNumberRange.EndingSequenceNumber != nil {
		t.Errorf("the merged shard is %+v", merged)
	}
	for _, sh := range d.StreamDescription.Shards[:3] {
		first, _ := new(big.Int).SetString(*sh.SequenceNumberRange.StartingSequenceNumber, 10)
		end, ok := new(big.Int).SetString(aws.ToString(sh.SequenceNumberRange.EndingSequenceNumber), 10)
		if !ok || end.Cmp(first) < 0 {
			t.Errorf("%s ends at %v", *sh.ShardId, sh.SequenceNumberRange)
		}
	}
	if sum, err := k.DescribeStreamSummary(t.Context(), &kinesis.DescribeStreamSummaryInput{StreamName: aws.String("s")}); err != nil || *sum.StreamDescriptionSummary.OpenShardCount != 1 {
		t.Error(sum, err)
	}
	// What has outlived retention is not listed any more.
	late, err := shardsOut(r.mu.catalog.Streams[0], r.clock.Now().Add(25*time.Hour))
	if err != nil || len(late) != 1 || late[0].ShardId != "shardId-000000000003" {
		t.Errorf("after a day %v are listed, %v", late, err)
	}
}

// Another host may name the children of a shard before this one has heard that
// they are open.
func TestAChildCanBeReadBeforeItIsKnownToBeOpen(t *testing.T) {
	r := newRig(t, nil)
	k := r.client()
	create(t, k, "s", 1)
	at, err := stream.ParseHashKey(half)
	if err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	next, err := catalog.Decide(r.mu.catalog, &pb.StreamCommand{Body: &pb.StreamCommand_Split{Split: &pb.SplitShard{Name: "s", StartingHash: at[:]}}}, r.clock.Now())
	if err == nil {
		err = r.broker.SetCatalog(t.Context(), next)
	}
	r.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	if ids := fmt.Sprint(shardIDs(listed(t, k, "", nil))); ids != "[0]" {
		t.Errorf("shards %s are listed while a split is under way, want [0]", ids)
	}
	it := iteratorFor(t, k, kinesis.GetShardIteratorInput{StreamName: aws.String("s"), ShardId: aws.String("shardId-000000000001"), ShardIteratorType: types.ShardIteratorTypeTrimHorizon})
	out, err := k.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: it})
	if err != nil || len(out.Records) > 0 || out.NextShardIterator == nil {
		t.Errorf("a child that is about to open: %+v, %v; want no records and the next iterator", out, err)
	}
}

func TestUpdateShardCount(t *testing.T) {
	r := newRig(t, nil)
	k := r.client()
	create(t, k, "s", 2)
	update := func(n int32) error {
		_, err := k.UpdateShardCount(t.Context(), &kinesis.UpdateShardCountInput{StreamName: aws.String("s"), TargetShardCount: &n, ScalingType: types.ScalingTypeUniformScaling})
		return err
	}
	for _, n := range []int32{4, 2} {
		if err := update(n); err != nil {
			t.Fatal(err)
		}
		var ranges []string
		for _, sh := range listed(t, k, types.ShardFilterTypeAtLatest, nil) {
			ranges = append(ranges, *sh.HashKeyRange.StartingHashKey)
		}
		var want []string
		for _, e := range stream.EvenRanges(int(n)) {
			want = append(want, e.First.String())
		}
		slices.Sort(ranges)
		slices.Sort(want)
		if !slices.Equal(ranges, want) {
			t.Errorf("%d shards begin at %v, want %v", n, ranges, want)
		}
	}
	fails(t, "InvalidArgumentException", update(5))
}

func TestWrongSplitsAndMerges(t *testing.T) {
	r := newRig(t, nil)
	k := r.client()
	create(t, k, "s", 3)
	split := func(shard, at string) error {
		_, err := k.SplitShard(t.Context(), &kinesis.SplitShardInput{StreamName: aws.String("s"), ShardToSplit: &shard, NewStartingHashKey: &at})
		return err
	}
	merge := func(a, b string) error {
		_, err := k.MergeShards(t.Context(), &kinesis.MergeShardsInput{StreamName: aws.String("s"), ShardToMerge: &a, AdjacentShardToMerge: &b})
		return err
	}
	fails(t, "ResourceNotFoundException", split("shardId-000000000009", half))
	fails(t, "InvalidArgumentException", split("shardId-000000000000", half))
	fails(t, "InvalidArgumentException", split("shardId-000000000000", "0"))
	fails(t, "ValidationException", split("shardId-000000000000", "0x10"))
	fails(t, "InvalidArgumentException", merge("shardId-000000000000", "shardId-000000000002"))
	fails(t, "InvalidArgumentException", merge("shardId-000000000000", "shardId-000000000000"))
	if err := merge("shardId-000000000000", "shardId-000000000001"); err != nil {
		t.Fatal(err)
	}
	fails(t, "InvalidArgumentException", split("shardId-000000000000", "5"))
}
