package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
	"time"

	"github.com/millrace/millrace/sdk"
)

// source makes updates: split s of n first books to accounts s, s+n, s+2n and
// so on, once each and as fast as it goes, then to any, at its share of the rate.
type source struct {
	keys   uint64
	rate   int
	splits int
}

func (s *source) Name() string  { return "updates" }
func (s *source) Bounded() bool { return false }

func (s *source) Splits(context.Context, sdk.SourceEnv, []sdk.Split) ([]sdk.Split, error) {
	all := make([]sdk.Split, s.splits)
	for i := range all {
		all[i].ID = strconv.Itoa(i)
	}
	return all, nil
}

func (s *source) Open(_ context.Context, env sdk.SourceEnv, split sdk.Split, position []byte) (sdk.Reader[Update], error) {
	first, err := strconv.ParseUint(split.ID, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("updates: split %q is not one of its own: %w", split.ID, err)
	}
	r := &reader{source: s, wake: env.Wake, first: first, last: -1}
	if len(position) == 8 {
		r.next = int64(binary.LittleEndian.Uint64(position))
	}
	r.fill = int64((s.keys - first + uint64(s.splits) - 1) / uint64(s.splits))
	return r, nil
}

type reader struct {
	*source
	wake  func()
	first uint64
	next  int64
	fill  int64 // updates that fill the table
	last  int64

	began time.Time // of the updates at a rate, counted from
	from  int64
	timer *time.Timer
}

func (r *reader) Poll(b *sdk.Batch[Update], most int) (sdk.ReadStatus, error) {
	n := int64(most)
	if r.next >= r.fill && r.rate > 0 {
		if r.began.IsZero() {
			r.began, r.from = time.Now(), r.next
		}
		due := r.from + int64(time.Since(r.began).Seconds()*float64(r.rate)/float64(r.splits))
		if due <= r.next {
			if r.timer == nil {
				r.timer = time.AfterFunc(time.Millisecond, r.wake)
			} else {
				r.timer.Reset(time.Millisecond)
			}
			return sdk.ReadWaiting, nil
		}
		n = min(n, due-r.next)
	}
	for range n {
		if r.last >= 0 && r.next >= r.last {
			return sdk.ReadEnded, nil
		}
		seq := r.next*int64(r.splits) + int64(r.first)
		key := uint64(seq)
		if r.next >= r.fill {
			key = mix(uint64(seq)) % r.keys
		}
		b.Append(Update{Key: key, Seq: seq}, sdk.NoTime)
		r.next++
	}
	return sdk.ReadMore, nil
}

// mix is the finalizer of splitmix64 (Steele, Lea, Flood 2014).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func (r *reader) Position() []byte {
	return binary.LittleEndian.AppendUint64(nil, uint64(r.next))
}

func (r *reader) StopAfter(position []byte) {
	r.last = r.next
	if len(position) == 8 {
		r.last = int64(binary.LittleEndian.Uint64(position))
	}
}

func (r *reader) Lag() (int64, int64) { return -1, -1 }

func (r *reader) Close() error {
	if r.timer != nil {
		r.timer.Stop()
	}
	return nil
}
