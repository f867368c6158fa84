package postgres

import (
	"fmt"
	"testing"

	"github.com/millrace/millrace/sdk"
)

// BenchmarkCheckpoint writes rows of about 60 bytes, prepares and commits them,
// 10,000 at a time: one operation is one checkpoint of one subtask.
func BenchmarkCheckpoint(b *testing.B) {
	for _, mode := range []string{"append", "upsert"} {
		b.Run(mode, func(b *testing.B) {
			d := newDatabase(b)
			d.exec("CREATE TABLE @.items (n int PRIMARY KEY, text text NOT NULL)")
			s := Sink[item](d.url, d.schema+".items").Schema(d.schema)
			if mode == "upsert" {
				s = s.Upsert("n")
			}
			w, err := s.Open(b.Context(), ofOne(1))
			if err != nil {
				b.Fatal(err)
			}
			defer w.Close()
			const rows = 10_000
			var batch sdk.Batch[item]
			n := 0
			for b.Loop() {
				for range rows / 500 {
					batch.Values = batch.Values[:0]
					for range 500 {
						n++
						batch.Values = append(batch.Values, item{n, "fifty bytes of text, which is what a row may well have"})
					}
					if mode == "upsert" && n >= 100_000 {
						n = 0
					}
					if err := w.Write(&batch); err != nil {
						b.Fatal(err)
					}
				}
				finish, err := w.(sdk.Preparer).Prepare(1)
				if err != nil {
					b.Fatal(err)
				}
				h, err := finish(b.Context())
				if err == nil {
					err = s.Commit(b.Context(), ofOne(1), 1, []sdk.Handle{{Value: h}})
				}
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(rows*b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// BenchmarkEncode writes rows as lines of COPY.
func BenchmarkEncode(b *testing.B) {
	w := &writer[item]{Rows: Sink[item]("", "t")}
	w.chunks = make(chan chunk, 1)
	batch := sdk.Batch[item]{}
	for i := range 500 {
		batch.Values = append(batch.Values, item{i, fmt.Sprint("some text of no great length ", i)})
	}
	b.ReportAllocs()
	for b.Loop() {
		w.buf = w.buf[:0]
		if err := w.Write(&batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(500*b.N), "ns/row")
}
