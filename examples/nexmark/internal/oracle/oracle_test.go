package oracle

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// TestTheOracleGivesTheVectors compares it with what was published.
func TestTheOracleGivesTheVectors(t *testing.T) {
	f, err := os.Open("../../testdata/vectors.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var in *Input
	lines, inputs := 0, 0
	for s := bufio.NewScanner(f); s.Scan(); {
		if title, ok := strings.CutPrefix(s.Text(), "## "); ok {
			var seed uint64
			var rate, events int
			in = nil
			if n, _ := fmt.Sscanf(title, "results: seed %d, rate %d, N = %d", &seed, &rate, &events); n == 3 && (inputs == 0 || !testing.Short()) {
				inputs++
				in = New(seed, rate, events)
			}
			continue
		}
		if in == nil || s.Text() == "" {
			continue
		}
		lines++
		query, _, _ := strings.Cut(s.Text(), " ")
		if got := in.Line(query, 2*time.Second); got != s.Text() {
			t.Errorf("got  %s\nwant %s", got, s.Text())
		}
	}
	if lines != inputs*24 || lines == 0 {
		t.Errorf("%d results were compared", lines)
	}
}
