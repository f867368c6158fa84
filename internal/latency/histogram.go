package latency

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	// sub is the number of buckets within a doubling: their width is at most
	// 1/sub of a value.
	subBits = 6
	sub     = 1 << subBits
	buckets = (64 - subBits) * sub
)

// Histogram counts durations. The zero value is empty. A bucket holds what is in
// [lower(i), lower(i+1)): each of the first 2·sub one nanosecond, then sub
// buckets to each doubling.
type Histogram struct {
	counts [buckets]uint64
	count  uint64
	most   time.Duration
}

// Record counts a duration; one below 0 counts as 0.
func (h *Histogram) Record(d time.Duration) {
	d = max(d, 0)
	h.counts[bucket(uint64(d))]++
	h.count++
	h.most = max(h.most, d)
}

func bucket(v uint64) int {
	if v < 2*sub {
		return int(v)
	}
	shift := bits.Len64(v) - subBits - 1
	return shift<<subBits + int(v>>shift)
}

// lower is the least value of a bucket.
func lower(i int) uint64 {
	if i < 2*sub {
		return uint64(i)
	}
	shift := i>>subBits - 1
	return uint64(i-shift<<subBits) << shift
}

// Count is the number of durations.
func (h *Histogram) Count() uint64 { return h.count }

// Max is the longest duration, exactly; 0 when there is none.
func (h *Histogram) Max() time.Duration { return h.most }

// Quantile is the least duration that a share q of all are not above, within the
// width of its bucket and never below the truth; 0 when there is none.
func (h *Histogram) Quantile(q float64) time.Duration {
	rank := min(uint64(q*float64(h.count)), h.count)
	if float64(rank) < q*float64(h.count) || rank == 0 {
		rank++
	}
	seen := uint64(0)
	for i, n := range h.counts {
		if seen += n; n > 0 && seen >= rank {
			return min(time.Duration(lower(i+1)-1), h.most)
		}
	}
	return h.most
}

// Add counts all of another histogram's.
func (h *Histogram) Add(other *Histogram) {
	for i, n := range other.counts {
		h.counts[i] += n
	}
	h.count += other.count
	h.most = max(h.most, other.most)
}

// suffix ends the names of files with histograms.
const suffix = ".latency"

// Write writes the histogram to a new file in a folder, which it makes. name is
// for people; it may be used more than once.
func (h *Histogram) Write(folder, name string) (err error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(folder, name+"-*"+suffix)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriter(f)
	fmt.Fprintf(w, "max %d\n", int64(h.most))
	for i, n := range h.counts {
		if n > 0 {
			fmt.Fprintf(w, "%d %d\n", i, n)
		}
	}
	return w.Flush()
}

// ReadFolder adds up the histograms in a folder; one without any, or that is not
// there, gives an empty histogram.
func ReadFolder(folder string) (*Histogram, error) {
	sum := &Histogram{}
	files, err := filepath.Glob(filepath.Join(folder, "*"+suffix))
	if err != nil {
		return nil, err
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		h, err := parse(string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		sum.Add(h)
	}
	return sum, nil
}

func parse(text string) (*Histogram, error) {
	h := &Histogram{}
	r := strings.NewReader(text)
	if _, err := fmt.Fscanf(r, "max %d\n", &h.most); err != nil {
		return nil, fmt.Errorf("no histogram: %w", err)
	}
	for {
		var i int
		var n uint64
		switch _, err := fmt.Fscanf(r, "%d %d\n", &i, &n); {
		case errors.Is(err, io.EOF):
			return h, nil
		case err != nil:
			return nil, fmt.Errorf("damaged histogram: %w", err)
		case i < 0 || i >= buckets:
			return nil, fmt.Errorf("damaged histogram: bucket %d of %d", i, buckets)
		}
		h.counts[i] += n
		h.count += n
	}
}
