package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
)

// kinesisFlags say where the Kinesis API is and how to sign.
type kinesisFlags struct {
	Kinesis     string `name:"kinesis" env:"MILLRACE_KINESIS" default:"127.0.0.1:4567" placeholder:"HOST:PORT" help:"Address of the Kinesis API (${default})."`
	KinesisKeys string `name:"kinesis-keys" env:"MILLRACE_KINESIS_KEYS" type:"path" placeholder:"FILE" help:"File whose first line is the access key and secret to sign with (test and test)."`
	KinesisCA   string `name:"kinesis-ca" env:"MILLRACE_KINESIS_CA" type:"path" placeholder:"FILE" help:"Certificate authority of the Kinesis API, in PEM."`
}

func (f kinesisFlags) open() (*kinesis.Client, error) {
	access, secret := "test", "test"
	if f.KinesisKeys != "" {
		keys, first, err := readKeys(f.KinesisKeys)
		if err != nil {
			return nil, err
		}
		access, secret = first, keys[first]
	}
	endpoint := f.Kinesis
	if !strings.Contains(endpoint, "://") {
		scheme := "http://"
		if f.KinesisCA != "" {
			scheme = "https://"
		}
		endpoint = scheme + endpoint
	}
	client := &http.Client{}
	if f.KinesisCA != "" {
		pem, err := os.ReadFile(f.KinesisCA)
		if err != nil {
			return nil, fmt.Errorf("--kinesis-ca: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, usageError{fmt.Errorf("--kinesis-ca: %s holds no certificate in PEM form", f.KinesisCA)}
		}
		client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}
	}
	return kinesis.New(kinesis.Options{
		Region:           "us-east-1",
		BaseEndpoint:     aws.String(endpoint),
		Credentials:      credentials.NewStaticCredentialsProvider(access, secret, ""),
		HTTPClient:       plainBodies{client},
		RetryMaxAttempts: 3,
	}), nil
}

// plainBodies is an HTTP client that hides the WriteTo of request bodies. The
// SDK closes a body when the answer is there; net/http, which may still be
// looking for its end, then gets an error from the SDK's WriteTo, closes the
// connection under the answer, and the SDK sends the request again: records
// that were put would be put twice. Read gives it the end of the body, as it
// should.
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

// readKeys reads lines of "access secret" and also returns the first access
// key. Empty lines and lines that begin with # are passed over.
func readKeys(file string) (keys map[string]string, first string, err error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, "", fmt.Errorf("--kinesis-keys: %w", err)
	}
	keys = map[string]string{}
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if len(fields) != 2 {
			return nil, "", usageError{fmt.Errorf("--kinesis-keys: %s line %d: want an access key and a secret, separated by a space", file, n)}
		}
		if first == "" {
			first = fields[0]
		}
		keys[fields[0]] = fields[1]
	}
	if first == "" {
		return nil, "", usageError{fmt.Errorf("--kinesis-keys: %s holds no key", file)}
	}
	return keys, first, nil
}

