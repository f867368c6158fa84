package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
)

// openKinesis returns the AWS SDK's own client.
func openKinesis(endpoint string) *kinesis.Client {
	return kinesis.New(kinesis.Options{
		Region:       "us-east-1",
		BaseEndpoint: aws.String(endpoint),
		Credentials:  credentials.NewStaticCredentialsProvider("test", "test", ""),
		HTTPClient:   plainBodies{&http.Client{}},
	})
}

// plainBodies is an HTTP client that hides the WriteTo of request bodies. The
// SDK closes a body when the answer is there; net/http, which may still be
// looking for its end, then gets an error from the SDK's WriteTo, closes the
// connection under the answer, and the SDK waits up to a second and sends the
// request again. Read gives it the end of the body, as it should.
type plainBodies struct{ *http.Client }

// Do implements the SDK's HTTPClient.
func (c plainBodies) Do(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		r.Body = struct {
			io.Reader
			io.Closer
		}{r.Body, r.Body}
	}
	return c.Client.Do(r)
}

// tail reads a stream from its first record on, which may not exist yet.
type tail struct {
	client    *kinesis.Client
	stream    string
	take      func(data []byte)
	iterators []*string // a shard each; nil until the stream exists
	records   int
}

// read takes what has come since the last call, and says whether there was
// anything: false is the end of every shard, for now.
func (t *tail) read(ctx context.Context) (any bool, err error) {
	if t.iterators == nil {
		if err := t.open(ctx); err != nil {
			return false, err
		}
	}
	for i, it := range t.iterators {
		out, err := t.client.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: it})
		if err != nil {
			return false, fmt.Errorf("read stream %s: %w", t.stream, err)
		}
		for _, r := range out.Records {
			t.take(r.Data)
		}
		t.records += len(out.Records)
		t.iterators[i] = out.NextShardIterator
		any = any || len(out.Records) > 0 || aws.ToInt64(out.MillisBehindLatest) > 0
	}
	return any, nil
}

// open finds the shards of the stream, if it exists.
func (t *tail) open(ctx context.Context) error {
	out, err := t.client.ListShards(ctx, &kinesis.ListShardsInput{StreamName: &t.stream})
	var missing *types.ResourceNotFoundException
	var making *types.ResourceInUseException
	switch {
	case errors.As(err, &missing), errors.As(err, &making):
		return nil
	case err != nil:
		return fmt.Errorf("list shards of stream %s: %w", t.stream, err)
	}
	var iterators []*string
	for _, s := range out.Shards {
		it, err := t.client.GetShardIterator(ctx, &kinesis.GetShardIteratorInput{
			StreamName: &t.stream, ShardId: s.ShardId, ShardIteratorType: types.ShardIteratorTypeTrimHorizon,
		})
		switch {
		case errors.As(err, &missing), errors.As(err, &making):
			return nil
		case err != nil:
			return fmt.Errorf("open shard %s of stream %s: %w", *s.ShardId, t.stream, err)
		}
		iterators = append(iterators, it.ShardIterator)
	}
	t.iterators = iterators
	return nil
}
