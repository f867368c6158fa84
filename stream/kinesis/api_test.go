package kinesis

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"
)

func create(t *testing.T, k *kinesis.Client, name string, shards int32) {
	t.Helper()
	if _, err := k.CreateStream(t.Context(), &kinesis.CreateStreamInput{StreamName: &name, ShardCount: &shards}); err != nil {
		t.Fatal(err)
	}
	d, err := k.DescribeStreamSummary(t.Context(), &kinesis.DescribeStreamSummaryInput{StreamName: &name})
	if err != nil {
		t.Fatal(err)
	}
	if s := d.StreamDescriptionSummary; s.StreamStatus != types.StreamStatusActive || *s.OpenShardCount != shards || *s.RetentionPeriodHours != 24 {
		t.Fatalf("summary %+v", s)
	}
}

// readAll reads a shard from an iterator to its tip.
func readAll(t *testing.T, k *kinesis.Client, it *string) (all []types.Record, next *string) {
	t.Helper()
	for {
		out, err := k.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: it})
		if err != nil {
			t.Fatal(err)
		}
		all, it = append(all, out.Records...), out.NextShardIterator
		if *out.MillisBehindLatest == 0 && len(out.Records) == 0 {
			return all, it
		}
	}
}

func iteratorFor(t *testing.T, k *kinesis.Client, in kinesis.GetShardIteratorInput) *string {
	t.Helper()
	out, err := k.GetShardIterator(t.Context(), &in)
	if err != nil {
		t.Fatal(err)
	}
	return out.ShardIterator
}

