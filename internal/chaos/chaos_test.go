//go:build linux

package chaos

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"testing"

	"go.uber.org/goleak"
)

var binaries Binaries

func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() {
		// The race detector would see the harness only, not the processes.
		fmt.Println("chaos starts real processes: left out with -short")
		os.Exit(0)
	}
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	folder, err := os.MkdirTemp("", "chaos-binaries-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(folder)
	if have := os.Getenv("MILLRACE_CHAOS_BINARIES"); have != "" {
		folder = have
	}
	if binaries, err = Build(context.Background(), "../..", folder); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

func seed(t *testing.T) uint64 {
	t.Helper()
	s := os.Getenv("MILLRACE_SEED")
	if s == "" {
		return 0
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatalf("MILLRACE_SEED: %v", err)
	}
	return n
}

func TestTheLedgerBalances(t *testing.T) {
	report, err := Run(t.Context(), Config{Seed: seed(t), Binaries: binaries, Log: t.Logf})
	check(t, report, err)
}

func check(t *testing.T, report *Report, err error) {
	t.Helper()
	if report != nil {
		report.Print(t.Output())
	}
	var f *Failure
	if errors.As(err, &f) {
		for name, text := range f.Logs {
			t.Logf("%s wrote last:\n%s", name, text[max(0, len(text)-4000):])
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}
