package nexmark

import (
	"fmt"
	"math"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/millrace/millrace/examples/nexmark/lateness"
	"github.com/millrace/millrace/sdk"
)

// What comes out of a query: nothing, or the sums over its rows.

// columns appends the columns of a row, each with a bar before it.
type columns[R any] func(dst []byte, r R) []byte

// rows ends a query whose rows stay.
func rows[R any](j *job, s sdk.DataStream[R], text columns[R]) {
	if j.late.On() {
		s.To(lateness.Sink[R](j.late)).Named("nowhere")
	}
	if !j.hash {
		if !j.late.On() {
			// Rows are made, and counted by the metrics of the sink.
			s.To(sdk.FuncBatch(func([]R) error { return nil })).Named("nowhere")
		}
		return
	}
	j.sum(s.Process(func(*sdk.Op) sdk.Fn[R, digest] {
		h := newHasher()
		return func(c *sdk.Context[digest], r R) error {
			c.Emit(h.digest(text(h.text[:0], r)))
			return nil
		}
	}))
}

// table ends a query whose rows also go: the sums are those of what is left.
func table[R any](j *job, u sdk.Updates[R], text columns[R]) {
	if !j.hash && !j.late.On() {
		u.To(sdk.FuncUpdates(func(sdk.Change, R) error { return nil })).Named("nowhere")
		return
	}
	rows := u.Changes(func(c sdk.Change, r R) changed[R] { return changed[R]{c == sdk.Delete, r} })
	if j.late.On() {
		rows.To(lateness.Sink[changed[R]](j.late)).Named("nowhere")
	}
	if !j.hash {
		return
	}
	j.sum(rows.Process(func(*sdk.Op) sdk.Fn[changed[R], digest] {
		h := newHasher()
		return func(c *sdk.Context[digest], r changed[R]) error {
			d := h.digest(text(h.text[:0], r.Row))
			if r.Gone {
				d.Count, d.Sum0, d.Sum1 = -d.Count, -d.Sum0, -d.Sum1
			}
			c.Emit(d)
			return nil
		}
	}))
}

// changed is a row that came or went.
type changed[R any] struct {
	Gone bool
	Row  R
}

// digest is the sums over rows: how many, and the sums of their hashes.
type digest struct {
	// Part is which part of the sums it is added up in first.
	Part       uint64
	Count      int64
	Sum0, Sum1 uint64
}

// parts spreads the sums over subtasks.
const parts = 64

// line is the published form of a result.
func (d digest) line(query string) string {
	return fmt.Sprintf("%s %d %016x %016x", query, d.Count, d.Sum0, d.Sum1)
}

// hasher makes digests of rows, one after the other.
type hasher struct {
	text []byte
	two  *xxhash.Digest
}

func newHasher() *hasher { return &hasher{two: xxhash.New()} }

// digest is that of one row, whose memory the hasher keeps for the next.
func (h *hasher) digest(text []byte) digest {
	h.text = text
	row := text[1:]
	h.two.ResetWithSeed(1)
	h.two.Write(row)
	sum := xxhash.Sum64(row)
	return digest{sum % parts, 1, sum, h.two.Sum64()}
}

// sum adds up the digests, first in parts, and writes the line of their sum
// when the input has ended. Sums are state, and the line is written by a
// transactional sink, so that neither failures nor rescales show in it.
func (j *job) sum(digests sdk.DataStream[digest]) {
	// One digest of no rows at all sees to it that there is a line.
	none := sdk.From(j.env, sdk.Slice(digest{})).
		WithTimestamps(sdk.Monotonous(func(digest) time.Time { return time.UnixMilli(0) })).Named("no-rows")
	query := j.query
	sums := atTheEnd(digests.Union(none).KeyBy(func(d digest) uint64 { return d.Part }), "sums")
	atTheEnd(sums.KeyBy(func(digest) uint64 { return 0 }), "total").Parallel(1).
		Map(func(d digest) string { return d.line(query) }).Parallel(1).
		To(j.lines).Named("sums-to-file").Parallel(1)
}

// atTheEnd adds up the digests of each key and emits the sum when event time
// has run out.
func atTheEnd(s sdk.KeyedStream[uint64, digest], name string) sdk.DataStream[digest] {
	end := time.UnixMilli(math.MaxInt64)
	return s.Process(name, func(op *sdk.KeyedOp[uint64]) sdk.KeyedFn[uint64, digest, digest] {
		sum := op.Value[digest]("sum")
		return sdk.KeyedFn[uint64, digest, digest]{
			Each: func(c *sdk.KeyedContext[uint64, digest], d digest) error {
				sofar, had := sum.Lookup()
				if !had {
					c.SetTimer(end)
				}
				sum.Set(digest{d.Part, sofar.Count + d.Count, sofar.Sum0 + d.Sum0, sofar.Sum1 + d.Sum1})
				return nil
			},
			OnTimer: func(c *sdk.KeyedContext[uint64, digest]) error {
				c.Emit(sum.Get())
				return nil
			},
		}
	})
}
