package shardlog

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/millrace/millrace/stream"
	"github.com/millrace/millrace/stream/block"
)

// ReadRequest asks for a piece of a shard.
type ReadRequest struct {
	At stream.Position
	// MaxRecords and MaxBytes bound the answer; the first record is given
	// whatever its size.
	MaxRecords, MaxBytes int
	// Wait bounds the wait for a record at the tip.
	Wait time.Duration
}

// ReadAnswer is a piece of a shard.
type ReadAnswer struct {
	// Records is nil where there were none.
	Records block.Block
	// Next is the number of the last record, or of where the read stood.
	Next stream.Sequence
	Tip  stream.Sequence
	// MillisBehind is the age of the record after Next, 0 where Next is Tip.
	MillisBehind int64
	// Skipped counts records before the first one that retention removed.
	Skipped uint64
	// End says that the shard is closed and Next its last record.
	End bool
}

// Read returns the records from a position on, in order. At the tip it waits,
// unless the shard has ended there.
func (l *Log) Read(ctx context.Context, id ID, r ReadRequest) (ReadAnswer, error) {
	place, skipped, err := l.start(id, r.At)
	if err != nil {
		return ReadAnswer{}, err
	}
	var timer <-chan time.Time
	if r.Wait > 0 {
		t := time.NewTimer(r.Wait)
		defer t.Stop()
		timer = t.C
	}
	for {
		a, err := l.readAt(id, place, r)
		if err != nil || len(a.Records) > 0 || a.End || timer == nil {
			a.Skipped += skipped
			return a, err
		}
		s, release, err := l.shard(id)
		if err != nil {
			return ReadAnswer{}, err
		}
		release()
		err = s.await(ctx, place, timer)
		if err != nil {
			return ReadAnswer{}, err
		}
		if _, tip, err := s.bounds(); err != nil || tip < place && !s.finished() {
			// The time is up.
			a.Skipped += skipped
			return a, err
		}
	}
}

// Tip is the number of the last readable record; its place is 0 if there never
// was one.
func (l *Log) Tip(id ID) (stream.Sequence, error) {
	s, release, err := l.shard(id)
	if err != nil {
		return stream.Sequence{}, err
	}
	release()
	_, tip, err := s.bounds()
	return id.sequence(tip), err
}

// start resolves a position to the place of the first record to return.
func (l *Log) start(id ID, at stream.Position) (place, skipped uint64, err error) {
	s, release, err := l.shard(id)
	if err != nil {
		return 0, 0, err
	}
	defer release()
	trim, tip, err := s.bounds()
	if err != nil {
		return 0, 0, err
	}
	switch at.From {
	case stream.FromTrimHorizon:
		return trim, 0, nil
	case stream.FromLatest:
		return tip + 1, 0, nil
	case stream.FromTimestamp:
		place, err = l.placeAt(id, trim, tip, at.Timestamp)
		return place, 0, l.unread(err)
	case stream.FromAtSequence, stream.FromAfterSequence:
	default:
		return 0, 0, stream.Errorf(stream.InvalidArgument, "read from a position of kind %d", at.From)
	}
	if err := at.Sequence.Of(id.Generation, id.Shard); err != nil {
		return 0, 0, err
	}
	place = at.Sequence.Place()
	if at.From == stream.FromAfterSequence {
		place++
	}
	if place > tip+1 {
		return 0, 0, stream.Errorf(stream.InvalidArgument, "sequence number %v is beyond the last record of %s: this shard never gave it out", at.Sequence, stream.ShardName(id.Shard))
	}
	if place < trim {
		// Place 0 is before the first record, not a record that is gone.
		return trim, trim - max(place, 1), nil
	}
	return place, 0, nil
}

// readAt reads from a place on, without waiting.
func (l *Log) readAt(id ID, place uint64, r ReadRequest) (a ReadAnswer, err error) {
	s, release, err := l.shard(id)
	if err != nil {
		return ReadAnswer{}, err
	}
	defer release()
	for {
		finished := s.finished() // before the bounds: those of a finished shard are its last
		trim, tip, err := s.bounds()
		if err != nil {
			return ReadAnswer{}, err
		}
		if place < trim {
			// Retention has overtaken the reader since the position was resolved.
			a.Skipped += trim - place
			place = trim
		}
		a.Next, a.Tip = id.sequence(place-1), id.sequence(tip)
		if place > tip {
			a.End = finished
			return a, nil
		}
		err = l.fill(&a, id, place, tip, r)
		if errors.Is(err, errTrimmed) {
			continue
		}
		a.End = finished && a.Next == a.Tip
		return a, l.unread(err)
	}
}

// unread is an error of the store below, with the file or the folder in it.
func (l *Log) unread(err error) error {
	if _, ok := errors.AsType[*stream.Error](err); ok || err == nil {
		return err
	}
	if info := pebble.ExtractDataCorruptionInfo(err); info != nil {
		return stream.Errorf(stream.Corrupt, "%s is damaged: %w: restore the folder from a copy", info.Path, info.Details)
	}
	return stream.Errorf(stream.StoreFailed, "read the shard log in %s: %w: look at its disk", l.dir, err)
}

// done ends an iterator, whose error becomes that of who used it. Pebble, when it
// gives up, may hold what closing one takes: then nobody waits for that, and a
// store that is not closed any more does not miss it.
func (l *Log) done(it *pebble.Iterator, err *error) {
	failed := it.Error()
	if !l.fault.fatal() {
		closed := make(chan error, 1)
		go func() { closed <- it.Close() }()
		select {
		case failed = <-closed:
		case <-l.fault.beyond:
		}
	}
	if *err == nil {
		*err = failed
	}
}

