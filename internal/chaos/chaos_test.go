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
	"time"

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

// TestTheLedgerBalances is the short form: fifteen faults drawn from all kinds,
// those of the bucket and of connections too.
func TestTheLedgerBalances(t *testing.T) {
	t.Parallel()
	report, err := Run(t.Context(), Config{Seed: seed(t), Binaries: binaries, Log: t.Logf, Faults: 15, S3: true, Proxy: true})
	check(t, report, err)
}

// TestTheOutputIsTheSame runs the same input through crashes at every checkpoint,
// other parallelism, other shards, another version of the job and the other backend.
func TestTheOutputIsTheSame(t *testing.T) {
	t.Parallel()
	var crashes []Step
	for range 6 {
		crashes = append(crashes, Step{Kind: FailpointKill, Points: "checkpoint.completed=kill@1"})
	}
	variants := []struct {
		name string
		cfg  Config
	}{
		{"uninterrupted", Config{}},
		{"crashed at every checkpoint", Config{Plan: crashes}},
		{"at another parallelism", Config{Plan: []Step{{Kind: Rescale, To: 2}, {Kind: Rescale, To: 3}, {Kind: Rescale, To: 1}}}},
		{"over shards that are split and merged", Config{Plan: []Step{
			{Kind: SplitShard}, {Kind: MergeShards}, {Kind: SplitShard}, {Kind: KillWorker}, {Kind: MergeShards}}}},
		{"in the other backend and back, by another version", Config{Ballast: 60_000, Plan: []Step{
			{Kind: Upgrade, To: 3, Run: []string{"-D", "state.backend.type=tiered", "-D", "state.memory=1mb"}}, {Kind: KillWorker}, {Kind: Upgrade, To: 4, Run: []string{}}}}},
	}
	digests := map[uint64]string{}
	for _, v := range variants {
		v.cfg.Seed, v.cfg.Binaries, v.cfg.Log, v.cfg.Entries, v.cfg.Rate = 11, binaries, t.Logf, 9000, 1500
		v.cfg.Settle = 100 * time.Millisecond
		report, err := Run(t.Context(), v.cfg)
		if err != nil {
			check(t, report, err)
		}
		t.Logf("%s: %+v", v.name, report.Ledger)
		digests[report.Ledger.Digest] = v.name
	}
	if len(digests) != 1 {
		t.Errorf("outputs differ: %v", digests)
	}
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
