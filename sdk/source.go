package sdk

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/source"
)

// What a connector is made of. A Source is a set of splits, each read in order
// by one reader; the runtime spreads splits over subtasks, keeps a watermark
// for each, and puts each one's position into every checkpoint, so that after
// a failure reading goes on exactly where the checkpoint was.
//
// A Source may also have these methods: Name() string, its name in the job
// graph; Check() error, asked in plan mode; Timed() bool, whether its records
// come with event times.
type (
	Source[T any] = source.Source[T]
	// SourceEnv is what a source may use of its surroundings.
	SourceEnv = source.Env
	// Split is a part of a source that is read independently.
	Split = source.Split
	// Reader reads one split.
	Reader[T any] = source.Reader[T]
	// ReadStatus is what Reader.Poll answers.
	ReadStatus = source.Status
	// Tipper is a Source that can be drained: it knows where its splits end.
	Tipper = source.Tipper
	// Batch is a run of records: values and their event times.
	Batch[T any] = batch.Batch[T]
)

// Answers of Reader.Poll.
const (
	// ReadMore: there may be more at once.
	ReadMore = source.More
	// ReadEmpty: caught up; the reader calls Wake when there is more.
	ReadEmpty = source.Empty
	// ReadWaiting: there is more, but not here yet; the reader calls Wake.
	ReadWaiting = source.Waiting
	// ReadEnded: there will never be more.
	ReadEnded = source.Ended
	// ReadFollowed: there will never be more, but other splits follow: Splits lists
	// all of them at once, with this one among their Parents.
	ReadFollowed = source.Followed
)

// NoTime is the event time of a record that has none.
const NoTime = batch.NoTime

// Record is a record as it lies in its source, not yet decoded.
type Record struct {
	// Key is the partition key, empty in sources that have none.
	Key  string `json:"key,omitempty"`
	Data []byte `json:"data"`
	// Where names the place in the source for people: a file and a line's
	// offset, a shard and a sequence number. Only dead letters and the codec
	// Records carry it.
	Where string `json:"where,omitempty"`
}

// RecordReader reads a split's records undecoded; see Decoding.
type RecordReader interface {
	Reader[Record]
	// Where names the place of record i of those that the last Poll added.
	Where(i int) string
}

// RecordSource is a source of undecoded records: Open returns RecordReaders,
// whose data need not outlive the next Poll.
type RecordSource interface {
	Source[Record]
}

// recordDecoder is a codec that wants more than the data.
type recordDecoder[T any] interface {
	DecodeRecord(r Record) (T, error)
}

// splitCodec lets a source give each split a codec of its own (a file's
// header line names its columns).
type splitCodec interface {
	SplitHeader(ctx context.Context, s Split) (header []byte, err error)
}

// headed is a codec that can learn from a header.
type headed[T any] interface {
	WithHeader(line []byte) (Codec[T], error)
}

// Decoding makes a source of T from one of undecoded records. Connectors use
// it so that From can offer every policy for records that do not decode.
func Decoding[T any](raw RecordSource, codec Codec[T]) Source[T] {
	d := &decoding[T]{raw: raw, codec: codec}
	if t, ok := raw.(Tipper); ok {
		return &drainable[T]{decoding: d, Tipper: t}
	}
	return d
}

type decoding[T any] struct {
	raw   RecordSource
	codec Codec[T]
}

// drainable is a decoding source whose raw source has a tip.
type drainable[T any] struct {
	*decoding[T]
	Tipper
}

func (d *decoding[T]) Name() string { return nameOf(d.raw) }

// Timed passes on whether records come with event times.
func (d *decoding[T]) Timed() bool { return hasTimes(d.raw) }

func (d *decoding[T]) Check() error {
	if err := check(d.raw); err != nil {
		return err
	}
	return check(d.codec)
}

func (d *decoding[T]) Splits(ctx context.Context, env SourceEnv, known []Split) ([]Split, error) {
	return d.raw.Splits(ctx, env, known)
}

func (d *decoding[T]) Bounded() bool { return d.raw.Bounded() }

func (d *decoding[T]) Open(ctx context.Context, env SourceEnv, split Split, position []byte) (Reader[T], error) {
	decode, err := d.decoder(ctx, split)
	if err != nil {
		return nil, err
	}
	return openDecoding(ctx, d.raw, env, split, position, func(r Record, at func() string) (T, error) {
		v, err := decode(r, at)
		if err != nil {
			return v, &undecodable{at(), err}
		}
		return v, nil
	})
}

