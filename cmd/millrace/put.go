package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
)

type streamPutCmd struct {
	kinesisFlags
	File   string        `short:"f" required:"" placeholder:"FILE" help:"What to send, a record a line; - is stdin."`
	Key    string        `short:"k" placeholder:"NAME" help:"Column (csv) or member (json) that is the partition key; without it each record has a random one."`
	Format string        `enum:"auto,csv,json,lines" default:"auto" help:"csv (with a header line, which is not sent), json (an object a line), lines; auto goes by the file's name."`
	Rate   int           `placeholder:"N" help:"Records a second at the most."`
	Retry  time.Duration `default:"30s" help:"How long to send refused records again (${default})."`
	Name   string        `arg:"" help:"The stream."`
}

func (*streamPutCmd) Help() string {
	return `Each line is sent as it is, in order per shard. A call whose answer is lost is sent again, so when the server dies on
the way some records may be in the stream twice.

Examples:
  millrace stream put flights --file examples/flights/flights.csv --key origin
  tail -f app.log | millrace stream put logs --file - --format lines`
}

func (s *streamPutCmd) Run(ctx context.Context, c *console) error {
	k, err := s.open()
	if err != nil {
		return err
	}
	in := io.Reader(os.Stdin)
	if s.File != "-" {
		f, err := os.Open(s.File)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	lines, err := newLines(in, s.format(), s.Key)
	if err != nil {
		return fmt.Errorf("%s: %w", s.File, err)
	}
	p := &putter{client: k, stream: s.Name, rate: s.Rate, retry: s.Retry, began: time.Now()}
	show := c.progress()
	defer show.done()
	for {
		rec, err := lines.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("%s line %d: %w (%d records were sent)", s.File, lines.line, err, p.sent)
		}
		if err := p.add(ctx, rec); err != nil {
			return err
		}
		show.say("%d records sent", p.sent)
	}
	if err := p.flush(ctx); err != nil {
		return err
	}
	show.done()
	fmt.Fprintf(c.out, "%d records sent to %s in %v\n", p.sent, s.Name, time.Since(p.began).Round(time.Millisecond))
	return nil
}

func (s *streamPutCmd) format() string {
	if s.Format != "auto" {
		return s.Format
	}
	switch strings.ToLower(filepath.Ext(s.File)) {
	case ".csv":
		return "csv"
	case ".json", ".jsonl", ".ndjson":
		return "json"
	}
	return "lines"
}

// lines turns the lines of a file into records.
type lines struct {
	scan   *bufio.Scanner
	format string
	key    string
	column int
	line   int
}

func newLines(r io.Reader, format, key string) (*lines, error) {
	l := &lines{scan: bufio.NewScanner(r), format: format, key: key, column: -1}
	l.scan.Buffer(make([]byte, 64<<10), 2<<20)
	if format == "lines" && key != "" {
		return nil, usageError{errors.New("--key goes with csv and json: plain lines have no columns")}
	}
	if format != "csv" {
		return l, nil
	}
	if !l.scan.Scan() {
		return nil, errors.Join(errors.New("no header line"), l.scan.Err())
	}
	l.line++
	header, err := csv.NewReader(strings.NewReader(l.scan.Text())).Read()
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	if key != "" {
		if l.column = slices.Index(header, key); l.column < 0 {
			return nil, usageError{fmt.Errorf("no column %q: the header has %s", key, strings.Join(header, ", "))}
		}
	}
	return l, nil
}

func (l *lines) next() (types.PutRecordsRequestEntry, error) {
	var e types.PutRecordsRequestEntry
	for l.scan.Scan() {
		l.line++
		if len(l.scan.Bytes()) == 0 {
			continue
		}
		e.Data = slices.Clone(l.scan.Bytes())
		key, err := l.keyOf(l.scan.Text())
		e.PartitionKey = &key
		return e, err
	}
	if err := l.scan.Err(); err != nil {
		l.line++
		return e, err
	}
	return e, io.EOF
}

// keyOf finds a record's partition key.
func (l *lines) keyOf(text string) (string, error) {
	switch {
	case l.key == "":
		var b [8]byte
		rand.Read(b[:])
		return hex.EncodeToString(b[:]), nil
	case l.format == "csv":
		fields, err := csv.NewReader(strings.NewReader(text)).Read()
		if err != nil {
			return "", err
		}
		if l.column >= len(fields) || fields[l.column] == "" {
			return "", fmt.Errorf("no value in column %q", l.key)
		}
		return fields[l.column], nil
	}
	var object map[string]any
	if err := json.Unmarshal([]byte(text), &object); err != nil {
		return "", err
	}
	switch v := object[l.key].(type) {
	case nil:
		return "", fmt.Errorf("no member %q", l.key)
	case string:
		return v, nil
	default:
		return fmt.Sprint(v), nil
	}
}

// putter sends records in calls of up to 500, one at a time, so that the order
// per shard is that of the input. The server refuses all later records of a
// shard in a call once it has refused one, so sending the refused ones again,
// before any others, keeps it.
type putter struct {
	client  *kinesis.Client
	stream  string
	rate    int
	retry   time.Duration
	began   time.Time
	pending []types.PutRecordsRequestEntry
	bytes   int
	sent    int
}

const (
	maxCallRecords = 500
	maxCallBytes   = 4 << 20
)

func (p *putter) add(ctx context.Context, e types.PutRecordsRequestEntry) error {
	p.pending = append(p.pending, e)
	p.bytes += len(e.Data) + len(*e.PartitionKey)
	full := maxCallRecords
	if p.rate > 0 {
		full = max(1, min(full, p.rate/10))
	}
	if len(p.pending) < full && p.bytes < maxCallBytes {
		return nil
	}
	return p.flush(ctx)
}

func (p *putter) flush(ctx context.Context) error {
	if err := p.pace(ctx); err != nil {
		return err
	}
	deadline := time.Now().Add(p.retry)
	for wait := 10 * time.Millisecond; len(p.pending) > 0; wait = min(2*wait, time.Second) {
		out, err := p.client.PutRecords(ctx, &kinesis.PutRecordsInput{StreamName: &p.stream, Records: p.pending})
		if err != nil {
			return plain(err, "stream "+p.stream)
		}
		var refused []types.PutRecordsRequestEntry
		var why string
		for i, r := range out.Records {
			if r.ErrorCode != nil {
				refused = append(refused, p.pending[i])
				why = fmt.Sprintf("%s: %s", *r.ErrorCode, *r.ErrorMessage)
			}
		}
		p.sent += len(p.pending) - len(refused)
		p.pending = refused
		if len(refused) == 0 {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d records refused for %v, last with %s (%d were sent): %w", len(refused), p.retry, why, p.sent, errTimeout)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
	p.bytes = 0
	return nil
}

// pace waits until the rate allows what is pending.
func (p *putter) pace(ctx context.Context) error {
	if p.rate <= 0 {
		return nil
	}
	due := p.began.Add(time.Duration(p.sent) * time.Second / time.Duration(p.rate))
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Until(due)):
		return nil
	}
}
