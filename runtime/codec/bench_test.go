package codec

import "testing"

type bid struct {
	Auction, Bidder uint64
	Price           int64
	At              int64
}

func benchmark[T any](b *testing.B, v T) {
	c := derive[T](b)
	vs := make([]T, 512)
	for i := range vs {
		vs[i] = v
	}
	enc := c.AppendAll(nil, vs)
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(enc)))
		for b.Loop() {
			enc = c.AppendAll(enc[:0], vs)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/512, "ns/record")
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(enc)))
		for b.Loop() {
			if _, err := c.DecodeAll(enc, vs); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/512, "ns/record")
	})
}

func BenchmarkBatch(b *testing.B) {
	b.Run("fixed", func(b *testing.B) { benchmark(b, bid{1, 2, 3, 4}) })
	b.Run("strings", func(b *testing.B) {
		benchmark(b, struct {
			Auction, Bidder, Price int64
			Channel, URL           string
		}{1, 2, 3, "channel-17", "https://www.example.org/item/1234567"})
	})
}
