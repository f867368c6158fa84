package latency

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Quantiles are those of the sorted values, within a 64th above.
func TestQuantiles(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 0))
	for _, n := range []int{1, 2, 3, 100, 10007} {
		h := &Histogram{}
		values := make([]time.Duration, n)
		for i := range values {
			values[i] = time.Duration(rng.Uint64() >> (1 + rng.IntN(63)))
			h.Record(values[i])
		}
		slices.Sort(values)
		for _, q := range []float64{0, 0.5, 0.9, 0.99, 0.999, 0.9999, 1} {
			rank := max(1, int(q*float64(n)))
			if float64(rank) < q*float64(n) {
				rank++
			}
			want := values[rank-1]
			if got := h.Quantile(q); got < want || got-want > want/sub {
				t.Errorf("seed %d: of %d values quantile %v is %d, want %d", seed, n, q, got, want)
			}
		}
		if h.Max() != values[n-1] || h.Count() != uint64(n) {
			t.Errorf("seed %d: max %d of %d, want %d of %d", seed, h.Max(), h.Count(), values[n-1], n)
		}
	}
}

func TestBucketsAreInOrderWithoutGaps(t *testing.T) {
	for i := range buckets {
		if got := bucket(lower(i)); got != i {
			t.Fatalf("bucket %d begins at %d, which is in bucket %d", i, lower(i), got)
		}
		if i > 0 && bucket(lower(i)-1) != i-1 {
			t.Fatalf("%d is in bucket %d, want %d", lower(i)-1, bucket(lower(i)-1), i-1)
		}
	}
	if got := bucket(1<<63 - 1); got >= buckets {
		t.Errorf("the longest duration is in bucket %d of %d", got, buckets)
	}
}

func TestEmpty(t *testing.T) {
	h := &Histogram{}
	if h.Quantile(0.5) != 0 || h.Max() != 0 || h.Count() != 0 {
		t.Errorf("an empty histogram has median %v, max %v, count %d", h.Quantile(0.5), h.Max(), h.Count())
	}
}

func TestFolder(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "later")
	whole := &Histogram{}
	for part := range 3 {
		h := &Histogram{}
		for i := range 1000 {
			d := time.Duration(part*i*i) * time.Microsecond
			h.Record(d)
			whole.Record(d)
		}
		if err := h.Write(folder, "sink"); err != nil {
			t.Fatal(err)
		}
	}
	got, err := ReadFolder(folder)
	if diff := cmp.Diff(whole, got, cmp.AllowUnexported(Histogram{})); err != nil || diff != "" {
		t.Errorf("read back (-want +got):\n%s%v", diff, err)
	}
	if none, err := ReadFolder(filepath.Join(folder, "none")); err != nil || none.Count() != 0 {
		t.Errorf("a folder that is not there has %d, %v", none.Count(), err)
	}
	for _, text := range []string{"", "max x\n", "max 1\n1 x\n", "max 1\n-1 1\n", "max 1\n99999 1\n"} {
		if err := os.WriteFile(filepath.Join(folder, "bad"+suffix), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadFolder(folder); err == nil {
			t.Errorf("%q was taken for a histogram", text)
		}
	}
}

func BenchmarkRecord(b *testing.B) {
	h := &Histogram{}
	for i := range b.N {
		h.Record(time.Duration(i&0xffff) << 8)
	}
}