func TestRecordsComeBackInOrderFromTheShardOfTheirKey(t *testing.T) {
	r := newRig(t, nil)
	k := r.client()
	create(t, k, "s", 4)
	want := map[string][]string{}
	for call := range 3 {
		in := &kinesis.PutRecordsInput{StreamName: aws.String("s")}
		for i := range 500 {
			key := fmt.Sprint("key", i%17)
			in.Records = append(in.Records, types.PutRecordsRequestEntry{PartitionKey: &key, Data: fmt.Appendf(nil, "%d/%d", call, i)})
		}
		out, err := k.PutRecords(t.Context(), in)
		if err != nil || *out.FailedRecordCount != 0 {
			t.Fatal(out, err)
		}
		for i, res := range out.Records {
			want[*res.ShardId] = append(want[*res.ShardId], string(in.Records[i].Data))
		}
	}
	shards, err := k.ListShards(t.Context(), &kinesis.ListShardsInput{StreamName: aws.String("s")})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	for _, sh := range shards.Shards {
		it := iteratorFor(t, k, kinesis.GetShardIteratorInput{StreamName: aws.String("s"), ShardId: sh.ShardId, ShardIteratorType: types.ShardIteratorTypeTrimHorizon})
		records, _ := readAll(t, k, it)
		last, _ := new(big.Int).SetString(*sh.SequenceNumberRange.StartingSequenceNumber, 10)
		for _, rec := range records {
			n, ok := new(big.Int).SetString(*rec.SequenceNumber, 10)
			if !ok || n.Cmp(last) <= 0 {
				t.Fatalf("%s: sequence number %s after %s", *sh.ShardId, *rec.SequenceNumber, last)
			}
			last = n
			got[*sh.ShardId] = append(got[*sh.ShardId], string(rec.Data))
			if d := rec.ApproximateArrivalTimestamp.Sub(r.clock.Now()).Abs(); d > time.Second {
				t.Fatalf("arrival is %v away", d)
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
}

func TestTheFiveIteratorTypes(t *testing.T) {
	r := newRig(t, nil)
	k := r.client()
	create(t, k, "s", 1)
	var seqs []string
	var times []time.Time
	for i := range 4 {
		r.clock.Advance(time.Second)
		times = append(times, r.clock.Now())
		out, err := k.PutRecord(t.Context(), &kinesis.PutRecordInput{StreamName: aws.String("s"), PartitionKey: aws.String("k"), Data: fmt.Append(nil, i)})
		if err != nil {
			t.Fatal(err)
		}
		seqs = append(seqs, *out.SequenceNumber)
	}
	in := func(kind types.ShardIteratorType) kinesis.GetShardIteratorInput {
		return kinesis.GetShardIteratorInput{StreamName: aws.String("s"), ShardId: aws.String("shardId-000000000000"), ShardIteratorType: kind}
	}
	at, after, stamp := in(types.ShardIteratorTypeAtSequenceNumber), in(types.ShardIteratorTypeAfterSequenceNumber), in(types.ShardIteratorTypeAtTimestamp)
	at.StartingSequenceNumber, after.StartingSequenceNumber, stamp.Timestamp = &seqs[1], &seqs[1], &times[2]
	latest := iteratorFor(t, k, in(types.ShardIteratorTypeLatest))
	for want, in := range map[string]kinesis.GetShardIteratorInput{
		"0123": in(types.ShardIteratorTypeTrimHorizon), "123": at, "23": after, "23 ": stamp,
	} {
		var got strings.Builder
		records, _ := readAll(t, k, iteratorFor(t, k, in))
		for _, rec := range records {
			got.Write(rec.Data)
		}
		if strings.TrimSpace(want) != got.String() {
			t.Errorf("%s: got %s, want %s", in.ShardIteratorType, got.String(), want)
		}
	}
	if _, err := k.PutRecord(t.Context(), &kinesis.PutRecordInput{StreamName: aws.String("s"), PartitionKey: aws.String("k"), Data: []byte("4")}); err != nil {
		t.Fatal(err)
	}
	if records, _ := readAll(t, k, latest); len(records) != 1 || string(records[0].Data) != "4" {
		t.Errorf("LATEST: got %d records", len(records))
	}
}

// fails asserts an API error by name.
func fails(t *testing.T, want string, err error) {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != want {
		t.Errorf("got error %v, want %s", err, want)
	}
}

func TestWrongRequestsAreNamedAsByKinesis(t *testing.T) {
	r := newRig(t, nil)
	k := r.client()
	ctx := t.Context()
	create(t, k, "s", 2)
	s, none, key := aws.String("s"), aws.String("none"), aws.String("k")
	entry := types.PutRecordsRequestEntry{PartitionKey: key, Data: []byte("x")}
	for what, c := range map[string]struct {
		want string
		call func() error
	}{
		"stream exists": {"ResourceInUseException", func() error {
			_, err := k.CreateStream(ctx, &kinesis.CreateStreamInput{StreamName: s, ShardCount: aws.Int32(1)})
			return err
		}},
		"no shards": {"ValidationException", func() error {
			_, err := k.CreateStream(ctx, &kinesis.CreateStreamInput{StreamName: none, ShardCount: aws.Int32(0)})
			return err
		}},
		"bad name": {"ValidationException", func() error {
			_, err := k.CreateStream(ctx, &kinesis.CreateStreamInput{StreamName: aws.String("a b"), ShardCount: aws.Int32(1)})
			return err
		}},
		"unknown stream": {"ResourceNotFoundException", func() error {
			_, err := k.PutRecord(ctx, &kinesis.PutRecordInput{StreamName: none, PartitionKey: key, Data: []byte("x")})
			return err
		}},
		"delete unknown": {"ResourceNotFoundException", func() error {
			_, err := k.DeleteStream(ctx, &kinesis.DeleteStreamInput{StreamName: none})
			return err
		}},
		"key too long": {"ValidationException", func() error {
			_, err := k.PutRecord(ctx, &kinesis.PutRecordInput{StreamName: s, PartitionKey: aws.String(strings.Repeat("ä", 257)), Data: []byte("x")})
			return err
		}},
		"record too large": {"ValidationException", func() error {
			_, err := k.PutRecord(ctx, &kinesis.PutRecordInput{StreamName: s, PartitionKey: key, Data: bytes.Repeat([]byte("x"), 1<<20)})
			return err
		}},
		"too many records": {"ValidationException", func() error {
			_, err := k.PutRecords(ctx, &kinesis.PutRecordsInput{StreamName: s, Records: slicesOf(entry, 501)})
			return err
		}},
		"call too large": {"InvalidArgumentException", func() error {
			big := types.PutRecordsRequestEntry{PartitionKey: key, Data: bytes.Repeat([]byte("x"), 1<<20-1)}
			_, err := k.PutRecords(ctx, &kinesis.PutRecordsInput{StreamName: s, Records: slicesOf(big, 11)})
			return err
		}},
		"hash key in hex": {"InvalidArgumentException", func() error {
			_, err := k.PutRecord(ctx, &kinesis.PutRecordInput{StreamName: s, PartitionKey: key, Data: []byte("x"), ExplicitHashKey: aws.String("ff")})
			return err
		}},
		"hash key 2^128": {"InvalidArgumentException", func() error {
			_, err := k.PutRecord(ctx, &kinesis.PutRecordInput{StreamName: s, PartitionKey: key, Data: []byte("x"), ExplicitHashKey: aws.String("340282366920938463463374607431768211456")})
			return err
		}},
		"bad iterator": {"InvalidArgumentException", func() error {
			_, err := k.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: aws.String("AAAA")})
			return err
		}},
		"unknown shard": {"ResourceNotFoundException", func() error {
			_, err := k.GetShardIterator(ctx, &kinesis.GetShardIteratorInput{StreamName: s, ShardId: aws.String("shardId-000000000007"), ShardIteratorType: types.ShardIteratorTypeLatest})
			return err
		}},
		"sequence number of another shard": {"InvalidArgumentException", func() error {
			shards, _ := k.ListShards(ctx, &kinesis.ListShardsInput{StreamName: s})
			_, err := k.GetShardIterator(ctx, &kinesis.GetShardIteratorInput{StreamName: s, ShardId: shards.Shards[0].ShardId, ShardIteratorType: types.ShardIteratorTypeAtSequenceNumber, StartingSequenceNumber: shards.Shards[1].SequenceNumberRange.StartingSequenceNumber})
			return err
		}},
		"future timestamp": {"InvalidArgumentException", func() error {
			_, err := k.GetShardIterator(ctx, &kinesis.GetShardIteratorInput{StreamName: s, ShardId: aws.String("shardId-0"), ShardIteratorType: types.ShardIteratorTypeAtTimestamp, Timestamp: aws.Time(time.Now().Add(time.Hour))})
			return err
		}},
		"limit 0": {"ValidationException", func() error {
			_, err := k.ListStreams(ctx, &kinesis.ListStreamsInput{Limit: aws.Int32(0)})
			return err
		}},
		"retention too long": {"InvalidArgumentException", func() error {
			_, err := k.IncreaseStreamRetentionPeriod(ctx, &kinesis.IncreaseStreamRetentionPeriodInput{StreamName: s, RetentionPeriodHours: aws.Int32(9000)})
			return err
		}},
		"decrease up": {"InvalidArgumentException", func() error {
			_, err := k.DecreaseStreamRetentionPeriod(ctx, &kinesis.DecreaseStreamRetentionPeriodInput{StreamName: s, RetentionPeriodHours: aws.Int32(48)})
			return err
		}},
		"token and stream": {"InvalidArgumentException", func() error {
			_, err := k.ListShards(ctx, &kinesis.ListShardsInput{StreamName: s, NextToken: aws.String("x")})
			return err
		}},
		"not served": {"UnknownOperationException", func() error {
			_, err := k.DescribeLimits(ctx, &kinesis.DescribeLimitsInput{})
			return err
		}},
		"wrong secret": {"InvalidSignatureException", func() error {
			_, err := r.client(withKeys("test", "wrong")).ListStreams(ctx, &kinesis.ListStreamsInput{})
			return err
		}},
		"unknown key": {"UnrecognizedClientException", func() error {
			_, err := r.client(withKeys("nobody", "test")).ListStreams(ctx, &kinesis.ListStreamsInput{})
			return err
		}},
		"dry run": {"DryRunOperationException", func() error {
			_, err := k.PutRecords(ctx, &kinesis.PutRecordsInput{StreamName: s, Records: slicesOf(entry, 1), DryRun: aws.Bool(true)})
			return err
		}},
	} {
		t.Run(what, func(t *testing.T) { fails(t, c.want, c.call()) })
	}
}

func slicesOf(e types.PutRecordsRequestEntry, n int) []types.PutRecordsRequestEntry {
	out := make([]types.PutRecordsRequestEntry, n)
	for i := range out {
		out[i] = e
	}
	return out
}

func withKeys(access, secret string) func(*kinesis.Options) {
	return func(o *kinesis.Options) {
		o.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: access, SecretAccessKey: secret}, nil
		})
	}
}