// undecodable is a record that does not decode, and where it is.
type undecodable struct {
	at  string
	err error
}

func (e *undecodable) Error() string {
	return fmt.Sprintf("decode %s: %v (From takes SkipUndecodable or DeadLetters to let the job go on)", e.at, e.err)
}

func (e *undecodable) Unwrap() error { return e.err }

// ErrorCode is the failure's code in the catalogue. A restart would read the
// same bytes again, so that it ends the job.
func (*undecodable) ErrorCode() string { return "record-not-decoded" }

// lenient is the same source, with failures as values.
func (d *decoding[T]) lenient() Source[decoded[T]] {
	l := &lenientSource[T]{d}
	if t, ok := d.raw.(Tipper); ok {
		return &drainableLenient[T]{lenientSource: l, Tipper: t}
	}
	return l
}

// decoder chooses how this split's records are decoded.
func (d *decoding[T]) decoder(ctx context.Context, split Split) (func(Record, func() string) (T, error), error) {
	codec := d.codec
	if s, ok := d.raw.(splitCodec); ok {
		header, err := s.SplitHeader(ctx, split)
		if err != nil {
			return nil, err
		}
		if h, ok := codec.(headed[T]); ok && header != nil {
			if codec, err = h.WithHeader(header); err != nil {
				return nil, fmt.Errorf("header of %s: %w", split.ID, err)
			}
		}
	}
	if r, ok := codec.(recordDecoder[T]); ok {
		return func(rec Record, at func() string) (T, error) {
			rec.Where = at()
			return r.DecodeRecord(rec)
		}, nil
	}
	return func(rec Record, _ func() string) (T, error) { return codec.Decode(rec.Data) }, nil
}

// decoded is a record, or what did not decode. It never leaves the chain of
// its source.
type decoded[T any] struct {
	Value T
	Bad   bool
	Raw   Record
}

type lenientSource[T any] struct{ d *decoding[T] }

type drainableLenient[T any] struct {
	*lenientSource[T]
	Tipper
}

func (l *lenientSource[T]) Splits(ctx context.Context, env SourceEnv, known []Split) ([]Split, error) {
	return l.d.Splits(ctx, env, known)
}

func (l *lenientSource[T]) Bounded() bool { return l.d.Bounded() }

func (l *lenientSource[T]) Open(ctx context.Context, env SourceEnv, split Split, position []byte) (Reader[decoded[T]], error) {
	decode, err := l.d.decoder(ctx, split)
	if err != nil {
		return nil, err
	}
	return openDecoding(ctx, l.d.raw, env, split, position, func(r Record, at func() string) (decoded[T], error) {
		v, err := decode(r, at)
		if err != nil {
			r.Data, r.Key, r.Where = bytes.Clone(r.Data), strings.Clone(r.Key), at()
			return decoded[T]{Bad: true, Raw: r}, nil
		}
		return decoded[T]{Value: v}, nil
	})
}

func openDecoding[E any](ctx context.Context, raw RecordSource, env SourceEnv, split Split, position []byte, decode func(Record, func() string) (E, error)) (Reader[E], error) {
	r, err := raw.Open(ctx, env, split, position)
	if err != nil {
		return nil, err
	}
	rr, ok := r.(RecordReader)
	if !ok {
		return nil, fmt.Errorf("%T is no RecordReader: it lacks Where(int) string", r)
	}
	d := &decodingReader[E]{RecordReader: rr, decode: decode}
	d.at = func() string { return d.Where(d.i) }
	return d, nil
}

// decodingReader decodes what its raw reader polls, record by record; position,
// end and lag are the raw reader's.
type decodingReader[E any] struct {
	RecordReader
	decode func(Record, func() string) (E, error)
	at     func() string
	raw    Batch[Record]
	i      int
}

func (d *decodingReader[E]) Poll(b *Batch[E], max int) (ReadStatus, error) {
	d.raw.Reset()
	status, err := d.RecordReader.Poll(&d.raw, max)
	if err != nil {
		return status, err
	}
	for d.i = 0; d.i < len(d.raw.Values); d.i++ {
		v, err := d.decode(d.raw.Values[d.i], d.at)
		if err != nil {
			return status, err
		}
		b.Append(v, d.raw.Times[d.i])
	}
	return status, nil
}

// nameOf asks a source or sink for its own name.
func nameOf(v any) string {
	if n, ok := v.(interface{ Name() string }); ok {
		return n.Name()
	}
	return ""
}
