package generator

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"

	"github.com/millrace/millrace/examples/nexmark/event"
)

// section is the lines of the published vectors under a heading that begins so.
func section(t *testing.T, heading string) (lines []string) {
	t.Helper()
	f, err := os.Open("../testdata/vectors.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	in := false
	for s := bufio.NewScanner(f); s.Scan(); {
		switch text, title := strings.CutPrefix(s.Text(), "## "); {
		case title:
			in = strings.HasPrefix(text, heading)
		case in && text != "":
			lines = append(lines, text)
		}
	}
	if len(lines) == 0 {
		t.Fatalf("no vectors under %q", heading)
	}
	return lines
}

func TestLinesAreThoseOfTheVectors(t *testing.T) {
	g := New(1, 10000, NewChannels(1))
	for n, want := range section(t, "event lines: seed 1, rate 10000, n = 0 to 59") {
		var ev event.Event
		g.Make(&ev, uint64(n), g.Time(uint64(n)))
		if got := string(ev.AppendLine(nil)); got != want {
			t.Errorf("event %d:\ngot  %s\nwant %s", n, got, want)
		}
	}
}

func TestSumsOfLinesAreThoseOfTheVectors(t *testing.T) {
	for _, vector := range section(t, "event lines, XXH64") {
		var seed, count uint64
		var rate int
		var want string
		if _, err := fmt.Sscan(vector, &seed, &rate, &count, &want); err != nil {
			t.Fatal(err)
		}
		if testing.Short() && count > 100000 {
			continue
		}
		g, sum := New(seed, rate, NewChannels(seed)), xxhash.New()
		var ev event.Event
		var line []byte
		for n := range count {
			g.Make(&ev, n, g.Time(n))
			line = append(ev.AppendLine(line[:0]), '\n')
			sum.Write(line)
		}
		if got := fmt.Sprintf("%016x", sum.Sum64()); got != want {
			t.Errorf("%d events of seed %d, rate %d: %s, want %s", count, seed, rate, got, want)
		}
	}
}

// BenchmarkGenerator is what a reader of one split in 64 does.
func BenchmarkGenerator(b *testing.B) {
	g := New(1, 10000, NewChannels(1))
	events, times := make([]event.Event, 512), slices.Repeat([]int64{Base}, 512)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	n := uint64(0)
	for b.Loop() {
		g.MakeAll(events, times, n, Splits)
		n += Splits * uint64(len(events))
	}
	runtime.ReadMemStats(&after)
	made := float64(b.N * len(events))
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/made, "ns/event")
	b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/made, "B/event")
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/made, "allocs/event")
}
