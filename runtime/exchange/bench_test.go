package exchange

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/cespare/xxhash/v2"

	"github.com/millrace/millrace/runtime/batch"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// wide is a fixed record of 104 bytes.
type wide struct {
	Key   uint64
	Field [12]int64
}

func hashOf(key uint64) uint64 {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], key)
	return xxhash.Sum64(b[:])
}

func hashWide(b *batch.Batch[wide]) {
	for i := range b.Values {
		b.Hashes = append(b.Hashes, hashOf(b.Values[i].Key))
	}
}

func hashTiny(b *batch.Batch[small]) {
	for i := range b.Values {
		b.Hashes = append(b.Hashes, hashOf(uint64(b.Values[i].Key)))
	}
}

func hashText(b *batch.Batch[text]) {
	for i := range b.Values {
		b.Hashes = append(b.Hashes, hashOf(b.Values[i].Key))
	}
}

// BenchmarkEdge is the cost of a record from one operator's Push to the next
// one's, with all that both tasks do: hash, split, hand over, receive. Both run
// at the same time, so ns/op is the slower side where there are two cores.
func BenchmarkEdge(b *testing.B) {
	for _, receivers := range []int{1, 4} {
		b.Run(fmt.Sprintf("local/keyed/small/to%d", receivers), func(b *testing.B) {
			benchEdge(b, layout{ship: pb.Ship_SHIP_HASH, senders: 1, receivers: receivers, key: hashTiny}, func(i int) small { return small{Key: uint32(i)} })
		})
		b.Run(fmt.Sprintf("local/keyed/wide/to%d", receivers), func(b *testing.B) {
			benchEdge(b, layout{ship: pb.Ship_SHIP_HASH, senders: 1, receivers: receivers, key: hashWide}, func(i int) wide { return wide{Key: uint64(i)} })
		})
	}
	b.Run("local/forward/small", func(b *testing.B) {
		benchEdge(b, layout{ship: pb.Ship_SHIP_FORWARD, senders: 1, receivers: 1}, func(i int) small { return small{Key: uint32(i)} })
	})
	b.Run("local/forward/wide", func(b *testing.B) {
		benchEdge(b, layout{ship: pb.Ship_SHIP_FORWARD, senders: 1, receivers: 1}, func(i int) wide { return wide{Key: uint64(i)} })
	})
	b.Run("local/keyed/text100/to4", func(b *testing.B) {
		body := string(make([]byte, 92))
		benchEdge(b, layout{ship: pb.Ship_SHIP_HASH, senders: 1, receivers: 4, key: hashText}, func(i int) text { return text{uint64(i), body} })
	})
	b.Run("remote/keyed/small", func(b *testing.B) {
		benchRemote(b, hashTiny, func(i int) small { return small{Key: uint32(i)} })
	})
	b.Run("remote/keyed/wide", func(b *testing.B) {
		benchRemote(b, hashWide, func(i int) wide { return wide{Key: uint64(i)} })
	})
	b.Run("remote/keyed/text100", func(b *testing.B) {
		body := string(make([]byte, 92))
		benchRemote(b, hashText, func(i int) text { return text{uint64(i), body} })
	})
}

// benchRemote sends from a subtask of one worker to one of another: every key
// falls to the receiver that is not here.
func benchRemote[T any](b *testing.B, hash func(*batch.Batch[T]), record func(int) T) {
	benchEdge(b, layout{ship: pb.Ship_SHIP_HASH, senders: 1, receivers: 2, workers: 2, key: func(in *batch.Batch[T]) {
		hash(in)
		for i := range in.Hashes {
			in.Hashes[i] |= 1 << 63
		}
	}}, record)
}

func benchEdge[T any](b *testing.B, l layout, record func(int) T) {
	r := newRig[T](b, l)
	done := make(chan error, l.receivers)
	for i := range l.receivers {
		go func() { done <- r.collect(i, nil) }()
	}
	var in batch.Batch[T]
	for i := range batch.Rows {
		in.Append(record(i), int64(i))
	}
	// Batches and buffers come into being first.
	for range 500 {
		if err := r.outs[0].out.Push(&in); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	for left := b.N; left > 0; left -= batch.Rows {
		if left < batch.Rows {
			in.Values, in.Times = in.Values[:left], in.Times[:left]
		}
		if err := r.outs[0].out.Push(&in); err != nil {
			b.Fatal(err)
		}
	}
	if err := r.writers[0].Watermark(batch.EndOfTime); err != nil {
		b.Fatal(err)
	}
	for range l.receivers {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
}
