package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/sdk"
)

// TestTheArchiveHoldsEachFlightOnce compares the files with the input, day by
// day.
func TestTheArchiveHoldsEachFlightOnce(t *testing.T) {
	out := t.TempDir()
	if err := sdk.Run(t.Context(), build, "--output", out, "--gzip=false", "--every", "50ms"); err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{}
	input, err := os.ReadFile("../flights/flights.csv")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(input)), "\n")
	for _, line := range lines[1:] {
		day := "day=" + line[:len("2001-01-01")]
		want[day] = append(want[day], line)
	}
	got := map[string][]string{}
	parts, err := filepath.Glob(filepath.Join(out, "*", "part-*.csv"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range parts {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		part := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
		if part[0] != lines[0] {
			t.Errorf("%s begins with %q", path, part[0])
		}
		day := filepath.Base(filepath.Dir(path))
		got[day] = append(got[day], part[1:]...)
	}
	for _, days := range []map[string][]string{want, got} {
		for _, flights := range days {
			slices.Sort(flights)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("flights by day (-want +got):\n%s", diff)
	}
}
