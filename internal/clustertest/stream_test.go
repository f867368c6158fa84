//go:build linux

package clustertest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
)

// endpoint is the Kinesis API of whichever task manager answers now; it changes
// when one is restarted on another port.
type endpoint struct {
	client atomic.Pointer[kinesis.Client]
}

func (e *endpoint) set(url string) {
	e.client.Store(kinesis.New(kinesis.Options{
		Region:       "us-east-1",
		BaseEndpoint: aws.String(url),
		Credentials:  credentials.NewStaticCredentialsProvider("test", "test", ""),
		HTTPClient:   plainBodies{web},
		Retryer:      aws.NopRetryer{}, // a retry would hide what became of the first try
	}))
}

// plainBodies hides the WriteTo of the SDK's request bodies: it fails once the
// SDK has closed them, at which net/http, where it still looks for the end of
// the body, closes the connection under the answer.
type plainBodies struct{ *http.Client }

func (c plainBodies) Do(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		r.Body = struct {
			io.Reader
			io.Closer
		}{r.Body, r.Body}
	}
	return c.Client.Do(r)
}

func (e *endpoint) get() *kinesis.Client { return e.client.Load() }

// contents reads a stream and holds what it read against what it read before:
// a record never vanishes, changes or comes twice, and sequence numbers rise.
type contents struct {
	at     *endpoint
	stream string
	shards map[string][]record
	seen   bool // the stream has been there
}

type record struct{ sequence, data string }

func contentsOf(at *endpoint, stream string) *contents {
	return &contents{at: at, stream: stream, shards: map[string][]record{}}
}

// broken is an observation that no reader may ever make, unlike an endpoint
// that is away for a while.
type broken struct{ error }

func brokenf(format string, args ...any) error { return broken{fmt.Errorf(format, args...)} }

// more reads what has come since; again reads all shards from their first
// record and compares.
func (c *contents) more(ctx context.Context) error  { return c.read(ctx, false) }
func (c *contents) again(ctx context.Context) error { return c.read(ctx, true) }

func (c *contents) read(ctx context.Context, whole bool) error {
	client := c.at.get()
	list, err := client.ListShards(ctx, &kinesis.ListShardsInput{StreamName: &c.stream})
	if err != nil {
		var missing *types.ResourceNotFoundException
		if c.seen && errors.As(err, &missing) {
			return brokenf("stream %s has vanished: %w", c.stream, err)
		}
		return fmt.Errorf("list shards of %s: %w", c.stream, err)
	}
	c.seen = true
	for id := range c.shards {
		if !slices.ContainsFunc(list.Shards, func(s types.Shard) bool { return *s.ShardId == id }) {
			return brokenf("%s/%s has vanished", c.stream, id)
		}
	}
	for _, s := range list.Shards {
		if err := c.readShard(ctx, client, *s.ShardId, whole); err != nil {
			return fmt.Errorf("%s/%s: %w", c.stream, *s.ShardId, err)
		}
	}
	return nil
}

func (c *contents) readShard(ctx context.Context, client *kinesis.Client, id string, whole bool) error {
	known := c.shards[id]
	from := &kinesis.GetShardIteratorInput{StreamName: &c.stream, ShardId: &id, ShardIteratorType: types.ShardIteratorTypeTrimHorizon}
	at := 0
	if !whole && len(known) > 0 {
		at = len(known)
		from.ShardIteratorType = types.ShardIteratorTypeAfterSequenceNumber
		from.StartingSequenceNumber = &known[at-1].sequence
	}
	it, err := client.GetShardIterator(ctx, from)
	if err != nil {
		return err
	}
	for next := it.ShardIterator; next != nil; {
		out, err := client.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: next})
		if err != nil {
			return err
		}
		for _, r := range out.Records {
			got := record{*r.SequenceNumber, string(r.Data)}
			if at < len(known) {
				if got != known[at] {
					return brokenf("record %d was %v and is %v now", at, known[at], got)
				}
			} else {
				if at > 0 && !less(known[at-1].sequence, got.sequence) {
					return brokenf("sequence number %s of record %d after %s", got.sequence, at, known[at-1].sequence)
				}
				known = append(known, got)
			}
			at++
		}
		c.shards[id] = known
		if len(out.Records) == 0 && (out.MillisBehindLatest == nil || *out.MillisBehindLatest == 0) {
			break
		}
		next = out.NextShardIterator
	}
	if at < len(known) {
		return brokenf("%d records of %d were read again: the rest has vanished, first %v", at, len(known), known[at])
	}
	return nil
}

