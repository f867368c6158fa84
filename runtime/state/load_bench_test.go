package state

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/millrace/millrace/checkpoint/snapshot"
	"github.com/millrace/millrace/runtime/keygroup"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// account is a value of 96 bytes, as those of bench/reliability.
type account struct {
	Count, Sum int64
	Rest       [10]uint64
}

// BenchmarkLoad restores the first half of the key groups: one run that holds
// all, and a chain of runs that hold a share of the keys each.
func BenchmarkLoad(b *testing.B) {
	b.Run("ints/1", func(b *testing.B) { load(b, 1_000_000, 1, number) })
	b.Run("ints/8", func(b *testing.B) { load(b, 1_000_000, 8, number) })
	b.Run("strings/1", func(b *testing.B) { load(b, 1_000_000, 1, name) })
}

func load[K comparable](b *testing.B, n, runs int, key func(uint64) K) {
	mine := keygroup.RangeOf(0, 2, keygroup.Default)
	chain, copies, size := written(b, mine, n, runs, key)
	b.SetBytes(size)
	for b.Loop() {
		s := NewStore(mine)
		t, err := NewTable[K, account](s, "t")
		if err != nil {
			b.Fatal(err)
		}
		o := snapshot.Opener{Local: copies}
		readers, err := o.Chain(context.Background(), chain, mine.First, mine.Last)
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Load(readers, Restore{}); err != nil {
			b.Fatal(err)
		}
		for _, r := range readers {
			_ = r.Close()
		}
		b.ReportMetric(float64(t.Bytes())/float64(t.Len()), "B/key")
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/key")
}

// written is the chain of a store's checkpoints, with copies of its runs.
func written[K comparable](b *testing.B, mine keygroup.Range, n, runs int, key func(uint64) K) ([]*pb.RunRef, snapshot.Local, int64) {
	s := NewStore(mine)
	t, err := NewTable[K, account](s, "t")
	if err != nil {
		b.Fatal(err)
	}
	h := hasher[K]()
	copies, size := folder(b.TempDir()), int64(0)
	var chain []*pb.RunRef
	for run, i := 0, uint64(0); run < runs; run++ {
		for t.Len() < n*(run+1)/runs {
			k := key(i)
			i++
			if hash := h(&k); mine.Contains(keygroup.Of(hash, mine.N)) {
				v, _ := t.Upsert(hash, k)
				*v = account{Count: 1, Sum: int64(i)}
				v.Rest[i%10] = i
			}
		}
		f := s.Freeze(false)
		w := snapshot.NewWriter(mine.N)
		w.Own(mine.First, mine.Last)
		if err := f.Write(w); err != nil {
			b.Fatal(err)
		}
		out, err := w.Finish()
		if err != nil {
			b.Fatal(err)
		}
		f.Release()
		object := strconv.Itoa(run)
		if err := os.WriteFile(filepath.Join(string(copies), object), out.Bytes, 0o600); err != nil {
			b.Fatal(err)
		}
		chain = append(chain, out.Ref(object, 0))
		size += out.Size()
	}
	return chain, copies, size
}

// folder holds copies of objects.
type folder string

func (f folder) Copy(object string) (io.ReaderAt, io.Closer, bool) {
	file, err := os.Open(filepath.Join(string(f), object))
	return file, file, err == nil
}

func (f folder) Spoiled(object string, err error) { panic(err) }
