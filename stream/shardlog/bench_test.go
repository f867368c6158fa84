package shardlog

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	pb "github.com/millrace/millrace/proto/millrace/v1"
	"github.com/millrace/millrace/stream"
	"github.com/millrace/millrace/stream/block"
)

// benchBlock is what one PutRecords of 500 records of 100 bytes becomes.
func benchBlock(records, size int) block.Block {
	var b block.Builder
	data := make([]byte, size)
	for i := range records {
		key := fmt.Sprint("key-", i)
		b.Add(key, stream.HashOf(key), data)
	}
	return b.Finish()
}

// BenchmarkAppend appends blocks of 500 × 100 bytes on a real disk, fsynced.
func BenchmarkAppend(b *testing.B) {
	for _, writers := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			l := openLog(b, b.TempDir(), Options{})
			if err := l.Create(b.Context(), Spec{ID: shard0}, Spec{ID: shard1}); err != nil {
				b.Fatal(err)
			}
			model := benchBlock(500, 100)
			took := make([][]time.Duration, writers)
			var wg sync.WaitGroup
			b.ResetTimer()
			for w := range writers {
				wg.Go(func() {
					for range (b.N + writers - 1) / writers {
						start := time.Now()
						if _, _, err := l.Append(b.Context(), ID{7, uint32(w % 2)}, slices.Clone(model)); err != nil {
							b.Error(err)
							return
						}
						took[w] = append(took[w], time.Since(start))
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			all := slices.Sorted(slices.Values(slices.Concat(took...)))
			b.ReportMetric(float64(len(all)*500)/b.Elapsed().Seconds(), "records/s")
			b.ReportMetric(float64(all[len(all)*99/100])/1e6, "p99-ms")
		})
	}
}

func BenchmarkRead(b *testing.B) {
	for _, staged := range []bool{false, true} {
		b.Run(fmt.Sprintf("staged=%v", staged), func(b *testing.B) {
			l := openLog(b, b.TempDir(), Options{})
			if err := l.Create(b.Context(), Spec{ID: shard0}); err != nil {
				b.Fatal(err)
			}
			model := benchBlock(500, 100)
			const blocks = 1000
			for i := range blocks {
				var err error
				if staged {
					err = l.Stage(b.Context(), shard0, tx(1, 1), 0, uint64(i), slices.Clone(model))
				} else {
					_, _, err = l.Append(b.Context(), shard0, slices.Clone(model))
				}
				if err != nil {
					b.Fatal(err)
				}
			}
			if _, _, err := l.Commit(b.Context(), shard0, tx(1, 1), []*pb.StagedCount{{Blocks: blocks, Records: blocks * 500}}); staged && err != nil {
				b.Fatal(err)
			}
			b.SetBytes(1 << 20)
			at := stream.Position{From: stream.FromTrimHorizon}
			for b.Loop() {
				a, err := l.Read(b.Context(), shard0, ReadRequest{At: at, MaxRecords: 1 << 20, MaxBytes: 1 << 20})
				if err != nil {
					b.Fatal(err)
				}
				at = stream.Position{From: stream.FromAfterSequence, Sequence: a.Next}
				if a.Next == a.Tip {
					at = stream.Position{From: stream.FromTrimHorizon}
				}
			}
		})
	}
}

// BenchmarkStageAndCommit is a checkpoint's output of 10 MB to one shard: 160
// blocks of 64 KiB staged by 16 senders, then the commit.
func BenchmarkStageAndCommit(b *testing.B) {
	l := openLog(b, b.TempDir(), Options{})
	if err := l.Create(b.Context(), Spec{ID: shard0}); err != nil {
		b.Fatal(err)
	}
	model := benchBlock(450, 100)
	const blocks, senders = 160, 16
	var committing time.Duration
	n := uint64(0)
	b.SetBytes(int64(len(model) * blocks))
	for b.Loop() {
		n++
		var wg sync.WaitGroup
		for s := range senders {
			wg.Go(func() {
				for i := s; i < blocks; i += senders {
					if err := l.Stage(b.Context(), shard0, tx(1, n), 0, uint64(i), slices.Clone(model)); err != nil {
						b.Error(err)
					}
				}
			})
		}
		wg.Wait()
		start := time.Now()
		if _, _, err := l.Commit(b.Context(), shard0, tx(1, n), []*pb.StagedCount{{Blocks: blocks, Records: blocks * 450}}); err != nil {
			b.Fatal(err)
		}
		committing += time.Since(start)
	}
	b.ReportMetric(float64(committing)/1e6/float64(n), "commit-ms")
}
