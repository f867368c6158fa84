package shardlog

import (
	"context"
	"errors"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// trimLoop looks after retention from time to time.
func (l *Log) trimLoop(ctx context.Context) {
	due := make(chan struct{}, 1)
	for {
		stop := l.opt.Clock.AfterFunc(trimEvery, func() { due <- struct{}{} })
		select {
		case <-due:
		case <-ctx.Done():
			stop()
			return
		}
		var specs []Spec
		for _, id := range l.Shards() {
			specs = append(specs, Spec{ID: id})
		}
		if err := l.trimShards(ctx, specs); err != nil && ctx.Err() == nil {
			l.opt.Log.Error("retention of the shard log", "folder", l.dir, "error", err)
		}
	}
}

// trimShards hides and removes what is older than the retention of shards.
func (l *Log) trimShards(ctx context.Context, specs []Spec) error {
	var errs []error
	for _, spec := range specs {
		if err := l.trimShard(ctx, spec.ID); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (l *Log) trimShard(ctx context.Context, id ID) error {
	place, m, err := l.expired(id)
	if err != nil || place == 0 {
		return l.unread(err)
	}
	s, release, err := l.shard(id)
	if err != nil {
		return nil // dropped meanwhile
	}
	release()
	return l.do(ctx, &op{
		bytes: 1024,
		prepare: func(b *pebble.Batch) error {
			if s.dropped || m.trim <= s.trimmed.trim {
				return nil
			}
			if err := l.trim(b, s, m); err != nil {
				return l.unread(err)
			}
			// Hidden before the batch is applied, or readers would miss records
			// that they have a right to. A power loss before the fsync brings
			// them back only until Create or the next round looks again.
			s.mu.Lock()
			s.mu.trim = max(s.mu.trim, place)
			s.mu.Unlock()
			return nil
		},
	})
}

// expired finds the first place to keep, 0 if nothing is to go.
func (l *Log) expired(id ID) (place uint64, m shardMeta, err error) {
	s, release, err := l.shard(id)
	if err != nil {
		return 0, m, nil
	}
	defer release()
	s.mu.Lock()
	trim, tip, retention := s.mu.trim, s.mu.tip, s.mu.retention
	s.mu.Unlock()
	if retention <= 0 || trim > tip {
		return 0, m, nil
	}
	cutoff := l.opt.Clock.Now().Add(-retention).UnixMilli()
	oldest, err := l.arrivalAt(id, trim, tip)
	if err != nil || oldest.arrival >= cutoff {
		return 0, m, err
	}
	place, err = l.placeAt(id, trim, tip, cutoff)
	if err != nil {
		return 0, m, err
	}
	last, err := l.arrivalAt(id, place-1, tip)
	if err != nil {
		return 0, m, err
	}
	return place, shardMeta{trim: place, arrival: last.arrival}, nil
}

// trim removes the entries of a shard below a place, and the staged blocks of
// the transactions that end below it. Others share the batch, so all that can
// fail comes before the first write to it: half a trim is a damaged shard.
func (l *Log) trim(b *pebble.Batch, s *shard, m shardMeta) error {
	from, to := committedKey(s.id, 0), committedKey(s.id, m.trim)
	ended, err := l.transactions(from, to)
	if err != nil {
		return err
	}
	for _, tx := range ended {
		blocks := txKey(keyStaged, s.id, tx)
		if err := b.DeleteRange(blocks, after(blocks), nil); err != nil {
			return err
		}
	}
	if err := b.DeleteRange(from, to, nil); err != nil {
		return err
	}
	if err := b.DeleteRange(recordsKey(s.id, 0), recordsKey(s.id, m.trim), nil); err != nil {
		return err
	}
	s.trimmed = m
	return b.Set(shardKey(keyShard, s.id), m.encode(), nil)
}

// transactions are those that were committed under a range of keys.
func (l *Log) transactions(from, to []byte) (txs []txID, err error) {
	it, err := l.db.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		return nil, err
	}
	defer l.done(it, &err)
	for ok := it.First(); ok; ok = it.Next() {
		value, err := it.ValueAndErr()
		if err != nil {
			return nil, err
		}
		tx, err := decodeTx(value)
		if err != nil {
			return nil, err
		}
		txs = append(txs, tx)
	}
	return txs, nil
}

// arrivalAt is the entry that holds a place, which must be readable.
func (l *Log) arrivalAt(id ID, place, tip uint64) (e entry, err error) {
	it, err := l.db.NewIter(&pebble.IterOptions{LowerBound: recordsKey(id, place), UpperBound: recordsKey(id, tip+1)})
	if err != nil {
		return e, err
	}
	defer l.done(it, &err)
	if !it.First() {
		if err := it.Error(); err != nil {
			return e, err
		}
		return entry{first: place, last: place, arrival: time.Time{}.UnixMilli()}, nil
	}
	if e, err = decodeEntry(it); err != nil {
		return e, err
	}
	e.inline = nil // the iterator's
	return e, nil
}

// placeAt is the place of the first record from trim to tip that arrived at a
// time or later, tip+1 if there is none. All records of an entry arrived at
// once and arrivals never fall, so that halving finds it.
func (l *Log) placeAt(id ID, trim, tip uint64, millis int64) (uint64, error) {
	low, high := trim, tip+1
	for low < high {
		mid := low + (high-low)/2
		e, err := l.arrivalAt(id, mid, tip)
		if err != nil {
			return 0, err
		}
		if e.arrival < millis {
			low = e.last + 1
		} else {
			// Not e.first alone: what a trim removed meanwhile would lead beyond mid.
			high = min(max(e.first, trim), mid)
		}
	}
	return low, nil
}