// less compares sequence numbers, which are decimal numbers of any length.
func less(a, b string) bool {
	x, okx := new(big.Int).SetString(a, 10)
	y, oky := new(big.Int).SetString(b, 10)
	return okx && oky && x.Cmp(y) < 0
}

// sorted are the records of all shards, sorted, a line each.
func (c *contents) sorted() string {
	var all []string
	for _, s := range c.shards {
		for _, r := range s {
			all = append(all, r.data+"\n")
		}
	}
	slices.Sort(all)
	return strings.Join(all, "")
}

func (c *contents) len() int {
	n := 0
	for _, s := range c.shards {
		n += len(s)
	}
	return n
}

// readAll reads a stream that nobody writes to any more.
func readAll(t *testing.T, at *endpoint, stream string) *contents {
	t.Helper()
	c := contentsOf(at, stream)
	if err := c.again(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

// feeder puts lines into a stream, each exactly once whatever ends on the way:
// after an answer that leaves open what was stored, it reads the stream.
type feeder struct {
	at     *endpoint
	stream *contents
	key    func(line string) string
}

// feedBatch is how many lines go in one call: few, so that results come all the
// while and not in one go.
const feedBatch = 50

// newFeeder feeds flights to a stream.
func newFeeder(at *endpoint, stream string) *feeder {
	return &feeder{at: at, stream: contentsOf(at, stream), key: origin}
}

// put returns when every line is stored. Lines of one shard keep their order
// but for those that were refused.
func (f *feeder) put(ctx context.Context, lines []string) error {
	for piece := range slices.Chunk(lines, feedBatch) {
		left := piece
		for len(left) > 0 {
			open, err := f.try(ctx, left)
			if err != nil {
				return err
			}
			left = open
		}
	}
	return nil
}

// try puts lines once and returns those that are not stored.
func (f *feeder) try(ctx context.Context, lines []string) ([]string, error) {
	in := &kinesis.PutRecordsInput{StreamName: &f.stream.stream}
	for _, l := range lines {
		in.Records = append(in.Records, types.PutRecordsRequestEntry{Data: []byte(l), PartitionKey: aws.String(f.key(l))})
	}
	out, err := f.at.get().PutRecords(ctx, in)
	if err == nil && *out.FailedRecordCount == 0 {
		return nil, nil
	}
	for ctx.Err() == nil {
		err := f.stream.more(ctx)
		if err == nil {
			return f.missing(lines), nil
		}
		if _, ok := errors.AsType[broken](err); ok {
			return nil, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil, fmt.Errorf("put to %s: %w", f.stream.stream, context.Cause(ctx))
}

func (f *feeder) missing(lines []string) []string {
	stored := map[string]bool{}
	for _, s := range f.stream.shards {
		for _, r := range s {
			stored[r.data] = true
		}
	}
	var left []string
	for _, l := range lines {
		if !stored[l] {
			left = append(left, l)
		}
	}
	return left
}

// watcher reads a stream again and again until it is told to end, and keeps
// the first observation that may never be made.
type watcher struct {
	contents *contents
	cancel   context.CancelFunc
	done     chan struct{}
	results  atomic.Int64
	passes   int   // whole readings, after done
	err      error // after done
}

func watch(t *testing.T, at *endpoint, stream string) *watcher {
	ctx, cancel := context.WithCancel(t.Context())
	w := &watcher{contents: contentsOf(at, stream), cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		for n := 0; ctx.Err() == nil; n++ {
			err := w.contents.read(ctx, n%5 == 4)
			if _, ok := errors.AsType[broken](err); ok {
				w.err = err
				return
			}
			w.results.Store(int64(w.contents.len()))
			if err == nil && n%5 == 4 {
				w.passes++
			}
			select {
			case <-ctx.Done():
			case <-time.After(30 * time.Millisecond):
			}
		}
	}()
	t.Cleanup(func() { w.end() })
	return w
}

// end stops reading and returns what was wrong.
func (w *watcher) end() error {
	w.cancel()
	<-w.done
	return w.err
}
