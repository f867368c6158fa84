//go:build linux

package clustertest

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// binaries is the folder of what TestMain builds.
var binaries string

// built are the binaries, by name, and what each is built from.
var built = map[string]string{
	"millrace": "./cmd/millrace",
	"flights":  "./examples/flights",
	"archive":  "./examples/archive",
	"misfit":   "./internal/clustertest/testdata/misfit",
	"nosdk":    "./internal/clustertest/testdata/nosdk",

	"accounts1": "./internal/clustertest/testdata/accounts/v1",
	"accounts2": "./internal/clustertest/testdata/accounts/v2",
	"accounts3": "./internal/clustertest/testdata/accounts/v3",
}

const root = "../.."

func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() {
		// The race detector would see the harness only, not the processes.
		fmt.Println("clustertest starts real processes for minutes: left out with -short")
		os.Exit(0)
	}
	// For the store of outage_test.go, which asks for some.
	os.Setenv("AWS_ACCESS_KEY_ID", "test")
	os.Setenv("AWS_SECRET_ACCESS_KEY", "test-secret")
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	var err error
	if binaries, err = os.MkdirTemp("", "clustertest-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(binaries)
	for name, pkg := range built {
		cmd := exec.Command("go", "build", "-o", filepath.Join(binaries, name), pkg)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "go build %s: %v\n%s", pkg, err, out)
			return 1
		}
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

func binary(name string) string { return filepath.Join(binaries, name) }

// random is a source of choices that a failure of the test lets repeat.
func random(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("MILLRACE_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("MILLRACE_SEED: %v", err)
		}
		seed = n
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("repeat with MILLRACE_SEED=%d", seed)
		}
	})
	return rand.New(rand.NewPCG(seed, 0))
}

// moment lets a random time go by, up to 300 ms, but no more than until ready.
func moment(t *testing.T, rng *rand.Rand, ready <-chan string) {
	select {
	case <-time.After(time.Duration(rng.Int64N(int64(300 * time.Millisecond)))):
	case <-ready:
	case <-t.Context().Done():
	}
}
