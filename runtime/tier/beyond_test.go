//go:build linux

package tier

import (
	"flag"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/runtime/keygroup"
	"github.com/millrace/millrace/runtime/state"
)

var beyondKeys = flag.Uint64("beyond-keys", 500_000, "keys of BenchmarkBeyondMemory, of 100 bytes each")

// BenchmarkBeyondMemory fills a store with an eighth of the memory that it would
// take, then updates it: keys of a hundredth, and any. It is to run alone in
// its process, with GOGC and GOMEMLIMIT as a worker has them:
//
//	GOMEMLIMIT=256MiB go test ./runtime/tier -run '^$' -bench BeyondMemory -benchtime 1x -beyond-keys 8000000
func BenchmarkBeyondMemory(b *testing.B) {
	for range b.N {
		beyond(b, *beyondKeys)
	}
}

func beyond(b *testing.B, keys uint64) {
	const entry = 128 // of one in the table, with its hash and its tag
	budget := int64(keys * entry / 8)
	d, err := Open(b.TempDir(), Options{Memory: budget / 8})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	s := state.NewStore(keygroup.RangeOf(0, 1, keygroup.Default))
	s.UseDisk(d, state.NewBudget(budget-budget/8))
	t, err := state.NewTable[uint64, [100]byte](s, "t")
	if err != nil {
		b.Fatal(err)
	}
	hash, err := keygroup.HasherOf[uint64]()
	if err != nil {
		b.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	var f *state.Frozen
	n := 0
	// perSecond is the rate of updates, with a barrier for each 100,000.
	perSecond := func(updates uint64, draw func(i uint64) uint64) float64 {
		begun := time.Now()
		var hashes, batch [512]uint64
		for i := range updates {
			at := int(i % 512)
			if at == 0 {
				for j := range batch {
					batch[j] = draw(i + uint64(j))
					hashes[j] = hash(&batch[j])
				}
			}
			if at%state.Stride == 0 {
				t.Ahead(hashes[:], at)
			}
			v, _ := t.Upsert(hashes[at], batch[at])
			v[0]++
			if n++; n%100_000 == 0 {
				if f != nil {
					f.Release()
				}
				f = s.Freeze(false)
			}
		}
		return float64(updates) / time.Since(begun).Seconds()
	}
	all := keys
	b.ReportMetric(perSecond(all, func(i uint64) uint64 { return i }), "inserts/s")
	hot := func(uint64) uint64 { return rng.Uint64N(all/100) * 97 }
	perSecond(all/20, hot)
	b.ReportMetric(perSecond(all/8, hot), "hot-updates/s")
	before := s.Stats()
	b.ReportMetric(perSecond(all/20, func(uint64) uint64 { return rng.Uint64N(all) }), "cold-updates/s")
	stats := s.Stats()
	b.ReportMetric(float64(stats.Read-before.Read)/float64(all/20), "reads/cold-update")
	b.ReportMetric(mebi(float64(stats.Bytes)), "MiB-memory")
	b.ReportMetric(mebi(float64(stats.Disk)), "MiB-disk")
	b.ReportMetric(mebi(float64(d.db.Metrics().DiskSpaceUsage())), "MiB-files")
	b.ReportMetric(mebi(procValue(b, "/proc/self/io", "wchar:")), "MiB-written")
	b.ReportMetric(procValue(b, "/proc/self/status", "VmHWM:")/1024, "MiB-rss-most")
	b.ReportMetric(0, "ns/op")
}

func mebi(n float64) float64 { return n / (1 << 20) }

// procValue reads the number behind a name.
func procValue(b *testing.B, file, name string) float64 {
	text, err := os.ReadFile(file)
	if err != nil {
		b.Fatal(err)
	}
	_, after, ok := strings.Cut(string(text), name)
	fields := strings.Fields(after)
	if !ok || len(fields) == 0 {
		b.Fatalf("%s has no %s", file, name)
	}
	n, err := strconv.ParseFloat(fields[0], 64)
	if err != nil {
		b.Fatal(err)
	}
	return n
}
