package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/millrace/millrace/bench/rig"
)

// bound is the job's default out-of-orderness.
const bound = time.Hour

// flight is a line of the input.
type flight struct {
	line      string
	origin    string
	scheduled time.Time
}

func readFlights(file string) ([]flight, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []flight
	lines := bufio.NewScanner(f)
	lines.Scan() // the header
	for lines.Scan() {
		fields := strings.Split(lines.Text(), ",")
		at, err := time.Parse(time.RFC3339, fields[0])
		if err != nil || len(fields) < 2 {
			return nil, fmt.Errorf("%s: no flight: %q", file, lines.Text())
		}
		all = append(all, flight{lines.Text(), fields[1], at})
	}
	return all, lines.Err()
}

// openKinesis returns the AWS SDK's client. It does not try again: a retry's
// pause would be measured as the system's.
func openKinesis(endpoint string) *kinesis.Client {
	return kinesis.New(kinesis.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(endpoint), HTTPClient: plainBodies{}, Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""),
	})
}

// plainBodies is an HTTP client that hides the WriteTo of the SDK's request
// bodies: it fails once the answer is there, and net/http, still looking for
// the end of the body, then closes the connection under the answer.
type plainBodies struct{}

// Do implements the SDK's HTTPClient.
func (plainBodies) Do(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		r.Body = struct {
			io.Reader
			io.Closer
		}{r.Body, r.Body}
	}
	return http.DefaultClient.Do(r)
}

// create makes a stream and waits until it is there.
func create(ctx context.Context, k *kinesis.Client, stream string, shards int32) error {
	if _, err := k.CreateStream(ctx, &kinesis.CreateStreamInput{StreamName: &stream, ShardCount: &shards}); err != nil {
		return err
	}
	for {
		out, err := k.DescribeStreamSummary(ctx, &kinesis.DescribeStreamSummaryInput{StreamName: &stream})
		if err != nil || out.StreamDescriptionSummary.StreamStatus == types.StreamStatusActive {
			return err
		}
		if err := rig.Pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
}

// repeated returns n flights: the input again and again, each time later by as
// many days as it covers.
func repeated(flights []flight, n int) []flight {
	days := 0
	for _, f := range flights {
		days = max(days, 1+int(f.scheduled.Sub(flights[0].scheduled)/(24*time.Hour)))
	}
	all := make([]flight, 0, n)
	for i := range n {
		f := flights[i%len(flights)]
		f.scheduled = f.scheduled.AddDate(0, 0, i/len(flights)*days)
		_, rest, _ := strings.Cut(f.line, ",")
		f.line = f.scheduled.Format(time.RFC3339) + "," + rest
		all = append(all, f)
	}
	return all
}

// put sends flights in order, in one call of up to 500 after the other.
func put(ctx context.Context, k *kinesis.Client, stream string, flights []flight) error {
	for len(flights) > 0 {
		n := min(500, len(flights))
		var entries []types.PutRecordsRequestEntry
		for _, f := range flights[:n] {
			entries = append(entries, types.PutRecordsRequestEntry{Data: []byte(f.line), PartitionKey: &f.origin})
		}
		out, err := k.PutRecords(ctx, &kinesis.PutRecordsInput{StreamName: &stream, Records: entries})
		if err != nil {
			return err
		}
		if aws.ToInt32(out.FailedRecordCount) > 0 {
			return fmt.Errorf("%d records were refused", *out.FailedRecordCount)
		}
		flights = flights[n:]
	}
	return nil
}

// reader takes a stream, which may not exist yet, from its first record on.
type reader struct {
	client    *kinesis.Client
	stream    string
	iterators []*string // a shard each; nil until the stream exists
}

// until polls all shards until match says so of a record, and returns when it
// came.
func (r *reader) until(ctx context.Context, match func(data []byte) bool) (time.Time, error) {
	for {
		if r.iterators == nil {
			if err := r.open(ctx); err != nil {
				return time.Time{}, fmt.Errorf("open stream %s: %w", r.stream, err)
			}
		}
		for i, it := range r.iterators {
			out, err := r.client.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: it})
			if err != nil {
				return time.Time{}, fmt.Errorf("read stream %s: %w", r.stream, err)
			}
			now := time.Now()
			r.iterators[i] = out.NextShardIterator
			for _, rec := range out.Records {
				if match(rec.Data) {
					return now, nil
				}
			}
		}
		if err := rig.Pause(ctx, 5*time.Millisecond); err != nil {
			return time.Time{}, fmt.Errorf("wait for a record of stream %s: %w", r.stream, err)
		}
	}
}

// open finds the shards of the stream, if it exists.
func (r *reader) open(ctx context.Context) error {
	var missing *types.ResourceNotFoundException
	var making *types.ResourceInUseException
	gone := func(err error) bool { return errors.As(err, &missing) || errors.As(err, &making) }
	out, err := r.client.ListShards(ctx, &kinesis.ListShardsInput{StreamName: &r.stream})
	if gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	var iterators []*string
	for _, s := range out.Shards {
		it, err := r.client.GetShardIterator(ctx, &kinesis.GetShardIteratorInput{
			StreamName: &r.stream, ShardId: s.ShardId, ShardIteratorType: types.ShardIteratorTypeTrimHorizon,
		})
		if gone(err) {
			return nil
		}
		if err != nil {
			return err
		}
		iterators = append(iterators, it.ShardIterator)
	}
	r.iterators = iterators
	return nil
}

// newAfter says whether a result's day had not ended when no flight scheduled
// after sent was known, so that the result was computed later.
func newAfter(result []byte, sent time.Time) bool {
	var r struct{ Day string }
	if json.Unmarshal(result, &r) != nil {
		return false
	}
	day, err := time.Parse(time.DateOnly, r.Day)
	return err == nil && day.AddDate(0, 0, 1).After(sent.Add(-bound))
}