// plain makes an AWS error readable: its name and its own words.
func plain(err error, what string) error {
	var api interface {
		ErrorCode() string
		ErrorMessage() string
	}
	var missing *types.ResourceNotFoundException
	var away *net.OpError
	switch {
	case errors.As(err, &missing) && strings.HasPrefix(what, "stream "):
		return fmt.Errorf("%s does not exist (millrace stream list; millrace stream create NAME)", what)
	case errors.As(err, &api):
		return fmt.Errorf("%s: %s: %s", what, api.ErrorCode(), api.ErrorMessage())
	case errors.As(err, &away) && away.Op == "dial":
		return fmt.Errorf("%s: no Kinesis API at %s (%w): is `millrace up` running? --kinesis HOST:PORT names another address", what, away.Addr, away.Err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

type streamCmd struct {
	Create   streamCreateCmd   `cmd:"" help:"Create a stream."`
	List     streamListCmd     `cmd:"" help:"List streams."`
	Describe streamDescribeCmd `cmd:"" help:"Show a stream and its shards."`
	Put      streamPutCmd      `cmd:"" help:"Send the lines of a file."`
	Tail     streamTailCmd     `cmd:"" help:"Print records."`
	Split    streamSplitCmd    `cmd:"" help:"Split a shard into two."`
	Merge    streamMergeCmd    `cmd:"" help:"Merge two neighbouring shards into one."`
	Delete   streamDeleteCmd   `cmd:"" help:"Delete a stream with its records."`
}

type streamCreateCmd struct {
	kinesisFlags
	Shards  int32         `default:"4" help:"Number of shards (${default})."`
	Timeout time.Duration `default:"1m" help:"How long to wait until it can be written (${default})."`
	Name    string        `arg:""`
}

func (*streamCreateCmd) Help() string {
	return `Examples:
  millrace stream create flights --shards 4`
}

func (s *streamCreateCmd) Run(ctx context.Context, c *console) error {
	k, err := s.open()
	if err != nil {
		return err
	}
	if _, err := k.CreateStream(ctx, &kinesis.CreateStreamInput{StreamName: &s.Name, ShardCount: &s.Shards}); err != nil {
		return plain(err, "create stream "+s.Name)
	}
	if err = awaitActive(ctx, k, s.Name, s.Timeout, "creating stream "+s.Name); err == nil {
		fmt.Fprintf(c.out, "stream %s: ACTIVE, %d shards\n", s.Name, s.Shards)
	}
	return err
}

// awaitActive waits until no change of a stream is under way.
func awaitActive(ctx context.Context, k *kinesis.Client, name string, timeout time.Duration, what string) error {
	return poll(ctx, timeout, what, func() (bool, error) {
		d, err := k.DescribeStreamSummary(ctx, &kinesis.DescribeStreamSummaryInput{StreamName: &name})
		if err != nil {
			return false, plain(err, "stream "+name)
		}
		return d.StreamDescriptionSummary.StreamStatus == types.StreamStatusActive, nil
	})
}

type streamListCmd struct {
	kinesisFlags
	output
}

func (s *streamListCmd) Run(ctx context.Context, c *console) error {
	k, err := s.open()
	if err != nil {
		return err
	}
	var all []types.StreamSummary
	for pages := kinesis.NewListStreamsPaginator(k, &kinesis.ListStreamsInput{}); pages.HasMorePages(); {
		p, err := pages.NextPage(ctx)
		if err != nil {
			return plain(err, "list streams")
		}
		all = append(all, p.StreamSummaries...)
	}
	if s.json() {
		return c.json(all)
	}
	var rows [][]string
	for _, x := range all {
		rows = append(rows, []string{*x.StreamName, string(x.StreamStatus), ago(x.StreamCreationTimestamp.UnixMilli())})
	}
	c.table("STREAM STATUS CREATED(UTC)", rows)
	return nil
}

type streamDescribeCmd struct {
	kinesisFlags
	output
	Name string `arg:""`
}

func (s *streamDescribeCmd) Run(ctx context.Context, c *console) error {
	k, err := s.open()
	if err != nil {
		return err
	}
	d, err := k.DescribeStreamSummary(ctx, &kinesis.DescribeStreamSummaryInput{StreamName: &s.Name})
	if err != nil {
		return plain(err, "stream "+s.Name)
	}
	shards, err := listShards(ctx, k, s.Name)
	if err != nil {
		return err
	}
	if s.json() {
		return c.json(map[string]any{"StreamDescriptionSummary": d.StreamDescriptionSummary, "Shards": shards})
	}
	sum := d.StreamDescriptionSummary
	fmt.Fprintf(c.out, "%s  %s  retention %d h\n%s\n\n", *sum.StreamName, sum.StreamStatus, *sum.RetentionPeriodHours, *sum.StreamARN)
	var rows [][]string
	for _, x := range shards {
		state := "open"
		if x.SequenceNumberRange.EndingSequenceNumber != nil {
			state = "closed"
		}
		var parents []string
		for _, p := range []*string{x.ParentShardId, x.AdjacentParentShardId} {
			if p != nil {
				parents = append(parents, *p)
			}
		}
		rows = append(rows, []string{*x.ShardId, state, *x.HashKeyRange.StartingHashKey, *x.HashKeyRange.EndingHashKey, cmp.Or(strings.Join(parents, " "), "-")})
	}
	c.table("SHARD STATE FIRST-HASH LAST-HASH PARENTS", rows)
	return nil
}

func listShards(ctx context.Context, k *kinesis.Client, name string) ([]types.Shard, error) {
	var all []types.Shard
	in := &kinesis.ListShardsInput{StreamName: &name}
	for {
		out, err := k.ListShards(ctx, in)
		if err != nil {
			return nil, plain(err, "stream "+name)
		}
		all = append(all, out.Shards...)
		if out.NextToken == nil {
			return all, nil
		}
		in = &kinesis.ListShardsInput{NextToken: out.NextToken}
	}
}

type streamDeleteCmd struct {
	kinesisFlags
	Name string `arg:""`
}

func (s *streamDeleteCmd) Run(ctx context.Context, c *console) error {
	k, err := s.open()
	if err != nil {
		return err
	}
	_, err = k.DeleteStream(ctx, &kinesis.DeleteStreamInput{StreamName: &s.Name})
	if err != nil {
		return plain(err, "stream "+s.Name)
	}
	return nil
}
