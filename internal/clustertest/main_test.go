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

// built are the packages of the binaries; each has the name of its folder.
var built = []string{
	"./cmd/millrace",
	"./examples/flights",
	"./examples/archive",
	"./examples/nexmark/cmd/nexmark",
	"./bench/reliability/accounts",
	"./internal/clustertest/testdata/misfit",
	"./internal/clustertest/testdata/nosdk",
	"./internal/clustertest/testdata/accounts/accounts1",
	"./internal/clustertest/testdata/accounts/accounts2",
	"./internal/clustertest/testdata/accounts/accounts3",
}

// atOnce is how many tests run at a time unless -parallel says otherwise: they
// wait for others more than they compute.
const atOnce = "4"

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
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	if !chosen {
		if err := flag.Set("test.parallel", atOnce); err != nil {
			panic(err)
		}
	}
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	var err error
	if binaries, err = os.MkdirTemp("", "clustertest-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(binaries)
	// One command for all: they have most of what is compiled in common.
	cmd := exec.Command("go", append([]string{"build", "-o", binaries + "/"}, built...)...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
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