func TestIteratorsExpire(t *testing.T) {
	r := newRig(t, nil)
	k := r.client()
	create(t, k, "s", 1)
	it := iteratorFor(t, k, kinesis.GetShardIteratorInput{StreamName: aws.String("s"), ShardId: aws.String("shardId-000000000000"), ShardIteratorType: types.ShardIteratorTypeTrimHorizon})
	r.clock.Advance(tokenLife)
	if _, err := k.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: it}); err != nil {
		t.Fatalf("at 300 s: %v", err)
	}
	r.clock.Advance(time.Millisecond)
	_, err := k.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: it})
	fails(t, "ExpiredIteratorException", err)
}

func TestPagingMissesNothing(t *testing.T) {
	r := newRig(t, nil)
	k := r.client()
	var want []string
	for i := range 7 {
		name := fmt.Sprint("stream-", i)
		want = append(want, name)
		create(t, k, name, 5)
	}
	var got []string
	for p := kinesis.NewListStreamsPaginator(k, &kinesis.ListStreamsInput{Limit: aws.Int32(3)}); p.HasMorePages(); {
		out, err := p.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, out.StreamNames...)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	var shards []string
	in := &kinesis.ListShardsInput{StreamName: &want[0], MaxResults: aws.Int32(2)}
	for in != nil {
		out, err := k.ListShards(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range out.Shards {
			shards = append(shards, *s.ShardId)
		}
		in = nil
		if out.NextToken != nil {
			in = &kinesis.ListShardsInput{NextToken: out.NextToken, MaxResults: aws.Int32(2)}
		}
	}
	if len(shards) != 5 {
		t.Errorf("listed shards %v", shards)
	}
	d, err := k.DescribeStream(t.Context(), &kinesis.DescribeStreamInput{StreamName: &want[0], Limit: aws.Int32(4)})
	if err != nil || !*d.StreamDescription.HasMoreShards || len(d.StreamDescription.Shards) != 4 {
		t.Errorf("describe: %+v, %v", d, err)
	}
}

func TestTagsAndRetention(t *testing.T) {
	r := newRig(t, nil)
	k := r.client()
	create(t, k, "s", 1)
	s := aws.String("s")
	if _, err := k.AddTagsToStream(t.Context(), &kinesis.AddTagsToStreamInput{StreamName: s, Tags: map[string]string{"a": "1", "b": "2", "c": "3"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := k.RemoveTagsFromStream(t.Context(), &kinesis.RemoveTagsFromStreamInput{StreamName: s, TagKeys: []string{"b"}}); err != nil {
		t.Fatal(err)
	}
	out, err := k.ListTagsForStream(t.Context(), &kinesis.ListTagsForStreamInput{StreamName: s, Limit: aws.Int32(1), ExclusiveStartTagKey: aws.String("a")})
	if err != nil || len(out.Tags) != 1 || *out.Tags[0].Key != "c" || *out.HasMoreTags {
		t.Fatalf("tags %+v, %v", out, err)
	}
	if _, err := k.IncreaseStreamRetentionPeriod(t.Context(), &kinesis.IncreaseStreamRetentionPeriodInput{StreamName: s, RetentionPeriodHours: aws.Int32(48)}); err != nil {
		t.Fatal(err)
	}
	arn := aws.String("arn:aws:kinesis:eu-central-1:000000000000:stream/s")
	d, err := k.DescribeStreamSummary(t.Context(), &kinesis.DescribeStreamSummaryInput{StreamARN: arn})
	if err != nil || *d.StreamDescriptionSummary.RetentionPeriodHours != 48 || *d.StreamDescriptionSummary.StreamARN != *arn {
		t.Fatalf("summary %+v, %v", d, err)
	}
	if _, err := k.DeleteStream(t.Context(), &kinesis.DeleteStreamInput{StreamName: s}); err != nil {
		t.Fatal(err)
	}
	_, err = k.DescribeStreamSummary(t.Context(), &kinesis.DescribeStreamSummaryInput{StreamName: s})
	fails(t, "ResourceNotFoundException", err)
}

func TestRateLimitsKeepTheOrderOfAShard(t *testing.T) {
	r := newRig(t, func(c *Config) { c.RateLimits = true })
	k := r.client()
	create(t, k, "s", 1)
	in := &kinesis.PutRecordsInput{StreamName: aws.String("s"), Records: slicesOf(types.PutRecordsRequestEntry{PartitionKey: aws.String("k"), Data: []byte("x")}, 500)}
	refused := 0
	for range 3 {
		out, err := k.PutRecords(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		for i, res := range out.Records {
			if res.ErrorCode != nil {
				refused++
				if *res.ErrorCode != "ProvisionedThroughputExceededException" {
					t.Fatalf("error code %s", *res.ErrorCode)
				}
			} else if i > 0 && out.Records[i-1].ErrorCode != nil {
				t.Fatal("a record was taken after one of its shard was refused")
			}
		}
	}
	if refused != 500 {
		t.Errorf("%d records refused, want 500: a shard takes 1000 a second", refused)
	}
	r.clock.Advance(time.Second)
	if out, err := k.PutRecords(t.Context(), in); err != nil || *out.FailedRecordCount != 0 {
		t.Errorf("after a second: %+v, %v", out, err)
	}
}

// Some SDKs speak HTTP/2 with prior knowledge in clear text.
func TestClearTextHTTP2(t *testing.T) {
	r := newRig(t, nil)
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(tr.CloseIdleConnections)
	var proto string
	k := r.client(func(o *kinesis.Options) {
		o.HTTPClient = roundTripper(func(req *http.Request) (*http.Response, error) {
			res, err := tr.RoundTrip(req)
			if err == nil {
				proto = res.Proto
			}
			return res, err
		})
	})
	create(t, k, "s", 1)
	if proto != "HTTP/2.0" {
		t.Errorf("spoke %s", proto)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) Do(r *http.Request) (*http.Response, error) { return f(r) }