// get returns a copy of the value of a key, or pebble.ErrNotFound. Pebble's own Get
// closes an iterator itself, see done.
func (l *Log) get(key []byte) (value []byte, err error) {
	it, err := l.db.NewIter(&pebble.IterOptions{LowerBound: key, UpperBound: append(bytes.Clone(key), 0)})
	if err != nil {
		return nil, err
	}
	defer l.done(it, &err)
	if !it.First() {
		return nil, cmp.Or(it.Error(), pebble.ErrNotFound)
	}
	value, err = it.ValueAndErr()
	return bytes.Clone(value), err
}

// errTrimmed says that staged records went away while they were being read.
var errTrimmed = errors.New("trimmed while being read")

func (l *Log) fill(a *ReadAnswer, id ID, place, tip uint64, r ReadRequest) (err error) {
	it, err := l.db.NewIter(&pebble.IterOptions{LowerBound: recordsKey(id, place), UpperBound: recordsKey(id, tip+1)})
	if err != nil {
		return err
	}
	defer l.done(it, &err)
	var out block.Builder
	next := place
	for ok := it.First(); ok; ok = it.Next() {
		e, err := decodeEntry(it)
		if err != nil {
			return err
		}
		if next > place && (out.Count() >= r.MaxRecords || out.Len() >= r.MaxBytes) {
			a.MillisBehind = l.age(e.arrival)
			break
		}
		records, err := l.records(id, e)
		if err != nil {
			return err
		}
		if next == place && e.first > next {
			if trim, _, err := l.trimOf(id); err != nil || trim > next {
				return cmp.Or(err, errTrimmed)
			}
		}
		if e.first > next || e.last < next {
			return stream.Errorf(stream.Corrupt, "shard %v: the log goes on with record %d where %d is due", id, e.first, next)
		}
		iter := records.Records()
		if err := block.Skip(&iter, int(next-e.first)); err != nil {
			return err
		}
		if out.Len() == 0 {
			out.Grow(min(len(records), r.MaxBytes))
		}
		n, err := out.AddPart(&iter, r.MaxRecords-out.Count(), r.MaxBytes)
		if err != nil {
			return err
		}
		next += uint64(n)
		if next <= e.last {
			a.MillisBehind = l.age(e.arrival)
			break
		}
	}
	if err := it.Error(); err != nil {
		return err
	}
	if next == place {
		trim, _, err := l.trimOf(id)
		if err != nil {
			return err
		}
		if trim > place {
			return errTrimmed
		}
		return stream.Errorf(stream.Corrupt, "shard %v: record %d is missing below the tip %d", id, place, tip)
	}
	a.Records, a.Next = out.Finish(), id.sequence(next-1)
	return nil
}

func (l *Log) trimOf(id ID) (trim, tip uint64, err error) {
	s, release, err := l.shard(id)
	if err != nil {
		return 0, 0, err
	}
	defer release()
	return s.bounds()
}

// age is how long ago a record arrived, at least 1 ms: there is a record.
func (l *Log) age(arrival int64) int64 {
	return max(l.opt.Clock.Now().UnixMilli()-arrival, 1)
}

// entry is one key of the log.
type entry struct {
	first, last uint64
	arrival     int64
	// inline are the records, borrowed from the iterator, unless they were
	// staged.
	inline block.Block
	staged pointer
}

func decodeEntry(it *pebble.Iterator) (entry, error) {
	key := it.Key()
	if len(key) != recordsKeyBytes {
		return entry{}, stream.Errorf(stream.Corrupt, "key %x of the shard log has %d bytes, want %d", key, len(key), recordsKeyBytes)
	}
	value, err := it.ValueAndErr()
	if err != nil {
		return entry{}, err
	}
	e := entry{last: lastPlaceOf(key)}
	switch entryKindOf(key) {
	case entryBlock:
		e.inline = block.Block(value)
		if err := e.inline.Verify(); err != nil {
			return entry{}, err
		}
		first, ok := e.inline.First()
		if !ok {
			return entry{}, stream.Errorf(stream.Corrupt, "block %x of the shard log is empty", key)
		}
		e.first, e.arrival = first.Sequence.Place(), first.Arrival
	case entryPointer:
		if e.staged, err = decodePointer(value); err != nil {
			return entry{}, err
		}
		e.first, e.arrival = e.staged.first, e.staged.arrival
	default:
		return entry{}, stream.Errorf(stream.Corrupt, "key %x of the shard log is of an unknown kind", key)
	}
	return e, nil
}

// staged is a staged block, or pebble.ErrNotFound.
func (l *Log) staged(id ID, tx txID, at blockID) (block.Block, error) {
	value, err := l.get(blockKey(keyStaged, id, tx, at))
	if err != nil {
		return nil, err
	}
	b := block.Block(value)
	return b, b.Verify()
}

// records gives an entry's records, numbered.
func (l *Log) records(id ID, e entry) (block.Block, error) {
	if e.inline != nil {
		return e.inline, nil
	}
	b, err := l.staged(id, e.staged.tx, e.staged.block)
	if errors.Is(err, pebble.ErrNotFound) {
		trim, _, err := l.trimOf(id)
		if err != nil {
			return nil, err
		}
		if trim > e.first {
			return nil, errTrimmed
		}
		return nil, stream.Errorf(stream.Corrupt, "shard %v: records %d to %d were staged and are missing", id, e.first, e.last)
	}
	if err != nil {
		return nil, err
	}
	if b.Count() != int(e.staged.count) {
		return nil, stream.Errorf(stream.Corrupt, "shard %v: %d records were staged where %d were committed", id, b.Count(), e.staged.count)
	}
	return b, b.Assign(id.sequence(e.first), e.arrival)
}
