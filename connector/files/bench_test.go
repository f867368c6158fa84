package files_test

import (
	"context"
	"testing"

	"github.com/millrace/millrace/connector/files"
	"github.com/millrace/millrace/sdk"
)

// BenchmarkWrite writes 500,000 records, 100,000 to a checkpoint, to a folder
// and commits them.
func BenchmarkWrite(b *testing.B) {
	for name, sink := range map[string]func(string) files.Parts[visit]{
		"csv":        func(at string) files.Parts[visit] { return files.Sink(at, files.CSV[visit]()) },
		"csv-gzip":   func(at string) files.Parts[visit] { return files.Sink(at, files.CSV[visit]()).Gzip() },
		"partitions": func(at string) files.Parts[visit] { return files.Sink(at, files.CSV[visit]()).PartitionBy(visit.page) },
	} {
		b.Run(name, func(b *testing.B) {
			s := sink(b.TempDir())
			w, err := s.Open(b.Context(), env(1, func(err error) { b.Error(err) }))
			if err != nil {
				b.Fatal(err)
			}
			defer w.Close()
			batch := sdk.Batch[visit]{}
			for i := range 500 {
				batch.Values = append(batch.Values, visit{i, []string{"a", "b", "c"}[i/167]})
			}
			id := uint64(0)
			b.ReportAllocs()
			for b.Loop() {
				for i := range 1000 {
					if err := w.Write(&batch); err != nil {
						b.Fatal(err)
					}
					if i%200 == 199 {
						id++
						checkpoint(b, s, w, id)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(500_000*b.N), "ns/record")
		})
	}
}

func checkpoint(b *testing.B, s files.Parts[visit], w sdk.Writer[visit], id uint64) {
	finish, err := w.(sdk.Preparer).Prepare(id)
	if err != nil {
		b.Fatal(err)
	}
	h, err := finish(context.Background())
	if err == nil {
		err = s.Commit(b.Context(), env(1, nil), id, []sdk.Handle{{Value: h}})
	}
	if err != nil {
		b.Fatal(err)
	}
}
